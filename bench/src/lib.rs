//! Corpora, an allocator that counts, and a naive rival, for the benches.
//!
//! Benches time what ships, through its public face. Figures, machine and commands are in `docs/benchmarks.md`; tests of this
//! crate hold what does not depend on the machine: allocations, bytes, and that a head equals the naive oracle.

pub mod allocation;
pub mod corpus;
pub mod cpu_clock;
pub mod naive;
pub mod pipeline;
pub mod population;
