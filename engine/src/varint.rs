//! Unsigned LEB128, as protobuf, the log and the chunks of a head write numbers: seven bits a byte, the lowest first.
//!
//! Only writing is shared. Readers differ in what they may trust: bytes from outside (`profile::wire`), a record that was
//! checked (`wal`), a chunk of this process (`head`).

/// Appends a number, 1 to 10 bytes.
#[inline]
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Bytes [`put`] appends.
pub(crate) fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
