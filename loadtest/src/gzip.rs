//! One gzip member whose beginning is compressed ahead and whose end is written for each push.
//!
//! ```text
//! header │ deflate blocks of the shared part, ended on a byte │ stored blocks of the push's own part │ crc, length
//! └────────────── Opening, made once ───────────────────────┘ └────────── finish, for each push ──────────────┘
//! ```
//! A second member would do the same, but agents send one, and a server may take another way through two.

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Magic, deflate, no flags, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Bytes of a stored block; its length has 16 bits.
const STORED_MAX: usize = u16::MAX as usize;

/// Room that a call of the compressor finds.
const ROOM: usize = 32 << 10;

/// The shared beginning of members.
#[derive(Debug)]
pub struct Opening {
    bytes: Vec<u8>,
    crc: Crc,
}

impl Opening {
    /// Compresses the shared part.
    pub fn new(shared: &[u8], level: Compression) -> Self {
        let mut bytes = HEADER.to_vec();
        let mut compress = Compress::new(level, false);
        loop {
            bytes.reserve(ROOM);
            let taken = usize::try_from(compress.total_in()).expect("a length of a slice");
            compress
                .compress_vec(&shared[taken..], &mut bytes, FlushCompress::Sync)
                .expect("memory is compressed without errors");
            // All is taken and there was room to spare: the flush is complete.
            if compress.total_in() == shared.len() as u64 && bytes.len() < bytes.capacity() {
                break;
            }
        }
        let mut crc = Crc::new();
        crc.update(shared);
        Self { bytes, crc }
    }

    /// The first bytes of every member.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends the rest of a member that ends with `own`.
    pub fn finish(&self, own: &[u8], out: &mut Vec<u8>) {
        let mut blocks = own.chunks(STORED_MAX).peekable();
        if blocks.peek().is_none() {
            out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
        }
        while let Some(block) = blocks.next() {
            let len = block.len() as u16;
            out.push(u8::from(blocks.peek().is_none()));
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&(!len).to_le_bytes());
            out.extend_from_slice(block);
        }
        let mut crc = Crc::new();
        crc.combine(&self.crc);
        let mut own_crc = Crc::new();
        own_crc.update(own);
        crc.combine(&own_crc);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_member_of_any_sizes_inflates_to_both_parts() {
        for shared_len in [0, 1, 1_000, 300_000] {
            let shared: Vec<u8> = (0..shared_len).map(|i| crate::random::mix(i) as u8).collect();
            let opening = Opening::new(&shared, Compression::fast());
            for own_len in [0, 10, STORED_MAX, STORED_MAX + 1, 200_000] {
                let own: Vec<u8> = (0..own_len).map(|i| (i % 251) as u8).collect();
                let mut member = opening.bytes().to_vec();
                opening.finish(&own, &mut member);
                let mut plain = Vec::new();
                let mut decoder = flate2::bufread::GzDecoder::new(member.as_slice());
                decoder.read_to_end(&mut plain).unwrap();
                assert_eq!(plain, [shared.as_slice(), &own].concat());
                assert!(decoder.into_inner().is_empty(), "one member and nothing behind it");
            }
        }
    }
}
