//! The protobuf wire format over borrowed bytes: what every message of a pprof is read with.
//!
//! A [`Reader`] never copies and never allocates; every length is checked against what is left before it is used. Group wire
//! types are errors: nothing that writes pprof has ever used them, and text sent by mistake usually reads as one.

/// Wire type of varints.
pub(crate) const VARINT: u64 = 0;
/// Wire type of length-delimited fields.
pub(crate) const BYTES: u64 = 2;
const FIXED_64: u64 = 1;
const FIXED_32: u64 = 5;

/// Tag of a varint field.
pub(crate) const fn varint_tag(field: u64) -> u64 {
    field << 3 | VARINT
}

/// Tag of a length-delimited field.
pub(crate) const fn bytes_tag(field: u64) -> u64 {
    field << 3 | BYTES
}

/// Why bytes are no protobuf message; offsets count from the start of the inflated profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("message ends inside a field, at byte {at}")]
    Truncated { at: usize },
    #[error("varint of more than 64 bits at byte {at}")]
    Overflow { at: usize },
    #[error("field number 0 at byte {at}")]
    FieldZero { at: usize },
    #[error("wire type {wire_type} of field {field} at byte {at}")]
    WireType { field: u64, wire_type: u64, at: usize },
}

/// What is left of one message.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Offset of the message's end within the whole.
    end: usize,
}

impl<'a> Reader<'a> {
    /// Reads the whole from `at` on.
    pub(crate) fn new(whole: &'a [u8], at: usize) -> Self {
        Self { rest: &whole[at..], end: whole.len() }
    }

    /// Offset of the next byte within the whole.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes left.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a call for each field costs the decoder a tenth")]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                Ok(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            // The reader goes by value into what is not inlined: it stays in registers.
            _ => {
                let (value, rest) = long_varint(self.rest).map_err(|e| e.at(self.at()))?;
                self.rest = rest;
                Ok(value)
            }
        }
    }

    /// The message of a length-delimited field.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a call for each field costs the decoder a tenth")]
    pub(crate) fn message(&mut self) -> Result<Reader<'a>, WireError> {
        let len = self.varint()?;
        if len > self.rest.len() as u64 {
            return Err(WireError::Truncated { at: self.at() });
        }
        let (inner, rest) = self.rest.split_at(len as usize);
        self.rest = rest;
        Ok(Reader { rest: inner, end: self.end - rest.len() })
    }

    /// Whether a field with this tag, of one byte, follows; then its tag is read.
    ///
    /// Asked in the order in which writers write: branches learn that better than a jump table.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a call for each field costs the decoder a tenth")]
    pub(crate) fn take(&mut self, tag: u64) -> bool {
        match *self.rest {
            [first, ref rest @ ..] if u64::from(first) == tag => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// What follows a field whose number means nothing here; its tag is not read yet. See [`Self::skip`].
    #[cold]
    #[inline(never)]
    pub(crate) fn skipped(mut self, known: &[u64]) -> Result<Self, WireError> {
        let tag = self.varint()?;
        self.skip(tag, known)?;
        Ok(self)
    }

    /// Skips a field whose number means nothing here. `known` fields are refused: their wire type was wrong.
    #[cold]
    pub(crate) fn skip(&mut self, tag: u64, known: &[u64]) -> Result<(), WireError> {
        let (field, wire_type, at) = (tag >> 3, tag & 7, self.at());
        if field == 0 {
            return Err(WireError::FieldZero { at });
        }
        if known.contains(&field) {
            return Err(WireError::WireType { field, wire_type, at });
        }
        match wire_type {
            VARINT => self.varint().map(|_| ()),
            BYTES => self.message().map(|_| ()),
            FIXED_64 => self.advance(8),
            FIXED_32 => self.advance(4),
            _ => Err(WireError::WireType { field, wire_type, at }),
        }
    }

    fn advance(&mut self, count: usize) -> Result<(), WireError> {
        let at = self.at();
        self.rest = self.rest.get(count..).ok_or(WireError::Truncated { at })?;
        Ok(())
    }
}

/// A [`WireError`] of a varint that does not know its offset yet.
#[derive(Clone, Copy)]
enum NoVarint {
    Truncated,
    Overflow,
}

impl NoVarint {
    #[cold]
    fn at(self, at: usize) -> WireError {
        match self {
            Self::Truncated => WireError::Truncated { at },
            Self::Overflow => WireError::Overflow { at },
        }
    }
}

/// The high bit of each byte: set in all bytes of a varint but its last.
const CONTINUES: u64 = 0x8080_8080_8080_8080;

/// Reads all varints of a range of the whole. What follows the range may be looked at but decides nothing.
#[inline]
pub(crate) fn varints_of(
    whole: &[u8],
    packed: Reader<'_>,
    mut take: impl FnMut(u64),
) -> Result<(), WireError> {
    let Reader { end, .. } = packed;
    let mut at = packed.at();
    while at < end {
        let (value, rest) = match whole[at] {
            byte if byte < 0x80 => (u64::from(byte), &whole[at + 1..]),
            _ => long_varint(&whole[at..]).map_err(|e| e.at(at))?,
        };
        at = whole.len() - rest.len();
        take(value);
    }
    if at == end { Ok(()) } else { Err(WireError::Truncated { at: end }) }
}

/// A varint of any length and what follows it. Addresses and byte counts take 3 to 6 bytes; up to 8 are put together from one
/// word.
#[inline]
fn long_varint(bytes: &[u8]) -> Result<(u64, &[u8]), NoVarint> {
    if let Some(&word) = bytes.first_chunk() {
        let word = u64::from_le_bytes(word);
        let ends = !word & CONTINUES;
        if ends != 0 {
            // All bits up to the one that ends the varint.
            let word = word & (ends ^ (ends - 1)) & !CONTINUES;
            let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
            let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
            let word = (word & 0x0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4;
            return Ok((word, &bytes[ends.trailing_zeros() as usize / 8 + 1..]));
        }
    }
    varint_by_bytes(bytes)
}

/// The same byte by byte: at the end of a message, and of 9 or 10 bytes.
#[inline(never)]
fn varint_by_bytes(bytes: &[u8]) -> Result<(u64, &[u8]), NoVarint> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            if i == 9 && byte > 1 {
                return Err(NoVarint::Overflow);
            }
            return Ok((value, &bytes[i + 1..]));
        }
    }
    Err(if bytes.len() < 10 { NoVarint::Truncated } else { NoVarint::Overflow })
}

/// Reads packed varints and appends them; `end` is where they end within the whole. `narrow` makes 32 bits of a number; those
/// of one or two bytes it must leave as they are.
///
/// Eight of one byte at a time, else one by one. Taking a word of one- and two-byte numbers apart without branches gains
/// nothing on SSE2, and 20 % with SSSE3, of a tenth of decoding (measured; not worth the `unsafe`).
#[inline]
pub(crate) fn packed_numbers(
    mut bytes: &[u8],
    end: usize,
    numbers: &mut Vec<u32>,
    mut narrow: impl FnMut(u64) -> u32,
) -> Result<(), WireError> {
    loop {
        while let Some((&word, rest)) = bytes.split_first_chunk::<8>()
            && u64::from_le_bytes(word) & CONTINUES == 0
        {
            numbers.extend_from_slice(&word.map(u32::from));
            bytes = rest;
        }
        match *bytes {
            [] => return Ok(()),
            [a, ref rest @ ..] if a < 0x80 => {
                numbers.push(u32::from(a));
                bytes = rest;
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                numbers.push(u32::from(a & 0x7f) | u32::from(b) << 7);
                bytes = rest;
            }
            _ => {
                let (number, rest) = long_varint(bytes).map_err(|e| e.at(end - bytes.len()))?;
                numbers.push(narrow(number));
                bytes = rest;
            }
        }
    }
}

/// The sum of eight bytes that are 0 or 1.
fn ones_in_bytes(bits: u64) -> usize {
    (bits.wrapping_mul(0x0101_0101_0101_0101) >> 56) as usize
}

/// How many bytes, and numbers, two runs of packed varints have in common at their ends.
///
/// Stacks are written leaf first, so that of consecutive ones the root's side is often the same bytes: half of all location ids,
/// 97 % of node's. Short of the start by up to seven bytes; whole numbers only.
pub(crate) fn common_tail(a: &[u8], b: &[u8]) -> (usize, usize) {
    let (mut bytes, mut numbers) = (0, 0);
    let mut words = a.rchunks_exact(8).zip(b.rchunks_exact(8)).map(|(a, b)| {
        let word = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("a chunk of eight"));
        (word(a), word(b))
    });
    let differing = words.find(|(a, b)| {
        let same = a == b;
        if same {
            bytes += 8;
            numbers += 8 - ones_in_bytes((a & CONTINUES) >> 7);
        }
        !same
    });
    if let Some((a, b)) = differing {
        let same = (a ^ b).leading_zeros() as usize / 8;
        if same > 0 {
            bytes += same;
            numbers += same - ones_in_bytes(((a & CONTINUES) >> 7) >> (8 * (8 - same)));
        }
    }
    // What lies before the tail must end a number in both.
    let ends = |run: &[u8], bytes: usize| run.len() == bytes || run[run.len() - bytes - 1] < 0x80;
    while bytes > 0 && !(ends(a, bytes) && ends(b, bytes)) {
        numbers -= usize::from(a[a.len() - bytes] < 0x80);
        bytes -= 1;
    }
    (bytes, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length_read_back() {
        for shift in 0..64 {
            let value = u64::MAX >> shift;
            let mut bytes = Vec::new();
            let mut left = value;
            while left >= 0x80 {
                bytes.push((left & 0x7f | 0x80) as u8);
                left >>= 7;
            }
            bytes.push(left as u8);
            assert_eq!(Reader::new(&bytes, 0).varint(), Ok(value));
            bytes.pop();
            assert!(matches!(Reader::new(&bytes, 0).varint(), Err(WireError::Truncated { .. })));
        }
    }

    #[test]
    fn a_varint_of_eleven_bytes_is_an_error() {
        let at = 0;
        assert_eq!(Reader::new(&[0xff; 11], 0).varint(), Err(WireError::Overflow { at }));
    }

    #[test]
    fn a_length_beyond_the_message_is_an_error() {
        assert!(Reader::new(&[5, 1, 2], 0).message().is_err());
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(Reader::new(&huge, 0).message().is_err());
    }

    fn one_by_one(bytes: &[u8]) -> Result<Vec<u32>, WireError> {
        let (mut reader, mut numbers) = (Reader::new(bytes, 0), Vec::new());
        while !reader.is_empty() {
            numbers.push(reader.varint()? as u32);
        }
        Ok(numbers)
    }

    fn packed(bytes: &[u8]) -> Result<Vec<u32>, WireError> {
        let mut numbers = Vec::new();
        packed_numbers(bytes, bytes.len(), &mut numbers, |n| n as u32)?;
        Ok(numbers)
    }

    /// Short varints mostly, as location ids are.
    fn mostly_short(bytes: &[(bool, u8)]) -> Vec<u8> {
        bytes.iter().map(|&(long, b)| if long { b } else { b & 0x7f }).collect()
    }

    #[test]
    fn packed_numbers_are_what_is_read_one_by_one() {
        bolero::check!().with_type::<Vec<(bool, u8)>>().for_each(|bytes| {
            let bytes = mostly_short(bytes);
            match one_by_one(&bytes) {
                Ok(expected) => assert_eq!(packed(&bytes).unwrap(), expected),
                Err(_) => assert!(packed(&bytes).is_err()),
            }
        });
    }

    #[test]
    fn packed_numbers_of_one_and_two_bytes_in_any_order_read_back() {
        for pattern in 0..1_u32 << 12 {
            for count in [1, 3, 4, 7, 12] {
                let two = |i: u32| pattern >> i & 1 == 1;
                let bytes: Vec<u8> = (0..count)
                    .flat_map(|i| if two(i) { vec![0x80 | i as u8, 3] } else { vec![i as u8] })
                    .collect();
                let expected: Vec<u32> =
                    (0..count).map(|i| if two(i) { i | 3 << 7 } else { i }).collect();
                assert_eq!(packed(&bytes).unwrap(), expected);
                assert!(packed(&[&bytes[..], &[0x80]].concat()).is_err());
            }
        }
    }

    #[test]
    fn a_common_tail_holds_the_same_whole_numbers() {
        bolero::check!()
            .with_type::<(Vec<(bool, u8)>, Vec<(bool, u8)>, Vec<(bool, u8)>)>()
            .for_each(|(a, b, tail)| {
                let run = |start: &Vec<_>| mostly_short(&[&start[..], &tail[..]].concat());
                let (a, b) = (run(a), run(b));
                let (Ok(of_a), Ok(of_b)) = (one_by_one(&a), one_by_one(&b)) else { return };
                let (bytes, numbers) = common_tail(&a, &b);
                assert!(bytes + 7 >= tail.len().min(a.len()).saturating_sub(9), "{bytes} bytes");
                assert_eq!(one_by_one(&a[a.len() - bytes..]).unwrap().len(), numbers);
                assert!(of_a.ends_with(&of_b[of_b.len() - numbers..]));
                assert_eq!(one_by_one(&a[..a.len() - bytes]).unwrap().len(), of_a.len() - numbers);
            });
    }

    #[test]
    fn groups_and_field_zero_are_errors() {
        let skipped = |bytes: &[u8], known: &[u64]| {
            Reader::new(bytes, 0).skipped(known).map(|rest| rest.rest.len())
        };
        assert!(skipped(&[9 << 3 | 3], &[]).is_err());
        assert!(skipped(&[9 << 3 | 4], &[]).is_err());
        assert!(skipped(&[0, 0], &[]).is_err());
        assert!(skipped(&[], &[]).is_err());
        assert_eq!(skipped(&[9 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 7], &[]), Ok(1));
        assert_eq!(skipped(&[9 << 3 | 5, 0, 0, 0, 0, 7], &[]), Ok(1));
        assert_eq!(skipped(&[9 << 3 | 2, 1, 0, 7], &[]), Ok(1));
        assert!(skipped(&[9 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0], &[9]).is_err());
    }
}
