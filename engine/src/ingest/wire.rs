//! Just enough of protobuf's wire format to rewrite a pprof without decoding what stays as it is.

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

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes the next field off `rest`; `None` at the end of the message.
pub(super) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<Field<'a>>, Malformed> {
    let message = *rest;
    if message.is_empty() {
        return Ok(None);
    }
    let key = varint(rest)?;
    let value = match key & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let len = varint(rest)?;
            Value::Bytes(take(rest, usize::try_from(len).map_err(|_| Malformed)?)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return Err(Malformed),
    };
    Ok(Some(Field { number: key >> 3, value, raw: &message[..message.len() - rest.len()] }))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (taken, behind) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = behind;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint field; zero is a field's default and is left out.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_varint(out, number << 3);
        put_varint(out, value);
    }
}

/// Appends a length-delimited field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
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
            assert_eq!(next_field(&mut &*message), Err(Malformed), "{message:?}");
        }
        assert_eq!(
            next_field(
                &mut &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..]
            ),
            Err(Malformed)
        );
    }
}
