//! From bytes as received to the pprof message: gzip undone under the size limit.
//!
//! A small body is inflated in one call by libdeflate (1.5 to 1.9 × as fast as zlib-rs on the corpus) into a buffer that is
//! kept. That call cannot be interrupted, so both its ends are bounded: [`WHOLE_INPUT_BYTES_MAX`] of input, [`WHOLE_BYTES_MAX`]
//! of output. What is more, claims more, or turns out to be more is inflated in pieces ([`crate::gzip`]). The trailer's word on
//! the size is a hint: no buffer grows beyond the limit or [`WHOLE_BYTES_MAX`] because of it, and a bomb ends where the limit is
//! passed.
//!
//! gzip members that follow each other are one message; what follows the last one and is no member is an error.

use std::ptr::NonNull;

use bytes::Bytes;
use libdeflate_sys as sys;

use super::Step;
use crate::gzip::{self, Gunzip, GunzipError};

/// Input of one call: most agents' profiles, 0.3 ms of a real one. A body that is nothing but tables of dynamic blocks costs 78 ns
/// a byte, 6.4 ms at this length: three times what a poll may take, by a client that means it and is charged for every byte it
/// sends. Inflating all bodies above 16 KiB in pieces (1.3 ms at worst) costs everyone a quarter of their ingest
/// (`docs/decisions/0004-small-bodies-in-one-call.md`).
const WHOLE_INPUT_BYTES_MAX: usize = 80 << 10;

/// Output of one call: about 1 ms of a core, half the longest poll.
const WHOLE_BYTES_MAX: usize = 1 << 20;

/// Least output buffer: most profiles fit, and a buffer that grows is filled twice.
const OUTPUT_BYTES_MIN: usize = 256 << 10;

/// The most one profile may hold where no limit is set: rows of a [`super::Profile`] count bytes in 32 bits.
pub(crate) const PROFILE_BYTES_MAX: usize = 1 << 30;

/// Cost of one call in units of [`super::intake`]'s budget, nanoseconds: 64 a byte read, as bytes that give nothing cost most,
/// and 1 a byte written; 1 in 8 of it for a copy.
const READ_COST: i64 = 64;
const WRITTEN_COST: i64 = 1;
const COPIED_BYTES_PER_UNIT: i64 = 8;

/// Why no message came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InflateError {
    /// More bytes than the limit, which is given.
    #[error("decompressed size exceeds maximum allowed size of {0} bytes")]
    OverLimit(usize),
    /// A member is damaged or cut short.
    #[error("gzip data is damaged or incomplete")]
    Damaged,
    /// Bytes behind the last member are none.
    #[error("gzip data is followed by bytes that are none")]
    TrailingGarbage,
}

/// Inflates one body after another.
pub(super) struct Inflater {
    decompressor: Decompressor,
    input: Bytes,
    limit: usize,
    way: Way,
}

enum Way {
    /// Nothing is known yet.
    Start,
    /// No gzip: this many bytes are copied.
    Plain(usize),
    /// Pieces of a large body.
    Pieces(Box<Gunzip>),
    /// The output is complete.
    Done,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { decompressor: Decompressor::new(), input: Bytes::new(), limit: 0, way: Way::Done }
    }

    /// Takes the next body; a limit of 0 stands for [`PROFILE_BYTES_MAX`].
    pub(super) fn begin(&mut self, input: Bytes, limit: usize) {
        self.input = input;
        self.limit = if limit == 0 { PROFILE_BYTES_MAX } else { limit.min(PROFILE_BYTES_MAX) };
        self.way = Way::Start;
    }

    /// Appends to `output`, which is empty at the first call, as much as the budget allows.
    pub(super) fn step(
        &mut self,
        output: &mut Vec<u8>,
        budget: &mut i64,
    ) -> Result<Step, InflateError> {
        while *budget > 0 {
            match &mut self.way {
                Way::Start => self.start(output, budget)?,
                Way::Plain(copied) => {
                    let piece = &self.input[*copied..];
                    let piece = &piece[..piece.len().min(WHOLE_BYTES_MAX)];
                    output.extend_from_slice(piece);
                    *copied += piece.len();
                    *budget -= piece.len() as i64 / COPIED_BYTES_PER_UNIT;
                    if *copied == self.input.len() {
                        self.finish();
                    }
                }
                Way::Pieces(gunzip) => {
                    let step = gunzip.step(output, budget).map_err(|error| match error {
                        GunzipError::OverLimit => InflateError::OverLimit(self.limit),
                        GunzipError::Gzip(_) => InflateError::Damaged,
                    })?;
                    if step == Step::Done {
                        self.finish();
                    }
                }
                Way::Done => return Ok(Step::Done),
            }
        }
        Ok(if matches!(self.way, Way::Done) { Step::Done } else { Step::More })
    }

    fn finish(&mut self) {
        self.way = Way::Done;
        self.input = Bytes::new();
    }

    fn start(&mut self, output: &mut Vec<u8>, budget: &mut i64) -> Result<(), InflateError> {
        if !gzip::has_magic(&self.input) {
            if self.input.len() > self.limit {
                return Err(InflateError::OverLimit(self.limit));
            }
            output.reserve(self.input.len());
            self.way = Way::Plain(0);
            return Ok(());
        }
        let claimed = claimed_size(&self.input);
        if claimed <= WHOLE_BYTES_MAX && self.input.len() <= WHOLE_INPUT_BYTES_MAX {
            output.reserve(claimed.clamp(OUTPUT_BYTES_MIN, WHOLE_BYTES_MAX).min(self.limit));
            let room = output.capacity().min(self.limit).min(WHOLE_BYTES_MAX);
            let fitted = self.decompressor.members(&self.input, output, room)?;
            *budget -= self.input.len() as i64 * READ_COST + output.len() as i64 * WRITTEN_COST;
            if fitted {
                self.finish();
                return Ok(());
            }
            if room == self.limit {
                return Err(InflateError::OverLimit(self.limit));
            }
            output.clear(); // the trailer lied, or spoke of the last member only
        }
        let gunzip = Gunzip::new(std::mem::take(&mut self.input), self.limit);
        self.way = Way::Pieces(Box::new(gunzip));
        Ok(())
    }
}

/// The size in the last member's trailer: the true one modulo 2^32 of an honest body of one member.
fn claimed_size(body: &[u8]) -> usize {
    body.last_chunk().map_or(0, |&bytes| u32::from_le_bytes(bytes) as usize)
}

/// libdeflate's decompressor: 33 kB of tables, made once.
struct Decompressor(NonNull<sys::libdeflate_decompressor>);

#[expect(
    unsafe_code,
    reason = "the tables are plain memory without a tie to the thread that made them"
)]
// SAFETY: libdeflate keeps no thread-local state; a decompressor may be used by any one thread at a time.
unsafe impl Send for Decompressor {}

impl Decompressor {
    #[expect(unsafe_code, reason = "libdeflate is a C library")]
    fn new() -> Self {
        // SAFETY: no preconditions; null means out of memory.
        let decompressor = unsafe { sys::libdeflate_alloc_decompressor() };
        Self(NonNull::new(decompressor).expect("33 kB can be allocated"))
    }

    /// Inflates all members into the empty `output`, at most `room` bytes of it, which its capacity must have.
    /// `false` when they did not fit: `output` then holds what did, in whole members.
    fn members(
        &mut self,
        mut input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<bool, InflateError> {
        loop {
            match self.member(input, output, room) {
                Ok(read) => input = &input[read..],
                Err(sys::libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE) => return Ok(false),
                Err(_) => return Err(InflateError::Damaged),
            }
            if input.is_empty() {
                return Ok(true);
            }
            if !gzip::has_magic(input) {
                return Err(InflateError::TrailingGarbage);
            }
        }
    }

    /// Appends one member's content and gives the bytes of input it took.
    #[expect(
        unsafe_code,
        reason = "libdeflate is a C library, and writes where nothing was initialised before"
    )]
    fn member(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<usize, sys::libdeflate_result> {
        assert!(room <= output.capacity(), "output has room for {room} bytes");
        assert!(output.len() <= room, "output holds no more than {room} bytes");
        let (mut read, mut written) = (0, 0);
        let before = output.len();
        // SAFETY: the decompressor is live and used by `&mut self` alone; `input` is readable for its length; `output` is
        // writable from `before` up to its capacity, which is `room` or more.
        let result = unsafe {
            sys::libdeflate_gzip_decompress_ex(
                self.0.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                output.as_mut_ptr().add(before).cast(),
                room - before,
                &raw mut read,
                &raw mut written,
            )
        };
        if result != sys::libdeflate_result_LIBDEFLATE_SUCCESS {
            return Err(result);
        }
        assert!(read <= input.len(), "libdeflate reads within its input");
        assert!(written <= room - before, "libdeflate writes within its output");
        // SAFETY: on success `written` bytes behind `before` are initialised, and they are within the capacity.
        unsafe { output.set_len(before + written) };
        Ok(read)
    }
}

impl Drop for Decompressor {
    #[expect(unsafe_code, reason = "libdeflate is a C library")]
    fn drop(&mut self) {
        // SAFETY: made by libdeflate_alloc_decompressor and freed once.
        unsafe { sys::libdeflate_free_decompressor(self.0.as_ptr()) }
    }
}

#[cfg(test)]
mod tests;
