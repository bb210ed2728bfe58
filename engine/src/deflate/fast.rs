//! The hot loop: symbols of a block while input and room for output are plenty.
//!
//! As libdeflate decodes (`lib/decompress_template.h`, v1.25): at least 56 bits are at hand when an iteration begins, up to three
//! literals go without a refill, the next entry is looked up before the bytes of a match are copied, and those are copied in
//! words, past their end.

use std::mem::MaybeUninit;

use super::table::{
    BLOCK_END, EXCEPTIONAL, LITERAL, LITLEN_BITS, LITLEN_ENTRIES, OFFSET_BITS, OFFSET_ENTRIES,
    SUBTABLE,
};

/// Input that an iteration may look at: three refills of at most 8 bytes.
pub(super) const INPUT_MARGIN: usize = 32;

/// Output that an iteration may write: two literals, the longest match, and five words copied past the end of a short one.
pub(super) const OUTPUT_MARGIN: usize = 2 + 258 + 40;

/// The most bits an offset takes: a codeword and its extra bits.
const OFFSET_BITS_MAX: u32 = 15 + 13;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Too little input or room is left for another iteration.
    Margin,
    /// The block has ended.
    Block,
    /// A symbol that must not occur, or a match from before the beginning.
    Corrupt,
}

/// Bits read from the input and not consumed yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bits {
    /// The next bits, first one lowest. Above `count` there may be more of the input's, which the next refill brings again.
    pub(super) word: u64,
    /// How many are valid.
    pub(super) count: u32,
    /// Offset in the input of what the next refill brings.
    pub(super) at: usize,
}

impl Bits {
    /// Makes it 56 bits or more.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the hot loop keeps it in registers")]
    fn refill(&mut self, input: &[u8]) {
        let next: [u8; 8] = input[self.at..self.at + 8].try_into().expect("eight bytes");
        self.word |= u64::from_le_bytes(next) << self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 0x38;
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the hot loop keeps it in registers")]
    fn consume(&mut self, entry: u32) {
        self.word >>= entry & 0xff;
        self.count -= entry & 0xff;
    }
}

/// The lowest `count` bits, which are fewer than 64.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one instruction with BMI2")]
fn low(word: u64, count: u32) -> u64 {
    word & ((1 << (count & 63)) - 1)
}

/// Decodes until a margin or the block's end is reached. `start` is where the member's output begins; matches reach no further.
#[inline]
pub(super) fn symbols(
    litlen: &[u32; LITLEN_ENTRIES],
    offsets: &[u32; OFFSET_ENTRIES],
    bits: &mut Bits,
    input: &[u8],
    output: &mut Vec<u8>,
    start: usize,
    len_max: usize,
) -> End {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") {
        #[expect(
            unsafe_code,
            reason = "shifts by a register are one instruction with BMI2, and the loop is made of them"
        )]
        // SAFETY: the processor was just seen to have both.
        let end = unsafe { symbols_bmi2(litlen, offsets, bits, input, output, start, len_max) };
        return end;
    }
    symbols_anywhere(litlen, offsets, bits, input, output, start, len_max)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2")]
fn symbols_bmi2(
    litlen: &[u32; LITLEN_ENTRIES],
    offsets: &[u32; OFFSET_ENTRIES],
    bits: &mut Bits,
    input: &[u8],
    output: &mut Vec<u8>,
    start: usize,
    len_max: usize,
) -> End {
    symbols_anywhere(litlen, offsets, bits, input, output, start, len_max)
}

#[inline(always)]
#[expect(
    unsafe_code,
    reason = "copies in words past the end of a match, into memory that is not initialised yet"
)]
fn symbols_anywhere(
    litlen: &[u32; LITLEN_ENTRIES],
    offsets: &[u32; OFFSET_ENTRIES],
    bits_of: &mut Bits,
    input: &[u8],
    output: &mut Vec<u8>,
    start: usize,
    len_max: usize,
) -> End {
    const LITLEN_MASK: u64 = (1 << LITLEN_BITS) - 1;
    const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
    let mut bits = *bits_of;
    let before = output.len();
    let len_max = len_max.min(output.capacity());
    if bits.at + INPUT_MARGIN > input.len() || before + OUTPUT_MARGIN > len_max {
        return End::Margin;
    }
    assert!(start <= before, "a member begins within the output");
    let input_end = input.len() - INPUT_MARGIN;
    let base = output.as_mut_ptr();
    // What the unsafe blocks below rely on: every iteration begins with `len <= len_end`, so up to `OUTPUT_MARGIN` bytes from
    // `len` on lie within the capacity; it writes at most 2 literals, 258 bytes of a match and less than 40 bytes behind it.
    // Bytes below `len` are initialised: those before `before` by the vector, the others by the iterations before this one.
    let len_end = len_max - OUTPUT_MARGIN;
    let mut len = before;
    bits.refill(input);
    let mut entry = litlen[(bits.word & LITLEN_MASK) as usize];
    let end = loop {
        let mut saved = bits.word;
        bits.consume(entry);
        if entry & LITERAL != 0 {
            // Three codewords of the main table take 33 bits; a length (20) or the index of an offset (8) still fits in 56.
            let literal = (entry >> 16) as u8;
            entry = litlen[(bits.word & LITLEN_MASK) as usize];
            saved = bits.word;
            bits.consume(entry);
            // SAFETY: `len` is within the margin.
            unsafe { base.add(len).write(literal) };
            len += 1;
            if entry & LITERAL != 0 {
                let literal = (entry >> 16) as u8;
                entry = litlen[(bits.word & LITLEN_MASK) as usize];
                saved = bits.word;
                bits.consume(entry);
                // SAFETY: `len` is within the margin.
                unsafe { base.add(len).write(literal) };
                len += 1;
                if entry & LITERAL != 0 {
                    let literal = (entry >> 16) as u8;
                    entry = litlen[(bits.word & LITLEN_MASK) as usize];
                    bits.refill(input);
                    // SAFETY: `len` is within the margin.
                    unsafe { base.add(len).write(literal) };
                    len += 1;
                    if bits.at > input_end || len > len_end {
                        break End::Margin;
                    }
                    continue;
                }
            }
        }
        if entry & EXCEPTIONAL != 0 {
            if entry & SUBTABLE != 0 {
                entry = litlen[(entry >> 16) as usize + low(bits.word, entry >> 8 & 0x1f) as usize];
                saved = bits.word;
                bits.consume(entry);
                if entry & LITERAL != 0 {
                    // SAFETY: `len` is within the margin.
                    unsafe { base.add(len).write((entry >> 16) as u8) };
                    len += 1;
                    bits.refill(input);
                    entry = litlen[(bits.word & LITLEN_MASK) as usize];
                    if bits.at > input_end || len > len_end {
                        break End::Margin;
                    }
                    continue;
                }
            }
            if entry & EXCEPTIONAL != 0 {
                break if entry & BLOCK_END != 0 { End::Block } else { End::Corrupt };
            }
        }
        let copied =
            (entry >> 16) as usize + (low(saved, entry & 0xff) >> (entry >> 8 & 0xff)) as usize;
        entry = offsets[(bits.word & OFFSET_MASK) as usize];
        if bits.count < OFFSET_BITS_MAX + LITLEN_BITS {
            bits.refill(input);
        }
        if entry & EXCEPTIONAL != 0 {
            if entry & SUBTABLE == 0 {
                break End::Corrupt;
            }
            bits.word >>= OFFSET_BITS;
            bits.count -= OFFSET_BITS;
            entry = offsets[(entry >> 16) as usize + low(bits.word, entry >> 8 & 0x1f) as usize];
            if entry & EXCEPTIONAL != 0 {
                break End::Corrupt;
            }
        }
        let saved = bits.word;
        bits.consume(entry);
        let offset =
            (entry >> 16) as usize + (low(saved, entry & 0xff) >> (entry >> 8 & 0xff)) as usize;
        if offset > len - start {
            break End::Corrupt;
        }
        bits.refill(input);
        entry = litlen[(bits.word & LITLEN_MASK) as usize];
        // SAFETY: `offset` bytes lie before `len`; the match and 40 bytes behind it are within the margin.
        unsafe { copy_match(base.add(len), offset, copied) };
        len += copied;
        if bits.at > input_end || len > len_end {
            break End::Margin;
        }
    };
    assert!(len <= output.capacity(), "the margin kept the output within its capacity");
    // SAFETY: all bytes up to `len` were written, and they lie within the capacity.
    unsafe { output.set_len(len) };
    *bits_of = bits;
    end
}

/// Copies a match of `len` bytes, 3 to 258, from `offset` before `to` up to 40 bytes past its end.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call for each match")]
#[expect(unsafe_code, reason = "words are copied at any address")]
/// # Safety
/// `offset` bytes before `to` are readable, `len` and 40 more from it on are writable.
unsafe fn copy_match(to: *mut u8, offset: usize, len: usize) {
    // SAFETY: a word that is read begins before the one that is written, by `offset`; where that is less than a
    // word, the word is read before it is written, and the bytes behind its first `offset` are overwritten by the next ones.
    unsafe {
        let end = to.add(len);
        let mut from = to.sub(offset).cast_const();
        let mut to = to;
        if offset >= 8 {
            for _ in 0..5 {
                copy_word(from, to);
                from = from.add(8);
                to = to.add(8);
            }
            while to < end {
                for _ in 0..5 {
                    copy_word(from, to);
                    from = from.add(8);
                    to = to.add(8);
                }
            }
        } else if offset == 1 {
            let byte = from.read();
            to.write_bytes(byte, 40);
            if len > 40 {
                to.add(40).write_bytes(byte, len - 40);
            }
        } else {
            // Each word is right in its first `offset` bytes; the next one begins behind those.
            while to < end {
                copy_word(from, to);
                from = from.add(offset);
                to = to.add(offset);
            }
        }
    }
}

/// # Safety
/// Eight bytes are readable at `from` and writable at `to`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "two instructions")]
#[expect(unsafe_code, reason = "words are copied at any address")]
unsafe fn copy_word(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's. What is not initialised yet moves as such.
    unsafe {
        to.cast::<MaybeUninit<u64>>()
            .write_unaligned(from.cast::<MaybeUninit<u64>>().read_unaligned());
    }
}
