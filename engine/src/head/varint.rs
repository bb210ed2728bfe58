//! LEB128 varints of a chunk: written by this process, read by this process, so a short one is a broken invariant.

pub(super) use crate::varint::put as push;

/// Continuation bits of eight bytes.
const CONTINUES: u64 = 0x8080_8080_8080_8080;

/// Reads the number at `at` and moves behind it. Numbers of one and two bytes are told apart without a branch: among a row's
/// deltas their order is a coin toss, and a mispredicted branch costs more than the shifts (`bench/benches/head_read.rs`).
#[inline]
pub(super) fn read(bytes: &[u8], at: &mut usize) -> u64 {
    let Some(word) = bytes.get(*at..).and_then(|rest| rest.first_chunk::<8>()) else {
        return read_bytewise(bytes, at);
    };
    let word = u64::from_le_bytes(*word);
    if word & 0x8080 == 0x8080 {
        return read_long(word, bytes, at);
    }
    let second = word >> 7 & 1;
    *at += 1 + second as usize;
    (word & 0x7f) | (word >> 1 & 0x3f80 & second.wrapping_neg())
}

/// A number of three to eight bytes, without a branch on its length either.
#[inline]
fn read_long(word: u64, bytes: &[u8], at: &mut usize) -> u64 {
    let stops = !word & CONTINUES;
    if stops == 0 {
        return read_bytewise(bytes, at);
    }
    *at += (stops.trailing_zeros() as usize >> 3) + 1;
    let x = word & (stops ^ (stops - 1)) & !CONTINUES;
    // Close the gaps of the continuation bits: pairs of bytes, of 14-bit groups, of 28-bit groups.
    let x = (x & 0x007f_007f_007f_007f) | ((x & 0x7f00_7f00_7f00_7f00) >> 1);
    let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x3fff_0000_3fff_0000) >> 2);
    (x & 0x0000_0000_0fff_ffff) | ((x & 0x0fff_ffff_0000_0000) >> 4)
}

/// The end of the bytes, or a number of nine or ten.
#[cold]
fn read_bytewise(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of a chunk has at most ten bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_come_back_whatever_follows() {
        let mut numbers = vec![0, 1, u64::MAX];
        numbers.extend((0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) | 1]));
        for padding in [0, 3, 8] {
            let mut bytes = Vec::new();
            for number in &numbers {
                push(&mut bytes, *number);
            }
            let end = bytes.len();
            bytes.resize(end + padding, 0xff);
            let mut at = 0;
            for number in &numbers {
                assert_eq!(read(&bytes, &mut at), *number);
            }
            assert_eq!(at, end);
        }
    }
}
