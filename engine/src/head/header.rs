//! The header of a row: how long its numbers are, then the numbers.
//!
//! ```text
//! control       2 bytes, little-endian: lengths of the six numbers behind it, from the lowest bits on
//!               2 bits each: 0, 1, 2 or 4 bytes;  then 3 bits each: 0 to 6 bytes, or 8
//! series        2  zigzag of the difference from the series after that of the row before (wrapping)
//! values_count  2  nothing where the nodes are those of the last row that had its own
//! nodes_bytes   2  the same
//! values_bytes  2  nothing where the values are those of the last row that had its own
//! total         3  the same; of the values divided by the multiplier
//! multiplier    3  less one
//! ```
//! The control word alone tells where the next header begins: a scan passes over rows that nobody wants by it, and the numbers
//! of those wanted do not wait for one another. Varints did: each begins where the one before ends (`bench/benches/head_read.rs`).

/// Bytes that are read at once: no header is longer.
const WINDOW: usize = 40;

const CONTROL_BYTES: usize = 2;

const _: () = assert!(CONTROL_BYTES + 4 * 4 + 2 * 8 <= WINDOW, "the longest header fits");

/// The numbers of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Header {
    /// What [`step_between`] gives.
    pub(super) series: u32,
    /// Number of values; 0 says that nodes are shared.
    pub(super) values_count: u32,
    pub(super) nodes_bytes: u32,
    /// 0 says that values are shared.
    pub(super) values_bytes: u32,
    pub(super) total: u64,
    /// At least 1.
    pub(super) multiplier: u64,
}

/// How a row's series is written behind a row of the series before `expected`.
pub(super) fn step_between(expected: u32, series: u32) -> u32 {
    let step = series.wrapping_sub(expected).cast_signed();
    ((step << 1) ^ (step >> 31)).cast_unsigned()
}

/// Inverse of [`step_between`].
#[inline]
pub(super) fn step_from(expected: u32, step: u32) -> u32 {
    expected.wrapping_add((step >> 1) ^ (step & 1).wrapping_neg())
}

impl Header {
    /// Appends it.
    pub(super) fn push(&self, into: &mut Vec<u8>) {
        let (mut bytes, mut control, mut end) = ([0; WINDOW], 0, CONTROL_BYTES);
        let short = [self.series, self.values_count, self.nodes_bytes, self.values_bytes];
        for (number, shift) in short.into_iter().zip([0, 2, 4, 6]) {
            let code = match number {
                0 => 0,
                1..=0xff => 1,
                0x100..=0xffff => 2,
                _ => 3,
            };
            control |= code << shift;
            bytes[end..end + 4].copy_from_slice(&number.to_le_bytes());
            end += SHORT_LENGTHS[usize::from(code)];
        }
        for (number, shift) in [(self.total, 8), (self.multiplier - 1, 11)] {
            let length = (u64::BITS - number.leading_zeros()).div_ceil(8);
            let code = length.min(7) as u16;
            control |= code << shift;
            bytes[end..end + 8].copy_from_slice(&number.to_le_bytes());
            end += long_length(code);
        }
        bytes[..CONTROL_BYTES].copy_from_slice(&control.to_le_bytes());
        into.extend_from_slice(&bytes[..end]);
    }

    /// Reads the header at `at` and moves behind it.
    #[inline]
    pub(super) fn read(rows: &[u8], at: &mut usize) -> Self {
        match rows.get(*at..).and_then(|rest| rest.first_chunk()) {
            Some(window) => Self::decode(window, at),
            None => Self::read_last(rows, at),
        }
    }

    #[cold]
    fn read_last(rows: &[u8], at: &mut usize) -> Self {
        let (mut window, rest) = ([0; WINDOW], &rows[*at..]);
        window[..rest.len()].copy_from_slice(rest);
        let header = Self::decode(&window, at);
        assert!(*at <= rows.len(), "a header ends with its stream");
        header
    }

    #[inline]
    fn decode(window: &[u8; WINDOW], at: &mut usize) -> Self {
        let control = u16::from_le_bytes([window[0], window[1]]);
        let places = SHORT_PLACES[usize::from(control & 0xff)];
        let short = |at: u8, code: u16| {
            let at = usize::from(at) & 0x1f; // within the window, whatever the table says
            let word = window[at..at + 4].first_chunk().expect("four bytes");
            u32::from_le_bytes(*word) & SHORT_MASKS[usize::from(code & 3)]
        };
        let long = |at: usize, length: usize| {
            let at = at & 0x1f;
            let word = window[at..at + 8].first_chunk().expect("eight bytes");
            u64::from_le_bytes(*word) & LONG_MASKS[length & 0xf]
        };
        let (total_bytes, multiplier_bytes) =
            (long_length(control >> 8), long_length(control >> 11));
        let total_at = usize::from(places[3]);
        let multiplier_at = total_at + total_bytes;
        *at += multiplier_at + multiplier_bytes;
        Self {
            series: short(CONTROL_BYTES as u8, control),
            values_count: short(places[0], control >> 2),
            nodes_bytes: short(places[1], control >> 4),
            values_bytes: short(places[2], control >> 6),
            total: long(total_at, total_bytes),
            multiplier: long(multiplier_at, multiplier_bytes).wrapping_add(1),
        }
    }
}

/// Bytes of a number by its code of two bits.
const SHORT_LENGTHS: [usize; 4] = [0, 1, 2, 4];

const SHORT_MASKS: [u32; 4] = [0, 0xff, 0xffff, u32::MAX];

/// By length; those above 8 do not occur.
const LONG_MASKS: [u64; 16] = {
    let mut masks = [u64::MAX; 16];
    let mut length = 0;
    while length < 8 {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
};

/// Bytes of a number by its code, the lowest three bits.
#[inline]
fn long_length(code: u16) -> usize {
    let code = usize::from(code & 7);
    code + ((code + 1) >> 3)
}

/// By the codes of the short numbers: where the second, third and fourth begin, and the first long one.
static SHORT_PLACES: [[u8; 4]; 256] = {
    let mut places = [[0; 4]; 256];
    let mut codes = 0;
    while codes < 256 {
        let (mut at, mut number) = (CONTROL_BYTES, 0);
        while number < 4 {
            at += SHORT_LENGTHS[codes >> (2 * number) & 3];
            places[codes][number] = at as u8;
            number += 1;
        }
        codes += 1;
    }
    places
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_come_back_and_take_no_more_bytes_than_they_need() {
        let mut numbers = vec![0, 1, u64::MAX];
        numbers.extend((0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) | 1]));
        let mut headers = Vec::new();
        for (at, number) in numbers.iter().enumerate() {
            let other = |by: usize| numbers[(at + by) % numbers.len()];
            headers.push(Header {
                series: *number as u32,
                values_count: other(7) as u32,
                nodes_bytes: other(19) as u32,
                values_bytes: other(50) as u32,
                total: other(77),
                multiplier: other(101).max(1),
            });
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for header in &headers {
            header.push(&mut bytes);
            ends.push(bytes.len());
        }
        let mut at = 0;
        for (header, end) in headers.iter().zip(ends) {
            assert_eq!((Header::read(&bytes, &mut at), at), (*header, end));
        }
        bytes.clear();
        Header { multiplier: 1, ..Header::default() }.push(&mut bytes);
        assert_eq!(bytes.len(), CONTROL_BYTES, "a row like the last, of the next series");
    }

    #[test]
    fn a_series_is_found_again_from_any_other() {
        for (expected, series) in
            [(0, 0), (0, 1), (1, 0), (0, u32::MAX), (u32::MAX, 0), (7, 1 << 31), (1 << 31, 7)]
        {
            assert_eq!(step_from(expected, step_between(expected, series)), series);
        }
        assert_eq!([4, 5, 3].map(|series| step_between(4, series)), [0, 2, 1]);
    }
}
