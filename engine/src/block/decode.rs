//! Values of Parquet pages: the encodings that blocks are written in, and no others.
//!
//! Bytes that come here have the checksum that they had when they were written; still nothing in them is trusted: every length is
//! held against what is left, and nothing is allocated by a number that was not.

use super::schema::{Column, Kind};
use super::{PAGE_ROWS_LIMIT, PAGE_VALUES_BYTES_LIMIT, PageIndex};

/// In columns of ids: no value. Ids are smaller.
pub(crate) const NULL: u32 = u32::MAX;

const PLAIN: u8 = 0;
const DELTA_BINARY_PACKED: u8 = 5;
const DELTA_BYTE_ARRAY: u8 = 7;
const RLE_DICTIONARY: u8 = 8;

/// Zeros behind a page's values, so that numbers are read eight or sixteen bytes at a time.
const PADDING: usize = 16;

/// What is wrong with a page.
pub(super) type Bad = &'static str;

/// Texts of a column, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    /// A text; the bytes are not known to be UTF-8.
    pub(crate) fn get(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[at]]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }
}

/// Decoded values of a column; texts are numbers of [`Texts`].
#[derive(Debug)]
pub(super) enum Values {
    U32(Vec<u32>),
    I64(Vec<i64>),
}

impl Values {
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::U32 | Kind::Text => Self::U32(Vec::new()),
            Kind::I64 | Kind::U64 | Kind::Time => Self::I64(Vec::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::U32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    pub(super) fn drop_front(&mut self, count: usize) {
        match self {
            Self::U32(values) => drop(values.drain(..count)),
            Self::I64(values) => drop(values.drain(..count)),
        }
    }

    pub(super) fn bytes_held(&self) -> usize {
        match self {
            Self::U32(values) => values.capacity() * 4,
            Self::I64(values) => values.capacity() * 8,
        }
    }
}

/// What decoding pages needs, of any column: one for a table, whose columns take turns.
#[derive(Default)]
pub(super) struct Scratch {
    /// Made for the first page.
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    /// A page's values behind its header, and [`PADDING`] zeros.
    body: Vec<u8>,
    present: Vec<bool>,
    numbers: Vec<u64>,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("bytes_held", &self.bytes_held()).finish_non_exhaustive()
    }
}

impl Scratch {
    pub(super) fn bytes_held(&self) -> usize {
        self.body.capacity() + self.present.capacity() + self.numbers.capacity() * 8
    }

    /// Decompresses a page into the body.
    fn open(&mut self, page: &PageIndex, bytes: &[u8]) -> Result<(), Bad> {
        let length = page.values_bytes as usize;
        if length > PAGE_VALUES_BYTES_LIMIT || page.rows as usize > PAGE_ROWS_LIMIT {
            return Err("larger than any page");
        }
        let values = bytes.get(page.header_bytes as usize..).ok_or("shorter than its header")?;
        // Not cleared: what was there is written over, but for the padding.
        self.body.resize(length + PADDING, 0);
        let zstd = self.zstd.get_or_insert_with(|| {
            zstd::bulk::Decompressor::new().expect("a context needs memory and nothing else")
        });
        let written = zstd.decompress_to_buffer(values, &mut self.body[..length]);
        if written.ok() != Some(length) {
            return Err("not compressed as the index says");
        }
        self.body[length..].fill(0);
        Ok(())
    }
}

/// Opens pages of one column and appends their values.
#[derive(Debug)]
pub(super) struct PageDecoder {
    column: Column,
    dictionary: Values,
}

impl PageDecoder {
    pub(super) fn new(column: Column) -> Self {
        Self { column, dictionary: Values::of(column.kind) }
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.dictionary.bytes_held()
    }

    /// Goes on with the dictionary of another chunk.
    pub(super) fn dictionary(
        &mut self,
        page: &PageIndex,
        bytes: &[u8],
        scratch: &mut Scratch,
        texts: &mut Texts,
    ) -> Result<(), Bad> {
        scratch.open(page, bytes)?;
        let mut values = Values::of(self.column.kind);
        let body = &scratch.body[..page.values_bytes as usize];
        let used = plain(body, page.rows as usize, self.column.kind, texts, &mut values)?;
        if used != body.len() {
            return Err("bytes are left behind the dictionary");
        }
        self.dictionary = values;
        Ok(())
    }

    /// Forgets the dictionary: the chunk has none.
    pub(super) fn no_dictionary(&mut self) {
        self.dictionary = Values::of(self.column.kind);
    }

    /// Appends the values of a page's rows.
    pub(super) fn page(
        &self,
        page: &PageIndex,
        bytes: &[u8],
        scratch: &mut Scratch,
        texts: &mut Texts,
        into: &mut Values,
    ) -> Result<(), Bad> {
        scratch.open(page, bytes)?;
        let Scratch { body: opened, present, numbers, .. } = scratch;
        let rows = page.rows as usize;
        let mut body = &opened[..page.values_bytes as usize];
        let mut count = rows;
        if self.column.is_optional {
            let (levels, rest) = body.split_first_chunk::<4>().ok_or("no levels")?;
            let length = u32::from_le_bytes(*levels) as usize;
            let (levels, rest) = rest.split_at_checked(length).ok_or("levels are cut off")?;
            numbers.clear();
            hybrid(levels, 1, rows, numbers)?;
            present.clear();
            present.extend(numbers.iter().map(|level| *level == 1));
            count = present.iter().filter(|present| **present).count();
            body = rest;
        }
        let before = into.len();
        match page.encoding {
            DELTA_BINARY_PACKED if self.column.kind != Kind::Text => {
                // Padded: what is behind the body is zero up to the end of the buffer.
                let start = page.values_bytes as usize - body.len();
                let padded = &opened[start..];
                match into {
                    Values::U32(values) => {
                        values.reserve(count);
                        delta(padded, body.len(), count, |v| values.push(v as u32))?
                    }
                    Values::I64(values) => {
                        values.reserve(count);
                        delta(padded, body.len(), count, |v| values.push(v.cast_signed()))?
                    }
                };
            }
            PLAIN => {
                if plain(body, count, self.column.kind, texts, into)? != body.len() {
                    return Err("bytes are left behind the values");
                }
            }
            DELTA_BYTE_ARRAY if self.column.kind == Kind::Text => {
                prefixes(body, count, texts, into)?;
            }
            RLE_DICTIONARY => {
                let (width, indices) = body.split_first().ok_or("no bit width")?;
                numbers.clear();
                hybrid(indices, *width, count, numbers)?;
                match (&self.dictionary, &mut *into) {
                    (Values::U32(from), Values::U32(into)) => look_up(from, numbers, into)?,
                    (Values::I64(from), Values::I64(into)) => look_up(from, numbers, into)?,
                    _ => unreachable!("a dictionary has its column's kind"),
                }
            }
            _ => return Err("an encoding that its column does not have"),
        }
        if into.len() - before != count {
            return Err("fewer values than rows");
        }
        if self.column.is_optional {
            spread(present, before, into);
        }
        Ok(())
    }
}

/// Puts nulls where no value is present.
fn spread(present: &[bool], start: usize, into: &mut Values) {
    let Values::U32(values) = into else { unreachable!("optional columns are ids and texts") };
    let mut from = values.len();
    values.resize(start + present.len(), NULL);
    for (at, present) in present.iter().enumerate().rev() {
        let to = start + at;
        if *present {
            from -= 1;
            values[to] = values[from];
        } else {
            values[to] = NULL;
        }
    }
}

fn look_up<T: Copy>(dictionary: &[T], indices: &[u64], into: &mut Vec<T>) -> Result<(), Bad> {
    into.reserve(indices.len());
    for index in indices {
        let at = usize::try_from(*index).unwrap_or(usize::MAX);
        into.push(*dictionary.get(at).ok_or("a value that its dictionary does not have")?);
    }
    Ok(())
}

/// Plain values; gives the bytes used.
fn plain(
    body: &[u8],
    count: usize,
    kind: Kind,
    texts: &mut Texts,
    into: &mut Values,
) -> Result<usize, Bad> {
    let cut = "values are cut off";
    match (kind, into) {
        (Kind::Text, Values::U32(values)) => {
            let mut rest = body;
            for _ in 0..count {
                let (length, behind) = rest.split_first_chunk::<4>().ok_or(cut)?;
                let length = u32::from_le_bytes(*length) as usize;
                let (text, behind) = behind.split_at_checked(length).ok_or(cut)?;
                values.push(texts.len() as u32);
                texts.push(text);
                rest = behind;
            }
            Ok(body.len() - rest.len())
        }
        (_, Values::U32(values)) => {
            let bytes = body.get(..count * 4).ok_or(cut)?;
            values.extend(bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)));
            Ok(count * 4)
        }
        (_, Values::I64(values)) => {
            let bytes = body.get(..count * 8).ok_or(cut)?;
            values.extend(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)));
            Ok(count * 8)
        }
    }
}

/// Texts of which each has the length that it shares with the one before, and what is behind that.
/// Both are 32 bits wide and may have been reached by a difference that wraps around there.
fn prefixes(body: &[u8], count: usize, texts: &mut Texts, into: &mut Values) -> Result<(), Bad> {
    let Values::U32(into) = into else { unreachable!("texts are kept by number") };
    let mut padded = body.to_vec();
    padded.resize(body.len() + PADDING, 0);
    let (mut shared, mut lengths) = (Vec::new(), Vec::new());
    let used = delta(&padded, body.len(), count, |v| shared.push(v as u32 as usize))?;
    let rest = &padded[used..];
    let used = used + delta(rest, body.len() - used, count, |v| lengths.push(v as u32 as usize))?;
    let (mut rest, mut before, mut sum) = (&body[used..], Vec::new(), 0_usize);
    for (shared, length) in shared.into_iter().zip(lengths) {
        let (text, behind) = rest.split_at_checked(length).ok_or("texts are cut off")?;
        if shared > before.len() {
            return Err("a text shares more than there is");
        }
        before.truncate(shared);
        before.extend_from_slice(text);
        sum += before.len();
        if sum > PAGE_VALUES_BYTES_LIMIT {
            return Err("larger than any page");
        }
        into.push(texts.len() as u32);
        texts.push(&before);
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err("bytes are left behind the texts") }
}

/// Parquet's hybrid of runs and bit-packed groups of eight.
fn hybrid(bytes: &[u8], width: u8, count: usize, into: &mut Vec<u64>) -> Result<(), Bad> {
    let cut = "runs are cut off";
    if width > 32 {
        return Err("numbers of more than 32 bits");
    }
    let width_bytes = usize::from(width).div_ceil(8);
    let mut at = 0;
    while into.len() < count {
        let header = varint(bytes, &mut at).ok_or(cut)?;
        let run = usize::try_from(header >> 1).map_err(|_| cut)?;
        let left = count - into.len();
        if header & 1 == 0 {
            let value = bytes.get(at..at + width_bytes).ok_or(cut)?;
            at += width_bytes;
            let value = value.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            if run == 0 || run > left {
                return Err("a run of other length than its page");
            }
            into.resize(into.len() + run, value);
            continue;
        }
        let packed = run.checked_mul(usize::from(width)).ok_or(cut)?;
        let end = at.checked_add(packed).ok_or(cut)?;
        // The last group may be cut where no value is left.
        let groups = bytes.get(at..end.min(bytes.len())).ok_or(cut)?;
        let take = left.min(run.saturating_mul(8));
        if take == 0 || (take * usize::from(width)).div_ceil(8) > groups.len() {
            return Err(cut);
        }
        let mut padded;
        let groups = if groups.len() + at + PADDING <= bytes.len() {
            &bytes[at..]
        } else {
            padded = groups.to_vec();
            padded.resize(groups.len() + PADDING, 0);
            &padded[..]
        };
        match width {
            // What a writer of ours writes.
            8 => into.extend(groups[..take].iter().map(|byte| u64::from(*byte))),
            16 => {
                let (pairs, _) = groups[..take * 2].as_chunks::<2>();
                into.extend(pairs.iter().map(|pair| u64::from(u16::from_le_bytes(*pair))));
            }
            _ => into.extend((0..take).map(|at| unpack(groups, at * usize::from(width), width))),
        }
        at = end.min(bytes.len());
    }
    Ok(())
}

/// `DELTA_BINARY_PACKED`: `padded` has [`PADDING`] bytes behind its first `length`. Gives the bytes used.
fn delta(
    padded: &[u8],
    length: usize,
    count: usize,
    mut push: impl FnMut(u64),
) -> Result<usize, Bad> {
    let cut = "deltas are cut off";
    let (bytes, mut at) = (&padded[..length], 0);
    let next = |at: &mut usize| varint(bytes, at).ok_or(cut);
    let block = next(&mut at)?;
    let minis = next(&mut at)?;
    let total = next(&mut at)?;
    let first = next(&mut at)?;
    if !(1..=1 << 16).contains(&block) || minis == 0 || block % minis != 0 || minis > 512 {
        return Err("blocks of no legal size");
    }
    let (mini, minis) = ((block / minis) as usize, minis as usize);
    if !mini.is_multiple_of(32) || total != count as u64 {
        return Err("blocks of no legal size");
    }
    if count == 0 {
        return Ok(at);
    }
    let mut value = unzigzag(first);
    push(value);
    let mut left = count - 1;
    while left > 0 {
        let least = unzigzag(varint(bytes, &mut at).ok_or(cut)?);
        let widths = bytes.get(at..at + minis).ok_or(cut)?;
        at += minis;
        for width in widths {
            if left == 0 {
                break;
            }
            if *width > 64 {
                return Err("deltas of more than 64 bits");
            }
            let take = left.min(mini);
            left -= take;
            if *width == 0 {
                for _ in 0..take {
                    value = value.wrapping_add(least);
                    push(value);
                }
                continue;
            }
            let packed_bytes = mini * usize::from(*width) / 8;
            if at + (take * usize::from(*width)).div_ceil(8) > length {
                return Err(cut);
            }
            let packed = &padded[at..];
            if *width == 8 {
                for byte in &packed[..take] {
                    value = value.wrapping_add(least).wrapping_add(u64::from(*byte));
                    push(value);
                }
                at = (at + packed_bytes).min(length);
                continue;
            }
            for index in 0..take {
                let delta = unpack(packed, index * usize::from(*width), *width);
                value = value.wrapping_add(least).wrapping_add(delta);
                push(value);
            }
            at = (at + packed_bytes).min(length);
        }
    }
    Ok(at)
}

/// The number of `width` (1 to 64) bits at a bit; 16 bytes from its first are there.
#[inline]
fn unpack(bytes: &[u8], bit: usize, width: u8) -> u64 {
    if width == 0 {
        return 0;
    }
    let rest = &bytes[bit / 8..];
    let mask = u64::MAX >> (64 - width);
    let shift = (bit % 8) as u32;
    if width <= 56 {
        let word = rest.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        return word >> shift & mask;
    }
    let word = rest.first_chunk::<16>().map_or(0, |bytes| u128::from_le_bytes(*bytes));
    (word >> shift) as u64 & mask
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::super::write::encoding::prefixes as prefixes_of;
    use super::*;

    /// Any bytes are decoded or refused; the checksum is no excuse for a panic.
    #[test]
    fn no_bytes_make_a_decoder_panic() {
        bolero::check!().with_type::<(Vec<u8>, u8, u16)>().for_each(|(bytes, width, count)| {
            let count = usize::from(*count);
            let mut padded = bytes.clone();
            padded.resize(bytes.len() + PADDING, 0);
            let mut got = 0;
            if delta(&padded, bytes.len(), count, |_| got += 1).is_ok() {
                assert_eq!(got, count);
            }
            let mut numbers = Vec::new();
            if hybrid(bytes, *width, count, &mut numbers).is_ok() {
                assert_eq!(numbers.len(), count);
            }
            let mut texts = Texts::default();
            let mut values = Values::of(Kind::Text);
            if prefixes(bytes, count, &mut texts, &mut values).is_ok() {
                assert_eq!(values.len(), count);
            }
            for kind in [Kind::Text, Kind::U32, Kind::I64] {
                let mut values = Values::of(kind);
                if plain(bytes, count, kind, &mut texts, &mut values).is_ok() {
                    assert_eq!(values.len(), count);
                }
            }
        });
    }

    /// A length that falls by more than 128 among others that do not is written as a difference that wraps around at 32 bits. It was
    /// added up in 64, and every read of a block with such names was refused.
    #[test]
    fn texts_of_any_lengths_come_back() {
        let round = |written: &[Vec<u8>]| {
            let mut bytes = Vec::new();
            prefixes_of(written.iter().map(Vec::as_slice), &mut bytes);
            let (mut texts, mut values) = (Texts::default(), Values::of(Kind::Text));
            prefixes(&bytes, written.len(), &mut texts, &mut values).unwrap();
            let Values::U32(numbers) = values else { unreachable!() };
            let read: Vec<_> = numbers.iter().map(|number| texts.get(*number).to_vec()).collect();
            assert_eq!(read, written);
        };
        let length = |at: usize| if at == 50 { 300 } else { 10 };
        let texts: Vec<_> = (0..150).map(|at| vec![at as u8; length(at)]).collect();
        round(&texts);
        bolero::check!().with_type::<Vec<(u8, u16)>>().for_each(|shapes| {
            let texts: Vec<_> = shapes
                .iter()
                .map(|(byte, length)| vec![*byte; usize::from(*length % 600)])
                .collect();
            round(&texts);
        });
    }

    #[test]
    fn nulls_stand_between_the_values_that_are_there() {
        let mut values = Values::U32(vec![9, 1, 2]);
        spread(&[false, true, false, true, false], 1, &mut values);
        let Values::U32(values) = values else { unreachable!() };
        assert_eq!(values, [9, NULL, 1, NULL, 2, NULL]);
    }
}
