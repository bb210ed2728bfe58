//! The node's pool of memory: one limit, of which shards hold leases, and what nobody accounts.
//!
//! ```text
//! 0 ───── leases of the shards ─────┬── free ──┬── unaccounted ──┤ limit
//!                                   │          │  (real memory less what is accounted, `rss`)
//!                                   └► slices go to whoever needs them, and come back when the need falls
//! ```
//! Invariants
//! - The sum of the leases never exceeds the limit. Whoever needs more than is left is refused, or overdrawn where the memory
//!   is taken already: then its lease stays below what it uses, and everything is refused until it fits again.
//! - A lease is granted only as far as it leaves room for what is unaccounted.
//!
//! The pool's numbers guard nothing but themselves, so their order with other memory is of no matter (relaxed).

use std::sync::atomic::{AtomicU64, Ordering};

/// Slices that the limit makes for each shard: small enough that what shards have and do not use is a sixty-fourth of it (two
/// slices each at most), large enough that the pool is asked once for many admissions.
const SLICES_PER_SHARD: u64 = 128;

/// Bytes of a slice at most: more would save nothing, for few bodies are larger.
const SLICE_BYTES_MAX: u64 = 1 << 20;

/// Numbers that all shards share.
#[derive(Debug)]
pub(super) struct Pool {
    limit_bytes: u64,
    slice_bytes: u64,
    /// Sum of all leases.
    leased_bytes: AtomicU64,
    /// What shards account beyond their leases.
    overdrawn_bytes: AtomicU64,
    /// What the process holds beside what is accounted.
    unaccounted_bytes: AtomicU64,
    /// Shards whose cutter is making room, or will try again.
    cutting: AtomicU64,
    /// Real memory at the last look; 0 before the first.
    rss_bytes: AtomicU64,
    /// What each shard accounts: written by the shard alone.
    accounted_bytes: Box<[AtomicU64]>,
}

impl Pool {
    pub(super) fn new(limit_bytes: u64, shards_count: u16) -> Self {
        let slices = SLICES_PER_SHARD * u64::from(shards_count).max(1);
        Self {
            limit_bytes,
            slice_bytes: (limit_bytes / slices).min(SLICE_BYTES_MAX),
            leased_bytes: AtomicU64::new(0),
            overdrawn_bytes: AtomicU64::new(0),
            unaccounted_bytes: AtomicU64::new(0),
            cutting: AtomicU64::new(0),
            rss_bytes: AtomicU64::new(0),
            accounted_bytes: (0..shards_count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(super) fn shards_count(&self) -> u16 {
        self.accounted_bytes.len() as u16
    }

    /// How much a lease grows and shrinks by, where it can.
    pub(super) fn slice_bytes(&self) -> u64 {
        self.slice_bytes
    }

    pub(super) fn leased_bytes(&self) -> u64 {
        self.leased_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn unaccounted_bytes(&self) -> u64 {
        self.unaccounted_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn rss_bytes(&self) -> u64 {
        self.rss_bytes.load(Ordering::Relaxed)
    }

    /// Sum over the shards.
    pub(super) fn accounted_bytes(&self) -> u64 {
        self.accounted_bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn set_accounted(&self, shard: usize, bytes: u64) {
        self.accounted_bytes[shard].store(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_cutting(&self) -> bool {
        self.cutting.load(Ordering::Relaxed) > 0
    }

    /// One shard's cutter begins or ends to be at work.
    pub(super) fn set_cutting(&self, is_at_work: bool) {
        if is_at_work {
            self.cutting.fetch_add(1, Ordering::Relaxed);
        } else {
            self.cutting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes what a look at the process found.
    pub(super) fn set_real(&self, rss_bytes: u64, unaccounted_bytes: u64) {
        self.rss_bytes.store(rss_bytes, Ordering::Relaxed);
        self.unaccounted_bytes.store(unaccounted_bytes, Ordering::Relaxed);
    }

    /// Takes the change of a shard's overdraft in.
    pub(super) fn overdraw(&self, before: u64, now: u64) {
        // Wrapping: the sum of the changes is what counts.
        self.overdrawn_bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Bytes of leases that `percent` of the limit has room for beside what is overdrawn and what is unaccounted; `None` where
    /// these alone are more.
    pub(super) fn cap_bytes(&self, percent: u64) -> Option<u64> {
        let part = u128::from(self.limit_bytes) * u128::from(percent) / 100;
        let others = self.overdrawn_bytes.load(Ordering::Relaxed) + self.unaccounted_bytes();
        (part as u64).checked_sub(others)
    }

    /// Adds to a lease as long as all leases stay within `cap_bytes`: `wanted` bytes, else `needed`, else nothing. What was
    /// added.
    pub(super) fn take(&self, needed: u64, wanted: u64, cap_bytes: u64) -> u64 {
        debug_assert!(needed <= wanted, "{needed} of {wanted} bytes are needed");
        let cap_bytes = cap_bytes.min(self.limit_bytes);
        let mut leased = self.leased_bytes();
        loop {
            let room = cap_bytes.saturating_sub(leased);
            let taken = match room {
                room if room >= wanted => wanted,
                room if room >= needed => needed,
                _ => return 0,
            };
            match self.exchange(leased, leased + taken) {
                Ok(()) => return taken,
                Err(now) => leased = now,
            }
        }
    }

    /// Adds what there is of `wanted` to a lease, for memory that is taken already.
    pub(super) fn take_what_is_left(&self, wanted: u64) -> u64 {
        let mut leased = self.leased_bytes();
        loop {
            let taken = wanted.min(self.limit_bytes - leased);
            match self.exchange(leased, leased + taken) {
                Ok(()) => return taken,
                Err(now) => leased = now,
            }
        }
    }

    pub(super) fn give_back(&self, bytes: u64) {
        let before = self.leased_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(bytes <= before, "{bytes} bytes are given back of {before} leased");
    }

    fn exchange(&self, from: u64, to: u64) -> Result<(), u64> {
        assert!(to <= self.limit_bytes, "leases of {to} bytes exceed {} bytes", self.limit_bytes);
        let (relaxed, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        self.leased_bytes.compare_exchange_weak(from, to, relaxed, failed).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_granted_whole_or_as_needed_or_not_at_all() {
        let pool = Pool::new(1000, 1);
        assert_eq!(pool.take(10, 600, 1000), 600);
        assert_eq!(pool.take(10, 600, 1000), 10, "no room for all that is wanted");
        assert_eq!(pool.take(10, 600, 615), 0, "no room for what is needed");
        assert_eq!(pool.take_what_is_left(500), 390);
        assert_eq!(pool.leased_bytes(), 1000);
        pool.give_back(1000);
        assert_eq!(pool.leased_bytes(), 0);
    }

    #[test]
    fn what_is_unaccounted_leaves_less_to_lease() {
        let pool = Pool::new(1000, 1);
        pool.set_real(700, 300);
        assert_eq!((pool.cap_bytes(100), pool.cap_bytes(90)), (Some(700), Some(600)));
        pool.overdraw(0, 50);
        assert_eq!(pool.cap_bytes(100), Some(650));
        pool.overdraw(50, 10);
        assert_eq!(pool.cap_bytes(100), Some(690));
        pool.set_real(2000, 1900);
        assert_eq!(pool.cap_bytes(100), None);
    }

    /// Threads take and give back at once; the pool asserts at every step.
    #[test]
    fn leases_taken_at_once_never_exceed_the_limit() {
        let pool = Pool::new(10_000, 4);
        std::thread::scope(|threads| {
            for seed in 1..5_u64 {
                let pool = &pool;
                threads.spawn(move || {
                    let (mut word, mut lease) = (seed, 0);
                    for _ in 0..20_000 {
                        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let bytes = word >> 52;
                        match word >> 32 & 3 {
                            0 => lease += pool.take(bytes, bytes * 2, 9_000),
                            1 => lease += pool.take_what_is_left(bytes),
                            _ => {
                                let back = bytes.min(lease);
                                pool.give_back(back);
                                lease -= back;
                            }
                        }
                        assert!(pool.leased_bytes() <= 10_000);
                    }
                    pool.give_back(lease);
                });
            }
        });
        assert_eq!(pool.leased_bytes(), 0);
    }
}
