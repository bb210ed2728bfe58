//! gzip undone at the speed of libdeflate, and interruptible: of bytes that are all there, within a limit.
//!
//! libdeflate takes its speed from having the whole input and the whole output in memory, and cannot be left in the middle; zlib
//! can, at one and a half times the cost or more. A decoder that has everything in memory can also be left after any symbol: what
//! has to be remembered are the two positions, the bits in between and the tables of the block. So this is both. A step is bounded
//! by what its work costs at most: blocks without content, which cost a table each, as well as output.
//!
//! gzip members that follow each other are one message; what follows the last one and is no member is an error.
//!
//! Not here: requests that arrive in pieces ([`crate::gzip`]); plain bytes and limits in words (`profile::inflate`).

mod block;
mod fast;
mod member;
mod table;

use self::fast::{Bits, End, OUTPUT_MARGIN};
use self::table::{
    BLOCK_END, EXCEPTIONAL, LITERAL, LITLEN_BITS, LITLEN_ENTRIES, OFFSET_BITS, OFFSET_ENTRIES,
    SUBTABLE,
};
use crate::profile::Step;

/// Output of one run of the hot loop: what is checksummed while it is in the nearest cache, and 0.02 to 0.1 ms.
const RUN_BYTES_MAX: usize = 32 << 10;

/// What a member and a block cost at most before they have any content, nanoseconds: the tables of a dynamic block.
const MEMBER_COST: i64 = 200;
const BLOCK_COST: i64 = 4_000;

/// What a byte written and a byte read cost, nanoseconds. A real profile takes 1.4 a byte written; what takes longest are symbols
/// of one bit that nobody can foresee.
const WRITTEN_COST: i64 = 2;
const READ_COST: i64 = 24;

/// Least capacity of the output, and what it grows by where nothing better is known.
const OUTPUT_BYTES_MIN: usize = 256 << 10;

/// The most that a trailer's claim alone reserves.
const CLAIMED_BYTES_MAX: usize = 1 << 20;

/// Why nothing came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeflateError {
    /// More comes out than the limit.
    OverLimit,
    /// A member is damaged or cut short.
    Damaged,
    /// Bytes behind the last member are none.
    TrailingGarbage,
}

/// Inflates one body after another; its tables are made once.
pub(crate) struct Inflate {
    stage: Stage,
    bits: Bits,
    /// Bits that were taken from behind the input's end.
    overread_bits: u32,
    is_last_block: bool,
    /// Where the member's content begins in the output, and up to where it is checksummed.
    member_start: usize,
    summed: usize,
    crc: u32,
    litlen: Box<[u32; LITLEN_ENTRIES]>,
    offsets: Box<[u32; OFFSET_ENTRIES]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Member,
    Block,
    Stored { left: usize },
    Symbols,
    Trailer,
}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflate").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Inflate {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Member,
            bits: Bits::default(),
            overread_bits: 0,
            is_last_block: false,
            member_start: 0,
            summed: 0,
            crc: 0,
            litlen: Box::new([0; LITLEN_ENTRIES]),
            offsets: Box::new([0; OFFSET_ENTRIES]),
        }
    }

    /// Begins another body.
    pub(crate) fn begin(&mut self) {
        self.stage = Stage::Member;
        self.bits = Bits::default();
        self.overread_bits = 0;
    }

    /// Appends to `output`, which is empty at the first call, as much as the budget (nanoseconds) allows. The same input comes with
    /// every call of a body.
    pub(crate) fn step(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
        budget: &mut i64,
    ) -> Result<Step, DeflateError> {
        while *budget > 0 {
            let (read, written) = (self.bits.at, output.len());
            let step = self.advance(input, output, limit, budget)?;
            if output.len() > limit {
                return Err(DeflateError::OverLimit);
            }
            // Ending a block gives back what was read ahead.
            *budget -= self.bits.at.saturating_sub(read) as i64 * READ_COST
                + (output.len() - written) as i64 * WRITTEN_COST;
            if step == Step::Done {
                return Ok(Step::Done);
            }
        }
        Ok(Step::More)
    }

    fn advance(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
        budget: &mut i64,
    ) -> Result<Step, DeflateError> {
        match self.stage {
            Stage::Member => {
                *budget -= MEMBER_COST;
                self.member(input, output, limit)?;
                self.stage = Stage::Block;
            }
            Stage::Block => {
                *budget -= BLOCK_COST;
                self.block(input)?;
            }
            Stage::Stored { left } => self.stored(input, output, limit, left)?,
            Stage::Symbols => self.symbols(input, output, limit)?,
            Stage::Trailer => {
                self.trailer(input, output)?;
                self.stage = Stage::Member;
                if self.bits.at == input.len() {
                    return Ok(Step::Done);
                }
            }
        }
        Ok(Step::More)
    }

    /// Reads a member's header.
    fn member(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), DeflateError> {
        let rest = &input[self.bits.at..];
        let is_first = self.bits.at == 0;
        if !crate::gzip::has_magic(rest) && !is_first {
            return Err(DeflateError::TrailingGarbage);
        }
        let len = member::header_len(rest).ok_or(DeflateError::Damaged)?;
        self.bits = Bits { at: self.bits.at + len, ..Bits::default() };
        self.overread_bits = 0;
        self.member_start = output.len();
        self.summed = output.len();
        self.crc = 0;
        if is_first {
            let claimed = member::claimed_size(input).clamp(OUTPUT_BYTES_MIN, CLAIMED_BYTES_MAX);
            output.reserve(claimed.min(limit) + OUTPUT_MARGIN);
        }
        Ok(())
    }

    fn stored(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
        left: usize,
    ) -> Result<(), DeflateError> {
        let piece = input[self.bits.at..].get(..left).ok_or(DeflateError::Damaged)?;
        if piece.len() > limit - output.len() {
            return Err(DeflateError::OverLimit);
        }
        output.extend_from_slice(piece);
        self.bits.at += left;
        self.end_block(output);
        Ok(())
    }

    /// Decodes symbols of a block until it ends or a run is done.
    fn symbols(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), DeflateError> {
        let until = output.len() + RUN_BYTES_MAX;
        // Room for a whole run, and for what the hot loop writes past its end.
        if output.capacity() < until + OUTPUT_MARGIN {
            output.reserve(RUN_BYTES_MAX + OUTPUT_MARGIN);
        }
        let end = fast::symbols(
            &self.litlen,
            &self.offsets,
            &mut self.bits,
            input,
            output,
            self.member_start,
            until + OUTPUT_MARGIN,
        );
        match end {
            End::Corrupt => return Err(DeflateError::Damaged),
            End::Block => self.end_block(output),
            // At the input's end what is left goes symbol by symbol.
            End::Margin if output.len() < until => self.last_symbols(input, output, limit)?,
            End::Margin => {}
        }
        self.sum(output);
        Ok(())
    }

    /// The same symbol by symbol, where the input ends soon: at most 32 bytes of it, and what they copy.
    fn last_symbols(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), DeflateError> {
        loop {
            if output.len() > limit {
                return Err(DeflateError::OverLimit);
            }
            self.fill(input);
            let mut entry = self.litlen[self.bits.word as usize & ((1 << LITLEN_BITS) - 1)];
            if entry & SUBTABLE != 0 {
                self.drop_bits(LITLEN_BITS)?;
                entry = self.litlen[(entry >> 16) as usize + self.low(entry >> 8 & 0x1f)];
            }
            if entry & LITERAL != 0 {
                self.drop_bits(entry & 0xff)?;
                output.push((entry >> 16) as u8);
                continue;
            }
            if entry & EXCEPTIONAL != 0 {
                if entry & BLOCK_END == 0 {
                    return Err(DeflateError::Damaged);
                }
                self.drop_bits(entry & 0xff)?;
                self.end_block(output);
                return Ok(());
            }
            let len = self.number(entry)?;
            self.fill(input);
            let mut entry = self.offsets[self.bits.word as usize & ((1 << OFFSET_BITS) - 1)];
            if entry & SUBTABLE != 0 {
                self.drop_bits(OFFSET_BITS)?;
                entry = self.offsets[(entry >> 16) as usize + self.low(entry >> 8 & 0x1f)];
            }
            if entry & EXCEPTIONAL != 0 {
                return Err(DeflateError::Damaged);
            }
            let offset = self.number(entry)?;
            if offset > output.len() - self.member_start {
                return Err(DeflateError::Damaged);
            }
            for _ in 0..len {
                output.push(output[output.len() - offset]);
            }
        }
    }

    /// The length or offset that an entry and its extra bits stand for.
    fn number(&mut self, entry: u32) -> Result<usize, DeflateError> {
        let extra = self.low(entry & 0xff) >> (entry >> 8 & 0xff);
        self.drop_bits(entry & 0xff)?;
        Ok((entry >> 16) as usize + extra)
    }

    fn end_block(&mut self, output: &[u8]) {
        self.sum(output);
        self.stage = if self.is_last_block { Stage::Trailer } else { Stage::Block };
    }

    /// Checksums what came out since the last time.
    fn sum(&mut self, output: &[u8]) {
        self.crc = crc32(self.crc, &output[self.summed..]);
        self.summed = output.len();
    }

    fn trailer(&mut self, input: &[u8], output: &[u8]) -> Result<(), DeflateError> {
        self.go_to_byte();
        let trailer = input[self.bits.at..].first_chunk::<8>().ok_or(DeflateError::Damaged)?;
        let len = (output.len() - self.member_start) as u32;
        if u64::from_le_bytes(*trailer) != u64::from(self.crc) | u64::from(len) << 32 {
            return Err(DeflateError::Damaged);
        }
        self.bits.at += 8;
        Ok(())
    }

    /// Makes it 56 bits or more; behind the input's end they are zeros, and counted.
    fn fill(&mut self, input: &[u8]) {
        while self.bits.count < 56 {
            if let Some(&byte) = input.get(self.bits.at) {
                self.bits.word |= u64::from(byte) << self.bits.count;
                self.bits.at += 1;
            } else {
                self.overread_bits += 8;
            }
            self.bits.count += 8;
        }
    }

    fn low(&self, count: u32) -> usize {
        (self.bits.word & ((1 << count) - 1)) as usize
    }

    /// Drops bits that are there; those behind the input's end are not.
    fn drop_bits(&mut self, count: u32) -> Result<(), DeflateError> {
        self.bits.word >>= count;
        self.bits.count -= count;
        if self.bits.count < self.overread_bits { Err(DeflateError::Damaged) } else { Ok(()) }
    }

    /// The next bits as a number, at most 16 of them.
    fn take(&mut self, input: &[u8], count: u32) -> Result<u32, DeflateError> {
        self.fill(input);
        let bits = self.low(count) as u32;
        self.drop_bits(count)?;
        Ok(bits)
    }

    /// Goes on at the next whole byte.
    fn go_to_byte(&mut self) {
        let unread = (self.bits.count - self.overread_bits) / 8;
        self.bits = Bits { at: self.bits.at - unread as usize, ..Bits::default() };
        self.overread_bits = 0;
    }
}

/// Continues a CRC-32 as gzip has it.
#[expect(unsafe_code, reason = "libdeflate is a C library, and its sum the fastest there is")]
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    // SAFETY: `bytes` is readable for its length.
    unsafe { libdeflate_sys::libdeflate_crc32(crc, bytes.as_ptr().cast(), bytes.len()) }
}

#[cfg(test)]
mod tests;
