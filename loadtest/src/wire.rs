//! Protobuf fields written by hand: what differs from push to push is a few bytes behind a message made ahead.

/// Appends a number, seven bits a byte.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`varint`] takes.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a field that is a number.
pub fn number_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

/// Appends a field that is bytes, a text or a message.
pub fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    bytes_field_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends what stands in front of `len` bytes of a field.
pub fn bytes_field_head(out: &mut Vec<u8>, field: u8, len: usize) {
    assert!(field < 16, "a field of one byte, not {field}");
    out.push(field << 3 | 2);
    varint(out, len as u64);
}

/// Appends a repeated number, packed.
pub fn packed_field(out: &mut Vec<u8>, field: u8, values: impl Iterator<Item = u64> + Clone) {
    bytes_field_head(out, field, values.clone().map(varint_len).sum());
    for value in values {
        varint(out, value);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::pprof::Sample;

    use super::*;

    #[test]
    fn what_is_written_is_what_prost_reads() {
        let ids = [1, 127, 128, 16_383, 16_384, u64::MAX];
        let mut out = Vec::new();
        packed_field(&mut out, 1, ids.iter().copied());
        packed_field(&mut out, 2, [5].into_iter());
        let sample = Sample::decode(out.as_slice()).unwrap();
        assert_eq!(sample.location_id, ids);
        assert_eq!(sample.value, [5]);
    }
}
