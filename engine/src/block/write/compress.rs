//! zstd in pieces: no step compresses more than [`Level::piece_bytes`].

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, compress_bound};

use crate::pace::Pace;

/// zstd in memory fails where its output does not fit, and room is made for the worst.
const IN_MEMORY: &str = "zstd compresses what there is room for";

/// How hard zstd tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Level {
    /// For values, of which there are many.
    Fast,
    /// For symbols, which many profiles share.
    Small,
}

impl Level {
    fn number(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Small => 6,
        }
    }

    /// Bytes that are compressed in one go: each piece is a block of zstd's, and some 0.3 ms.
    fn piece_bytes(self) -> usize {
        match self {
            Self::Fast => 32 << 10,
            Self::Small => 16 << 10,
        }
    }

    /// Units of a pace that it takes to begin a frame: the tables of a level are made, and cleared.
    fn frame_units(self) -> usize {
        match self {
            Self::Fast => 512,
            Self::Small => 4096,
        }
    }

    /// Bytes that take as long as a unit of a pace.
    fn bytes_per_unit(self) -> usize {
        match self {
            Self::Fast => 16,
            Self::Small => 4,
        }
    }
}

/// A context that is used for one frame after the other.
pub(in super::super) struct Compressor {
    context: CCtx<'static>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    pub(in super::super) fn new() -> Self {
        Self { context: CCtx::create() }
    }

    /// Heap bytes held.
    pub(in super::super) fn bytes_held(&self) -> usize {
        self.context.sizeof()
    }

    /// One frame behind what is in `out`.
    pub(in super::super) async fn compress(
        &mut self,
        bytes: &[u8],
        level: Level,
        pace: &Pace,
        out: &mut Vec<u8>,
    ) {
        let context = &mut self.context;
        context.set_parameter(CParameter::CompressionLevel(level.number())).expect(IN_MEMORY);
        context.set_pledged_src_size(Some(bytes.len() as u64)).expect(IN_MEMORY);
        let mut pieces = bytes.chunks(level.piece_bytes()).peekable();
        let mut frame_units = level.frame_units();
        loop {
            let piece = pieces.next().unwrap_or_default();
            let is_last = pieces.peek().is_none();
            let units = std::mem::take(&mut frame_units) + piece.len() / level.bytes_per_unit();
            pace.make_room(units).await;
            let end = if is_last {
                ZSTD_EndDirective::ZSTD_e_end
            } else {
                ZSTD_EndDirective::ZSTD_e_flush
            };
            let mut input = InBuffer::around(piece);
            loop {
                out.reserve(compress_bound(piece.len()));
                let length = out.len();
                let mut output = OutBuffer::around_pos(out, length);
                let left = context.compress_stream2(&mut output, &mut input, end);
                if left.expect(IN_MEMORY) == 0 {
                    break;
                }
            }
            pace.spend(units).await;
            if is_last {
                return;
            }
        }
    }
}
