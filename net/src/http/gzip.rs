//! gzip in pieces: the transport's encoding of request and reply bodies.
//!
//! Each step is bounded in input and output, so a body of any size never holds the shard; sizes come from the bytes that really
//! come out, never from the trailer. A request may have several gzip members one after another.
//! Not here: profiles that are gzip'd inside a message, which travel unopened to their owner.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::rope::{Rope, RopeError};
use crate::budget::Held;
use crate::runtime::Spawn;

/// Input of one step of inflating: stored blocks without content would otherwise be consumed without end and without output.
/// Output is bounded by the block it goes to (256 KiB, 0.5 to 1.2 ms).
const INFLATED_INPUT_BYTES_MAX: usize = 64 << 10;

/// Input of one step of compressing: 0.2 to 0.5 ms.
const DEFLATED_INPUT_BYTES_MAX: usize = 16 << 10;

/// zlib's largest window.
const WINDOW_BITS: u8 = 15;

/// Replies are compressed at the fastest level: they cross one network once, and the shard has other work.
const REPLY_LEVEL: u32 = 1;

/// Why a body is not gzip.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum GzipError {
    /// Header, data or checksum are wrong.
    #[error("gzip: invalid data")]
    Corrupt,
    /// The body ends within a member, or is empty.
    #[error("gzip: unexpected end of data")]
    Truncated,
}

/// Why a body could not be inflated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InflateError {
    /// Not gzip.
    Gzip(GzipError),
    /// No room for what comes out.
    Rope(RopeError),
}

/// Whether bytes begin as a gzip member does.
pub(super) fn has_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// A push decoder of gzip members.
#[derive(Debug, Default)]
struct Inflater {
    member: Option<Decompress>,
    members_count: u64,
}

impl Inflater {
    /// Takes some of `input` and appends to `block` within its capacity; the number of bytes taken.
    fn step(&mut self, input: &[u8], block: &mut Vec<u8>) -> Result<usize, GzipError> {
        assert!(block.len() < block.capacity(), "a step needs room for output");
        let member = self.member.get_or_insert_with(|| {
            self.members_count += 1;
            Decompress::new_gzip(WINDOW_BITS)
        });
        let input = &input[..input.len().min(INFLATED_INPUT_BYTES_MAX)];
        let (taken_before, out_before) = (member.total_in(), member.total_out());
        let status = member
            .decompress_vec(input, block, FlushDecompress::None)
            .map_err(|_| GzipError::Corrupt)?;
        let taken = (member.total_in() - taken_before) as usize;
        let stands_still = taken == 0 && member.total_out() == out_before;
        if status == Status::StreamEnd {
            self.member = None;
        } else if stands_still && !input.is_empty() {
            return Err(GzipError::Corrupt);
        }
        Ok(taken)
    }

    /// Whether output may follow without further input.
    fn drains(&self, block: &Vec<u8>) -> bool {
        self.member.is_some() && block.len() == block.capacity()
    }

    fn finish(&self) -> Result<(), GzipError> {
        if self.members_count == 0 || self.member.is_some() {
            return Err(GzipError::Truncated);
        }
        Ok(())
    }
}

/// Inflates a whole body into `out`.
pub(super) async fn inflate(
    rt: &impl Spawn,
    input: Vec<Bytes>,
    mut out: Rope,
) -> Result<Rope, InflateError> {
    let mut inflater = Inflater::default();
    for piece in input {
        let mut rest = &piece[..];
        let mut drains = false;
        while !rest.is_empty() || drains {
            let block = out.block_with_space().map_err(InflateError::Rope)?;
            let taken = inflater.step(rest, block).map_err(InflateError::Gzip)?;
            rest = &rest[taken..];
            drains = inflater.drains(block);
            out.check_len().map_err(InflateError::Rope)?;
            rt.yield_if_needed().await;
        }
    }
    inflater.finish().map_err(InflateError::Gzip)?;
    Ok(out)
}

/// Compresses a reply; `None` when the budget has no room, and the reply goes out as it is.
pub(super) async fn deflate(
    rt: &impl Spawn,
    input: &[Bytes],
    mut out: Rope,
) -> Option<(Vec<Bytes>, Vec<Held>)> {
    let mut compress = Compress::new_gzip(Compression::new(REPLY_LEVEL), WINDOW_BITS);
    for piece in input.iter().flat_map(|bytes| bytes.chunks(DEFLATED_INPUT_BYTES_MAX)) {
        let mut rest = piece;
        while !rest.is_empty() {
            let block = out.block_with_space().ok()?;
            let before = compress.total_in();
            compress
                .compress_vec(rest, block, FlushCompress::None)
                .expect("compressing has no failing input");
            rest = &rest[(compress.total_in() - before) as usize..];
        }
        rt.yield_if_needed().await;
    }
    loop {
        let block = out.block_with_space().ok()?;
        let status = compress
            .compress_vec(&[], block, FlushCompress::Finish)
            .expect("compressing has no failing input");
        if status == Status::StreamEnd {
            return Some(out.into_blocks());
        }
    }
}

#[cfg(test)]
mod tests;
