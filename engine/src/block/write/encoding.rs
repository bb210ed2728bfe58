//! Values of a page as bytes: Parquet's encodings, laid out so that zstd finds what repeats.
//!
//! Parquet's own writers pack numbers to the bit. That is smallest before compression and largest after it: the same numbers look
//! different at each place. Here widths are whole bytes, which the format allows, and a reader of anybody's decodes:
//!
//! ```text
//! stacks of a profile   3, 4, 9, 17, 18     packed to the bit: 0.97 B a stack of the corpus behind zstd
//!           deltas         1, 5,  8,  1     in whole bytes:    0.60 B
//! ```
//! Not here: when a page is full ([`super::column`]), reading ([`super::super::decode`]).

/// Numbers of a block of `DELTA_BINARY_PACKED`: between two blocks stand their widths, which break what repeats.
const DELTA_BLOCK: usize = 1024;

/// Numbers that share a width; the least that Parquet allows.
const DELTA_MINI: usize = 32;

/// Width of the physical type of a column's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// `INT32`.
    Bits32,
    /// `INT64`.
    Bits64,
}

impl Width {
    /// The number as the physical type has it, as a signed one.
    fn signed(self, value: u64) -> i64 {
        match self {
            Self::Bits32 => i64::from((value as u32).cast_signed()),
            Self::Bits64 => value.cast_signed(),
        }
    }

    /// What is kept of a difference, which may wrap around.
    fn mask(self) -> u64 {
        match self {
            Self::Bits32 => u64::from(u32::MAX),
            Self::Bits64 => u64::MAX,
        }
    }
}

/// `PLAIN` numbers.
pub(super) fn plain_numbers(
    values: impl ExactSizeIterator<Item = u64>,
    width: Width,
    out: &mut Vec<u8>,
) {
    match width {
        Width::Bits32 => narrow::<4>(values, out),
        Width::Bits64 => narrow::<8>(values, out),
    }
}

/// `PLAIN` texts.
pub(super) fn plain_texts<'a>(texts: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for text in texts {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text);
    }
}

/// `RLE_DICTIONARY`: numbers of entries, in one run of whole bytes.
pub(super) fn indexes(numbers: impl ExactSizeIterator<Item = u32>, bytes: u8, out: &mut Vec<u8>) {
    let groups = numbers.len().div_ceil(8);
    let padding = groups * 8 - numbers.len();
    out.push(bytes * 8);
    varint((groups as u64) << 1 | 1, out);
    pack(numbers.map(u64::from), bytes, out);
    out.resize(out.len() + padding * usize::from(bytes), 0);
}

/// Which rows have a value, as definition levels of 0 and 1.
pub(super) fn levels(present: &[bool], out: &mut Vec<u8>) {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    varint((present.len().div_ceil(8) as u64) << 1 | 1, out);
    for group in present.chunks(8) {
        out.push(group.iter().rev().fold(0, |byte, present| byte << 1 | u8::from(*present)));
    }
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

/// `DELTA_BYTE_ARRAY`: of each text the length that it shares with the one before, then what is behind that.
pub(in crate::block) fn prefixes<'a>(texts: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let (mut shared, mut lengths, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut before: &[u8] = &[];
    for text in texts {
        let same = before.iter().zip(text).take_while(|(a, b)| a == b).count();
        shared.push(same as u64);
        lengths.push((text.len() - same) as u64);
        rest.extend_from_slice(&text[same..]);
        before = text;
    }
    delta(&shared, Width::Bits32, out);
    delta(&lengths, Width::Bits32, out);
    out.append(&mut rest);
}

/// `DELTA_BINARY_PACKED`, in whole bytes.
///
/// Where numbers fall now and then (stacks, from one profile to the next), a difference below zero wraps around and makes its
/// 32 numbers wide; where they fall often (callers, lines), all of a block are counted from the least number of its width.
/// Whichever takes fewer bytes is written.
pub(super) fn delta(values: &[u64], width: Width, out: &mut Vec<u8>) {
    varint(DELTA_BLOCK as u64, out);
    varint((DELTA_BLOCK / DELTA_MINI) as u64, out);
    varint(values.len() as u64, out);
    varint(zigzag(width.signed(values.first().copied().unwrap_or(0))), out);
    let mut deltas = [0; DELTA_BLOCK];
    let mut at = 1;
    while at < values.len() {
        let count = DELTA_BLOCK.min(values.len() - at);
        let pairs = values[at - 1..].iter().zip(&values[at..at + count]);
        for (delta, (before, value)) in deltas.iter_mut().zip(pairs) {
            *delta = value.wrapping_sub(*before) & width.mask();
        }
        deltas[count..].fill(0);
        delta_block(&mut deltas, count, width, out);
        at += count;
    }
}

fn delta_block(deltas: &mut [u64; DELTA_BLOCK], count: usize, width: Width, out: &mut Vec<u8>) {
    let minis = count.div_ceil(DELTA_MINI);
    let bytes_of = |all: u64| (u64::BITS - all.leading_zeros()).div_ceil(8) as u8;
    let mut widths = [0; DELTA_BLOCK / DELTA_MINI];
    for (width, mini) in widths.iter_mut().zip(deltas.chunks(DELTA_MINI)).take(minis) {
        *width = bytes_of(mini.iter().fold(0, |all, delta| all | delta));
    }
    let mut least = 0_i64;
    let used = &deltas[..count];
    if used.iter().any(|delta| width.signed(*delta) < 0) {
        // A number and its complement need as many bits beside the sign.
        let all = used.iter().fold(0, |all, delta| {
            let delta = width.signed(*delta);
            all | (delta ^ (delta >> 63)).cast_unsigned()
        });
        let bytes = bytes_of(all << 1 | 1).max(bytes_of(all));
        let wrapped: usize = widths.iter().map(|width| usize::from(*width)).sum();
        if usize::from(bytes) * minis <= wrapped {
            least = -1 << (u32::from(bytes) * 8 - 1);
            for delta in &mut deltas[..count] {
                *delta = delta.wrapping_sub(least.cast_unsigned()) & width.mask();
            }
            widths[..minis].fill(bytes);
        }
    }
    varint(zigzag(least), out);
    out.extend(widths.iter().map(|bytes| bytes * 8));
    for (bytes, mini) in widths.iter().zip(deltas.chunks(DELTA_MINI)).take(minis) {
        pack(mini.iter().copied(), *bytes, out);
    }
}

/// The low bytes of each number.
fn pack(numbers: impl ExactSizeIterator<Item = u64>, bytes: u8, out: &mut Vec<u8>) {
    match bytes {
        0 => {}
        1 => narrow::<1>(numbers, out),
        2 => narrow::<2>(numbers, out),
        3 => narrow::<3>(numbers, out),
        4 => narrow::<4>(numbers, out),
        5 => narrow::<5>(numbers, out),
        6 => narrow::<6>(numbers, out),
        7 => narrow::<7>(numbers, out),
        _ => narrow::<8>(numbers, out),
    }
}

fn narrow<const N: usize>(numbers: impl ExactSizeIterator<Item = u64>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + numbers.len() * N, 0);
    for (bytes, number) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes()[..N]);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(values: &[u64], width: Width) -> Vec<u8> {
        let mut out = Vec::new();
        delta(values, width, &mut out);
        out
    }

    #[test]
    fn numbers_that_rise_take_a_byte_each_and_one_fall_widens_its_mini_alone() {
        let mut values: Vec<u64> = (0..1025).map(|at| 1000 + at * 3).collect();
        let rising = written(&values, Width::Bits32);
        assert!(rising.len() < 1024 + 50, "{} bytes", rising.len());
        values[500..].iter_mut().for_each(|value| *value -= 600);
        let falling = written(&values, Width::Bits32);
        assert_eq!(falling.len(), rising.len() + 3 * DELTA_MINI);
    }

    #[test]
    fn numbers_that_often_fall_are_counted_from_the_least_of_their_width() {
        let values: Vec<u64> = (0..1025).map(|at| 1000 + at % 2 * 100).collect();
        let bytes = written(&values, Width::Bits32);
        assert!(bytes.len() < 1024 + 50, "{} bytes", bytes.len());
    }
}
