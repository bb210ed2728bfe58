//! Corpora, and an allocator that counts, for the benches.
