//! gzip undone in bounded pieces: the one inflater of whatever a client compresses.
//!
//! A step is bounded in input as well as in output. Output alone bounds nothing: deflate blocks and gzip members without content
//! give none, and a dynamic block of 12 to 28 bytes makes a table that takes 1 to 4 µs to build. So what a step charges counts
//! the bytes it reads at their worst. Sizes come from the bytes that really come out, never from the trailer; several members one
//! after another are one message.
//!
//! Not here: the fast way for small profiles (`profile::inflate`); where a request's pieces go (`net::http::gzip`).

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use crate::profile::Step;

/// Input of one step: about 1 ms at its worst, 0.06 ms of a real profile.
pub const STEP_INPUT_BYTES_MAX: usize = 8 << 10;

/// Output of one step: 0.05 to 0.3 ms.
pub const STEP_OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What a byte read costs at most, nanoseconds: blocks that are nothing but tables of 286 codes.
const READ_COST: i64 = 128;

/// What a byte written costs, nanoseconds.
const WRITTEN_COST: i64 = 1;

/// zlib's largest window.
const WINDOW_BITS: u8 = 15;

/// Whether bytes begin as a gzip member does.
pub fn has_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The most that content of `limit` bytes may take compressed: an eighth more for a writer that flushes often, and headers.
/// More is refused unread.
pub const fn compressed_bytes_max(limit: usize) -> usize {
    limit.saturating_add(limit / 8).saturating_add(64 << 10)
}

/// Why bytes are not gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GzipError {
    /// Header, data or checksum are wrong.
    #[error("gzip: invalid data")]
    Corrupt,
    /// They end within a member, or are none.
    #[error("gzip: unexpected end of data")]
    Truncated,
}

/// A push decoder of gzip members.
#[derive(Debug, Default)]
pub struct Members {
    member: Option<Decompress>,
    any: bool,
    drains: bool,
}

impl Members {
    /// Takes some of `input` and appends to `output` within its capacity; the number of bytes taken.
    #[expect(
        unsafe_code,
        reason = "writes where nothing was initialised before, and no further than a step"
    )]
    pub fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, GzipError> {
        let before = output.len();
        let room = (output.capacity() - before).min(STEP_OUTPUT_BYTES_MAX);
        assert!(room > 0, "a step needs room for output");
        self.any = true;
        let member = self.member.get_or_insert_with(|| Decompress::new_gzip(WINDOW_BITS));
        let input = &input[..input.len().min(STEP_INPUT_BYTES_MAX)];
        let (taken_before, written_before) = (member.total_in(), member.total_out());
        let spare = &mut output.spare_capacity_mut()[..room];
        let status = member.decompress_uninit(input, spare, FlushDecompress::None);
        let taken = (member.total_in() - taken_before) as usize;
        let written = (member.total_out() - written_before) as usize;
        assert!(written <= room, "no more is written than there is room for");
        // SAFETY: the `written` bytes behind `before` were initialised just now, and lie within the capacity.
        unsafe { output.set_len(before + written) };
        let status = status.map_err(|_| GzipError::Corrupt)?;
        self.drains = written == room && status != Status::StreamEnd;
        if status == Status::StreamEnd {
            self.member = None;
        } else if taken + written == 0 && !input.is_empty() {
            return Err(GzipError::Corrupt); // it stands still
        }
        Ok(taken)
    }

    /// Whether output may follow without further input.
    pub fn drains(&self) -> bool {
        self.drains
    }

    /// Whether what was given so far is whole.
    pub fn finish(&self) -> Result<(), GzipError> {
        if !self.any || self.member.is_some() {
            return Err(GzipError::Truncated);
        }
        Ok(())
    }
}

/// Why [`Gunzip`] ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GunzipError {
    /// More comes out than the limit, or so much goes in that it must.
    OverLimit,
    /// Not gzip.
    Gzip(GzipError),
}

/// Inflates bytes that are all there, up to a limit.
#[derive(Debug)]
pub struct Gunzip {
    input: Bytes,
    at: usize,
    limit: usize,
    members: Members,
}

impl Gunzip {
    /// Begins; `limit` bounds what comes out.
    pub fn new(input: Bytes, limit: usize) -> Self {
        Self { input, at: 0, limit, members: Members::default() }
    }

    /// Appends to `output`, which is empty at the first call, as much as the budget (nanoseconds) allows.
    pub fn step(&mut self, output: &mut Vec<u8>, budget: &mut i64) -> Result<Step, GunzipError> {
        if self.input.len() > compressed_bytes_max(self.limit) {
            return Err(GunzipError::OverLimit);
        }
        while *budget > 0 {
            if self.at == self.input.len() && !self.members.drains() {
                self.members.finish().map_err(GunzipError::Gzip)?;
                return Ok(Step::Done);
            }
            let before = output.len();
            // One byte more than allowed tells too much from full.
            output.reserve((self.limit - before).saturating_add(1).min(STEP_OUTPUT_BYTES_MAX));
            let taken =
                self.members.step(&self.input[self.at..], output).map_err(GunzipError::Gzip)?;
            self.at += taken;
            *budget -= cost(taken, output.len() - before);
            if output.len() > self.limit {
                return Err(GunzipError::OverLimit);
            }
        }
        Ok(Step::More)
    }
}

/// What a step costs at most, nanoseconds: a table, a window or a member may cost a microsecond without a byte.
fn cost(read: usize, written: usize) -> i64 {
    1_000 + read as i64 * READ_COST + written as i64 * WRITTEN_COST
}

#[cfg(test)]
mod tests;
