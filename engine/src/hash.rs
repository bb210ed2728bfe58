//! Keyed 128-bit content hashes: what stands for the content of a string, function, location or stack in a head.
//!
//! Two contents are taken for equal when their hashes are. That is exact enough only because the hash is 128 bits wide and
//! keyed with a secret drawn at start: a tenant chooses its strings, but cannot search for a collision it cannot compute.
//! (Decision and numbers: `docs/decisions/`.)

use xxhash_rust::xxh3::{xxh3_64_with_secret, xxh3_128_with_secret};

/// Bytes of an xxh3 secret.
const SECRET_BYTES: usize = 192;

/// The process's secret; hashes of two secrets are unrelated, so a hash never leaves the process.
#[derive(Clone)]
pub struct HashSecret([u8; SECRET_BYTES]);

impl std::fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashSecret(…)")
    }
}

impl HashSecret {
    /// Fills the secret from a source of random words; the engine draws none itself.
    pub fn from_words(mut next_u64: impl FnMut() -> u64) -> Self {
        let mut bytes = [0; SECRET_BYTES];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&next_u64().to_le_bytes());
        }
        Self(bytes)
    }

    /// Hash of a run of bytes.
    #[inline]
    pub fn content(&self, bytes: &[u8]) -> u128 {
        xxh3_128_with_secret(bytes, &self.0)
    }

    /// A 64-bit hash for tables that verify their hits.
    #[inline]
    pub fn table(&self, bytes: &[u8]) -> u64 {
        xxh3_64_with_secret(bytes, &self.0)
    }
}
