//! Distinct contents in order of first appearance, each with a dense number: what merging parts of shards needs.
//!
//! Equality is decided by content, so a hash that two contents share costs time and nothing else; texts are hashed with the
//! process's secret, so that a tenant cannot choose texts that share one.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

use crate::hash::HashSecret;

/// Distinct texts.
#[derive(Debug)]
pub struct Texts {
    secret: HashSecret,
    texts: Vec<String>,
    rows: HashTable<u32>,
}

impl Texts {
    /// No texts yet.
    pub fn new(secret: &HashSecret) -> Self {
        Self { secret: secret.clone(), texts: Vec::new(), rows: HashTable::new() }
    }

    /// The number of a text, new or known.
    pub fn intern(&mut self, text: &str) -> u32 {
        let hash = self.secret.table(text.as_bytes());
        if let Some(row) = self.rows.find(hash, |row| self.texts[*row as usize] == text) {
            return *row;
        }
        let row = row_number(self.texts.len());
        self.texts.push(text.to_owned());
        let (texts, secret) = (&self.texts, &self.secret);
        self.rows.insert_unique(hash, row, |row| secret.table(texts[*row as usize].as_bytes()));
        row
    }

    /// The number of a known text.
    pub fn find(&self, text: &str) -> Option<u32> {
        let hash = self.secret.table(text.as_bytes());
        self.rows.find(hash, |row| self.texts[*row as usize] == text).copied()
    }

    /// All texts, by number.
    pub fn as_slice(&self) -> &[String] {
        &self.texts
    }

    /// Gives the texts up, by number.
    pub fn into_vec(self) -> Vec<String> {
        self.texts
    }
}

/// Distinct rows of small integers (a function, a location, a node), whose parts were interned already.
#[derive(Debug)]
pub struct Rows<T> {
    rows: Vec<T>,
    numbers: HashTable<u32>,
    hasher: Mixing,
}

impl<T: Hash + Eq> Rows<T> {
    /// No rows yet.
    pub fn new(secret: &HashSecret) -> Self {
        let hasher = Mixing { key: secret.table(b"rows") };
        Self { rows: Vec::new(), numbers: HashTable::new(), hasher }
    }

    /// The number of a row, and whether it is new.
    pub fn intern(&mut self, row: T) -> (u32, bool) {
        let hash = self.hasher.hash_one(&row);
        if let Some(number) = self.numbers.find(hash, |number| self.rows[*number as usize] == row) {
            return (*number, false);
        }
        let number = row_number(self.rows.len());
        self.rows.push(row);
        let (rows, hasher) = (&self.rows, &self.hasher);
        self.numbers.insert_unique(hash, number, |number| hasher.hash_one(&rows[*number as usize]));
        (number, true)
    }

    /// All rows, by number.
    pub fn as_slice(&self) -> &[T] {
        &self.rows
    }

    /// Gives the rows up, by number.
    pub fn into_vec(self) -> Vec<T> {
        self.rows
    }
}

fn row_number(len: usize) -> u32 {
    assert!(len < u32::MAX as usize, "an answer has fewer than 2^32 - 1 rows of a kind");
    len as u32
}

/// Multiplies and folds word by word. Keys are row numbers of ours, which nobody outside chooses one by one.
#[derive(Clone, Copy, Debug)]
struct Mixing {
    key: u64,
}

impl BuildHasher for Mixing {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer(self.key)
    }
}

/// State of one hash.
struct Mixer(u64);

impl std::hash::Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(0x9E37_79B9_7F4A_7C15_u64);
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ word.rotate_left(32);
    }

    fn write_i64(&mut self, word: i64) {
        self.write_u64(word.cast_unsigned());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.0) * u128::from(0xD6E8_FEB8_6659_FD93_u64);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> HashSecret {
        let mut word = 0;
        HashSecret::from_words(|| {
            word += 1;
            word
        })
    }

    #[test]
    fn numbers_are_dense_and_stay() {
        let mut texts = Texts::new(&secret());
        let first: Vec<u32> = (0..1000).map(|i| texts.intern(&format!("t{i}"))).collect();
        assert_eq!(first, (0..1000).collect::<Vec<_>>());
        assert!((0..1000).all(|i| texts.intern(&format!("t{i}")) == i));
        assert_eq!(texts.find("t7"), Some(7));
        assert_eq!(texts.find("nope"), None);

        let mut rows = Rows::new(&secret());
        assert_eq!(rows.intern((1_u32, 2_u32)), (0, true));
        assert_eq!(rows.intern((2, 1)), (1, true));
        assert_eq!(rows.intern((1, 2)), (0, false));
    }

    #[test]
    fn neighbouring_pairs_spread_over_the_table() {
        let hasher = Mixing { key: secret().table(b"rows") };
        let mut low_bits = vec![0_u32; 4096];
        for parent in 0..256_u32 {
            for name in 0..256_u32 {
                low_bits[(hasher.hash_one((parent, name)) & 4095) as usize] += 1;
            }
        }
        let most = low_bits.iter().max().unwrap();
        assert!(*most < 48, "{most} of 65536 pairs fall on one of 4096 places; 16 would be even");
    }
}
