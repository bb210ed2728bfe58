//! Gzip undone in pieces, up to a limit.

use std::io::Read;

use bytes::{Buf, Bytes, buf::Reader};
use flate2::bufread::MultiGzDecoder;

/// Bytes inflated in one step: some hundred microseconds.
const STEP_BYTES: usize = 256 << 10;

/// Whether bytes begin as gzip does.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Why inflating ended.
#[derive(Debug)]
pub(super) enum GunzipError {
    /// More than the limit.
    TooLarge,
    /// Not gzip, or cut short.
    Damaged(std::io::Error),
}

/// Inflates one body, all its gzip members.
pub(super) struct Gunzip {
    decoder: MultiGzDecoder<Reader<Bytes>>,
    inflated: Vec<u8>,
    bytes_max: usize,
}

impl Gunzip {
    /// `bytes_max` bounds what comes out, whatever the trailer claims.
    pub(super) fn new(body: Bytes, bytes_max: usize) -> Self {
        Self { decoder: MultiGzDecoder::new(body.reader()), inflated: Vec::new(), bytes_max }
    }

    /// The next piece; `true` when it was the last.
    pub(super) fn step(&mut self) -> Result<bool, GunzipError> {
        let room = (self.bytes_max - self.inflated.len()).saturating_add(1); // one more than allowed tells too large from full
        let piece = room.min(STEP_BYTES) as u64;
        let got = (&mut self.decoder)
            .take(piece)
            .read_to_end(&mut self.inflated)
            .map_err(GunzipError::Damaged)?;
        if self.inflated.len() > self.bytes_max {
            return Err(GunzipError::TooLarge);
        }
        Ok((got as u64) < piece)
    }

    /// What was inflated.
    pub(super) fn finish(self) -> Bytes {
        self.inflated.into()
    }
}

impl std::fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gunzip")
            .field("inflated_bytes", &self.inflated.len())
            .finish_non_exhaustive()
    }
}

/// Whether the first inflated bytes are gzip again (a `Content-Encoding` round a profile that was compressed already).
pub(super) fn holds_gzip(body: &Bytes) -> bool {
    let mut first = [0; 2];
    MultiGzDecoder::new(body.clone().reader()).read_exact(&mut first).is_ok() && is_gzip(&first)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(body: Vec<u8>, bytes_max: usize) -> Result<Bytes, GunzipError> {
        let mut gunzip = Gunzip::new(body.into(), bytes_max);
        while !gunzip.step()? {}
        Ok(gunzip.finish())
    }

    #[test]
    fn all_members_are_inflated_up_to_the_limit() {
        let two = [gzip(b"abc"), gzip(b"def")].concat();
        assert_eq!(gunzip(two.clone(), 6).unwrap(), "abcdef");
        assert!(matches!(gunzip(two, 5), Err(GunzipError::TooLarge)));
        assert_eq!(gunzip(gzip(b""), 0).unwrap(), "");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 8 << 20]);
        assert!(bomb.len() < 128 << 10, "the bomb is small: {}", bomb.len());
        let mut gunzip = Gunzip::new(bomb.into(), 1 << 20);
        let steps = (1..=100).find(|_| !matches!(gunzip.step(), Ok(false))).unwrap();
        assert!(steps <= 5, "stopped after {steps} steps of {STEP_BYTES} bytes");
        assert!(
            gunzip.inflated.capacity() <= 4 << 20,
            "never more than a growth step above the limit"
        );
    }

    #[test]
    fn what_was_cut_short_is_damaged() {
        let whole = gzip(b"some text that is long enough to be cut");
        for len in 0..whole.len() {
            let result = gunzip(whole[..len].to_vec(), 1 << 20);
            assert!(
                matches!(result, Err(GunzipError::Damaged(_))) || len == 0,
                "cut at {len}: {result:?}"
            );
        }
    }

    #[test]
    fn gzip_in_gzip_is_seen() {
        assert!(holds_gzip(&gzip(&gzip(b"x")).into()));
        assert!(!holds_gzip(&gzip(b"xyz").into()));
        assert!(!holds_gzip(&gzip(b"").into()));
        assert!(!holds_gzip(&Bytes::from_static(b"\x1f\x8bgarbage")));
    }

    #[test]
    fn any_bytes_inflate_or_are_damaged() {
        bolero::check!().with_type().for_each(|(bytes, wrap): &(Vec<u8>, bool)| {
            let body = if *wrap { gzip(bytes) } else { bytes.clone() };
            if let Ok(inflated) = gunzip(body, 1 << 16) {
                assert!(inflated.len() <= 1 << 16);
            }
        });
    }
}
