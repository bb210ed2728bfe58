//! Frames of gRPC bodies: a byte of flags, four bytes of length (big endian), and so many bytes.
//!
//! ```text
//! request, reply    00|01 llll message        01: compressed as `grpc-encoding` says
//! gRPC-Web, after   80    llll "name: value\r\n"…   trailers, which gRPC has in HTTP's
//! ```
//! A unary body has one message. [`FrameReader`] takes the bytes as they come and gives the message's on; a length is only
//! compared and counted down, nothing is allocated by it. Texts and codes are connect-go's, which Pyroscope answers with.
//!
//! Not here: inflating the message, base64 around the frames ([`super::text`]).

use bytes::Bytes;
use proto::rpc::{Code, Failure, Retry};
use thiserror::Error;

use crate::http::reply::BODY_TOO_LARGE_REASON;

/// Flags and length.
pub(in crate::http) const HEAD_BYTES: usize = 5;

/// Trailers that a gRPC-Web client may send after its message, bytes. Nobody does; they are skipped.
pub(in crate::http) const TRAILERS_BYTES_MAX: usize = 8 << 10;

const COMPRESSED: u8 = 0x01;
const TRAILERS: u8 = 0x80;

/// The head of a message's frame; `None` when its length has no 32 bits.
pub(super) fn message_head(compressed: bool, bytes: u64) -> Option<Bytes> {
    head(if compressed { COMPRESSED } else { 0 }, bytes)
}

/// A frame of gRPC-Web's trailers.
pub(super) fn trailers(text: &str) -> Bytes {
    let head = head(TRAILERS, text.len() as u64).expect("trailers are a few kB");
    [&head[..], text.as_bytes()].concat().into()
}

fn head(flags: u8, bytes: u64) -> Option<Bytes> {
    let [a, b, c, d] = u32::try_from(bytes).ok()?.to_be_bytes();
    Some(Bytes::copy_from_slice(&[flags, a, b, c, d]))
}

/// Why a body is not one message in its frames.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(in crate::http) enum FrameError {
    /// The body is empty.
    #[error("unary request has zero messages")]
    NoMessage,
    /// A second message begins.
    #[error("unary request has multiple messages")]
    SecondMessage,
    /// The body ends within flags and length.
    #[error("protocol error: incomplete envelope: unexpected EOF")]
    ShortHead,
    /// The body ends within a frame.
    #[error(
        "protocol error: promised {promised} bytes in enveloped message, got {got} bytes: unexpected EOF"
    )]
    Short {
        /// The frame's length.
        promised: usize,
        /// What came of it.
        got: usize,
    },
    /// Flags that mean nothing.
    #[error("protocol error: invalid envelope flags {0}")]
    Flags(u8),
    /// The flag of compression without `grpc-encoding`.
    #[error("protocol error: sent compressed message without compression support")]
    NoEncoding,
    /// The message is over the limit.
    #[error("message size {bytes} is larger than configured max {bytes_max}")]
    TooLarge {
        /// The frame's length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Bytes after trailers.
    #[error("protocol error: extra bytes after end of stream")]
    AfterEnd,
}

impl FrameError {
    /// What the client is told.
    pub(in crate::http) fn failure(&self) -> Failure {
        let (code, reason) = match self {
            Self::TooLarge { .. } => {
                let failure =
                    Failure::new(Code::ResourceExhausted, BODY_TOO_LARGE_REASON, self.to_string());
                return failure.with_retry(Retry::Never);
            }
            // "Cardinality violations" are unimplemented, by the list of gRPC's codes.
            Self::NoMessage | Self::SecondMessage => (Code::Unimplemented, ""),
            Self::ShortHead
            | Self::Short { .. }
            | Self::Flags(_)
            | Self::NoEncoding
            | Self::AfterEnd => (Code::Internal, ""),
        };
        Failure::new(code, reason, self.to_string())
    }
}

/// Where in a body a reader is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In flags and length.
    Head,
    /// In the message.
    Message,
    /// In trailers (gRPC-Web).
    Trailers,
    /// After trailers.
    End,
}

/// Takes the one message out of a body.
#[derive(Debug)]
pub(in crate::http) struct FrameReader {
    web: bool,
    takes_compressed: bool,
    message_bytes_max: usize,
    place: Place,
    head: [u8; HEAD_BYTES],
    head_len: usize,
    /// Length of the frame under way, and what has not come of it.
    frame_bytes: usize,
    left_bytes: usize,
    /// Whether the message is compressed, once its head was read.
    message: Option<bool>,
}

impl FrameReader {
    /// A reader of messages up to a size; `takes_compressed` when the request names an encoding.
    pub(in crate::http) fn new(
        web: bool,
        takes_compressed: bool,
        message_bytes_max: usize,
    ) -> Self {
        Self {
            web,
            takes_compressed,
            message_bytes_max,
            place: Place::Head,
            head: [0; HEAD_BYTES],
            head_len: 0,
            frame_bytes: 0,
            left_bytes: 0,
            message: None,
        }
    }

    /// Takes bytes off the front, at least one; gives those that are the message's.
    pub(in crate::http) fn step<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<&'a [u8], FrameError> {
        let wanted = match self.place {
            Place::Head => HEAD_BYTES - self.head_len,
            Place::Message | Place::Trailers => self.left_bytes,
            Place::End => return Err(FrameError::AfterEnd),
        };
        let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
        *bytes = rest;
        if self.place == Place::Head {
            self.head[self.head_len..][..taken.len()].copy_from_slice(taken);
            self.head_len += taken.len();
            if self.head_len == HEAD_BYTES {
                self.head_len = 0;
                self.begin()?;
            }
            return Ok(&[]);
        }
        self.left_bytes -= taken.len();
        let is_message = self.place == Place::Message;
        if self.left_bytes == 0 {
            self.end_frame();
        }
        Ok(if is_message { taken } else { &[] })
    }

    /// The head is complete.
    fn begin(&mut self) -> Result<(), FrameError> {
        let [flags, length @ ..] = self.head;
        let bytes = u32::from_be_bytes(length) as usize;
        let (place, bytes_max) = match flags & !COMPRESSED {
            0 if self.message.is_some() => return Err(FrameError::SecondMessage),
            0 => (Place::Message, self.message_bytes_max),
            TRAILERS if self.web => (Place::Trailers, TRAILERS_BYTES_MAX),
            _ => return Err(FrameError::Flags(flags)),
        };
        let compressed = flags & COMPRESSED != 0;
        if compressed && !self.takes_compressed {
            return Err(FrameError::NoEncoding);
        }
        if bytes > bytes_max {
            return Err(FrameError::TooLarge { bytes, bytes_max });
        }
        if place == Place::Message {
            // A message without bytes is the default one, whatever its flag says.
            self.message = Some(compressed && bytes > 0);
        }
        (self.place, self.frame_bytes, self.left_bytes) = (place, bytes, bytes);
        if bytes == 0 {
            self.end_frame();
        }
        Ok(())
    }

    fn end_frame(&mut self) {
        self.place = if self.place == Place::Trailers { Place::End } else { Place::Head };
    }

    /// The body has ended; whether the message is compressed.
    pub(in crate::http) fn finish(&self) -> Result<bool, FrameError> {
        match self.place {
            Place::Head if self.head_len > 0 => Err(FrameError::ShortHead),
            Place::Message | Place::Trailers => Err(FrameError::Short {
                promised: self.frame_bytes,
                got: self.frame_bytes - self.left_bytes,
            }),
            Place::Head | Place::End => self.message.ok_or(FrameError::NoMessage),
        }
    }
}

#[cfg(test)]
mod tests;
