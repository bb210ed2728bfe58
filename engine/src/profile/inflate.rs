//! From bytes as received to the pprof message: gzip undone under the size limit, in steps that a budget bounds.
//!
//! The trailer's word on the size is a hint: no buffer grows beyond the limit or a MiB because of it, and a bomb ends where the
//! limit is passed. How gzip is undone: [`crate::deflate`].

use bytes::Bytes;

use super::Step;
use crate::deflate::{DeflateError, Inflate};
use crate::gzip;

/// Plain bytes copied at a time.
const COPY_BYTES_MAX: usize = 1 << 20;

/// The most one profile may hold where no limit is set: rows of a [`super::Profile`] count bytes in 32 bits.
pub(crate) const PROFILE_BYTES_MAX: usize = 1 << 30;

/// Bytes copied for a unit of [`super::intake`]'s budget, a nanosecond.
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
#[derive(Debug)]
pub(super) struct Inflater {
    inflate: Inflate,
    input: Bytes,
    limit: usize,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Nothing is known yet.
    Start,
    /// No gzip: this many bytes are copied.
    Plain(usize),
    /// gzip.
    Members,
    /// The output is complete.
    Done,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { inflate: Inflate::new(), input: Bytes::new(), limit: 0, way: Way::Done }
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
                Way::Start => self.start(output)?,
                Way::Plain(copied) => {
                    let piece = &self.input[*copied..];
                    let piece = &piece[..piece.len().min(COPY_BYTES_MAX)];
                    output.extend_from_slice(piece);
                    *copied += piece.len();
                    *budget -= piece.len() as i64 / COPIED_BYTES_PER_UNIT;
                    if *copied == self.input.len() {
                        self.finish();
                    }
                }
                Way::Members => {
                    let step = self.inflate.step(&self.input, output, self.limit, budget);
                    let step = step.map_err(|error| match error {
                        DeflateError::OverLimit => InflateError::OverLimit(self.limit),
                        DeflateError::Damaged => InflateError::Damaged,
                        DeflateError::TrailingGarbage => InflateError::TrailingGarbage,
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

    fn start(&mut self, output: &mut Vec<u8>) -> Result<(), InflateError> {
        let is_gzip = gzip::has_magic(&self.input);
        let received_max =
            if is_gzip { gzip::compressed_bytes_max(self.limit) } else { self.limit };
        if self.input.len() > received_max {
            return Err(InflateError::OverLimit(self.limit));
        }
        self.way = if is_gzip {
            self.inflate.begin();
            Way::Members
        } else {
            output.reserve(self.input.len());
            Way::Plain(0)
        };
        Ok(())
    }

    fn finish(&mut self) {
        self.way = Way::Done;
        self.input = Bytes::new();
    }
}

#[cfg(test)]
mod tests;
