//! Protobuf field by field, to rewrite a pprof without decoding what stays as it is, and to write one.

use crate::profile::wire::{self, Reader, WireError};
use crate::varint;

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Field number.
    pub number: u64,
    /// What it holds.
    pub value: Value<'a>,
    /// Key and value as they were read.
    pub raw: &'a [u8],
}

/// Content of a field by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5.
    Fixed,
}

/// Takes the next field off `rest`; `None` at the end of the message.
pub(super) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<Field<'a>>, WireError> {
    let message = *rest;
    if message.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(message, 0);
    let tag = reader.varint()?;
    let value = match tag & 7 {
        wire::VARINT => Value::Varint(reader.varint()?),
        wire::BYTES => Value::Bytes(reader.message()?.rest()),
        _ => reader.skip(tag, &[]).map(|()| Value::Fixed)?,
    };
    *rest = reader.rest();
    Ok(Some(Field { number: tag >> 3, value, raw: &message[..reader.at()] }))
}

/// Appends a varint field; zero is a field's default and is left out.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        varint::put(out, wire::varint_tag(number));
        varint::put(out, value);
    }
}

/// Appends a length-delimited field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint::put(out, wire::bytes_tag(number));
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_back() {
        let mut message = Vec::new();
        put_number(&mut message, 1, u64::MAX);
        put_number(&mut message, 2, 0);
        put_bytes(&mut message, 300, b"abc");
        let mut rest = message.as_slice();
        let first = next_field(&mut rest).unwrap().unwrap();
        assert_eq!((first.number, first.value), (1, Value::Varint(u64::MAX)));
        let second = next_field(&mut rest).unwrap().unwrap();
        assert_eq!((second.number, second.value), (300, Value::Bytes(b"abc")));
        assert_eq!([first.raw, second.raw].concat(), message);
        assert_eq!(next_field(&mut rest), Ok(None));
    }

    #[test]
    fn lengths_beyond_the_end_are_malformed() {
        for message in [
            &b"\x0a\x05abcd"[..],
            b"\x08",
            b"\x08\x80",
            b"\x09abcdefg",
            b"\x0b",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(next_field(&mut &*message).is_err(), "{message:?}");
        }
        let too_long = [[0x08].as_slice(), &[0xff; 10], &[1]].concat();
        assert!(next_field(&mut too_long.as_slice()).is_err());
    }
}
