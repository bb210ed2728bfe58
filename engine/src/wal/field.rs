//! Fields of a record's body: fixed-width little-endian words, varints, texts; and the cursor that reads them back.
//!
//! Every read is checked against what is left; a length is never believed before that.

use super::RecordError;
pub(super) use crate::varint::{len as varint_len, put as put_varint};

/// Longest varint of a `u64`, bytes.
const VARINT_BYTES_MAX: usize = 10;

/// Appends a text: varint of its bytes, then the bytes.
pub(super) fn put_text(into: &mut Vec<u8>, text: &str) {
    put_varint(into, text.len() as u64);
    into.extend_from_slice(text.as_bytes());
}

/// Bytes [`put_text`] appends.
pub(super) fn text_len(text: &str) -> usize {
    varint_len(text.len() as u64) + text.len()
}

/// Reads fields from the front of a record's body.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// Offset of the next field in the body.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.body.len() - self.at
    }

    fn short(&self, field: &'static str) -> RecordError {
        RecordError::Short { field, at: self.at, left: self.left() }
    }

    pub(super) fn take(
        &mut self,
        len: usize,
        field: &'static str,
    ) -> Result<&'a [u8], RecordError> {
        if len > self.left() {
            return Err(self.short(field));
        }
        let bytes = &self.body[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], RecordError> {
        let bytes = self.take(N, field)?;
        Ok(bytes.try_into().expect("take() gave N bytes"))
    }

    pub(super) fn varint(&mut self, field: &'static str) -> Result<u64, RecordError> {
        let mut value = 0u64;
        for (i, &byte) in self.body[self.at..].iter().take(VARINT_BYTES_MAX).enumerate() {
            let low = u64::from(byte & 0x7f);
            if i == VARINT_BYTES_MAX - 1 && low > 1 {
                return Err(RecordError::Varint { field, at: self.at });
            }
            value |= low << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        if self.left() < VARINT_BYTES_MAX {
            return Err(self.short(field));
        }
        Err(RecordError::Varint { field, at: self.at })
    }

    pub(super) fn varint_u32(&mut self, field: &'static str) -> Result<u32, RecordError> {
        let at = self.at;
        u32::try_from(self.varint(field)?).map_err(|_| RecordError::Varint { field, at })
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, RecordError> {
        let len = self.varint(field)?;
        let at = self.at;
        let len = usize::try_from(len).map_err(|_| self.short(field))?;
        std::str::from_utf8(self.take(len, field)?).map_err(|_| RecordError::Utf8 { field, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_read_back_and_know_their_length() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1, u64::MAX] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(bytes.len(), varint_len(value), "{value}");
                assert_eq!(Cursor::new(&bytes).varint("v").unwrap(), value);
            }
        }
    }

    #[test]
    fn a_varint_that_overflows_or_never_ends_is_refused() {
        assert!(Cursor::new(&[0xff; 10]).varint("v").is_err());
        assert!(Cursor::new(&[0xff; 3]).varint("v").is_err());
        let mut too_wide = [0x80; 10];
        too_wide[9] = 2; // bit 64
        assert!(Cursor::new(&too_wide).varint("v").is_err());
    }
}
