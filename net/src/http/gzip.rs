//! gzip in pieces: the transport's encoding of request and reply bodies.
//!
//! Each step is bounded in input and output, so a body of any size never holds the shard. A request may have several gzip
//! members one after another (`engine::gzip`).
//! Not here: profiles that are gzip'd inside a message, which travel unopened to their owner.

use bytes::Bytes;
use engine::gzip::{GzipError, Members};
use flate2::{Compress, Compression, FlushCompress, Status};

use super::rope::{Rope, RopeError};
use crate::budget::Held;
use crate::runtime::Spawn;

/// Input of one step of compressing: 0.2 to 0.5 ms.
const DEFLATED_INPUT_BYTES_MAX: usize = 16 << 10;

/// zlib's largest window.
const WINDOW_BITS: u8 = 15;

/// Replies are compressed at the fastest level: they cross one network once, and the shard has other work.
const REPLY_LEVEL: u32 = 1;

/// Why a body could not be inflated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InflateError {
    /// Not gzip.
    Gzip(GzipError),
    /// No room for what comes out.
    Rope(RopeError),
}

/// Inflates a whole body into `out`.
pub(super) async fn inflate(
    rt: &impl Spawn,
    input: Vec<Bytes>,
    mut out: Rope,
) -> Result<Rope, InflateError> {
    let mut members = Members::default();
    for piece in input {
        let mut rest = &piece[..];
        while !rest.is_empty() || members.drains() {
            let block = out.block_with_space().map_err(InflateError::Rope)?;
            let taken = members.step(rest, block).map_err(InflateError::Gzip)?;
            rest = &rest[taken..];
            out.check_len().map_err(InflateError::Rope)?;
            rt.yield_if_needed().await;
        }
    }
    members.finish().map_err(InflateError::Gzip)?;
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
