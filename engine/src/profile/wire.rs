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

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match *self.rest {
            [a, ..] if a < 0x80 => {
                self.rest = &self.rest[1..];
                Ok(u64::from(a))
            }
            [a, b, ..] if b < 0x80 => {
                self.rest = &self.rest[2..];
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.varint_of_many_bytes(),
        }
    }

    #[inline(never)]
    fn varint_of_many_bytes(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                if i == 9 && byte > 1 {
                    break;
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        let at = self.at();
        Err(if self.rest.len() < 10 {
            WireError::Truncated { at }
        } else {
            WireError::Overflow { at }
        })
    }

    /// The message of a length-delimited field.
    #[inline]
    pub(crate) fn message(&mut self) -> Result<Reader<'a>, WireError> {
        let at = self.at();
        let len = self.varint()?;
        match usize::try_from(len) {
            Ok(len) if len <= self.rest.len() => {
                let (inner, rest) = self.rest.split_at(len);
                self.rest = rest;
                Ok(Reader { rest: inner, end: self.end - rest.len() })
            }
            _ => Err(WireError::Truncated { at }),
        }
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

    #[test]
    fn groups_and_field_zero_are_errors() {
        assert!(Reader::new(&[], 0).skip(9 << 3 | 3, &[]).is_err());
        assert!(Reader::new(&[], 0).skip(9 << 3 | 4, &[]).is_err());
        assert!(Reader::new(&[0], 0).skip(0, &[]).is_err());
        assert!(Reader::new(&[0; 8], 0).skip(9 << 3 | 1, &[]).is_ok());
        assert!(Reader::new(&[0; 8], 0).skip(9 << 3 | 1, &[9]).is_err());
    }
}
