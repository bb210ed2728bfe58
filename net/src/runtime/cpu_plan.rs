//! Which shard runs on which CPU.
//!
//! One shard a CPU, pinned, as long as there are CPUs to pin to: one fewer than CPUs above four, where a core is worth more
//! to interrupts and the kernel's I/O workers than to one more shard. More shards than CPUs (tests on small machines, `-shards`) or a CPU quota below the
//! number of CPUs leave the shards unpinned within the allowed CPUs: a pinned shard could then wait for its CPU while another is idle.
//! No runtime spins before it sleeps: on a shared CPU a spinning shard would take its neighbour's time. Threads that only help (disk,
//! watchdog, log) may run on every allowed CPU.

use std::io;
use std::mem;

/// Above so many CPUs one is left to interrupts and other threads.
const CPUS_ALL_USED_MAX: usize = 4;

/// Most shards of a process: shard numbers are 16 bits wide, and the mesh has a queue for every pair.
pub const SHARDS_MAX: u16 = 1024;

/// Where a shard runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// On one CPU, alone.
    Pinned(usize),
    /// On whichever of these CPUs is free.
    Fenced(Vec<usize>),
}

/// The CPUs this process may use: its affinity mask, and what its CPU quota amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// CPU numbers of the affinity mask that are online (the kernel tells no others), ascending.
    pub allowed: Vec<usize>,
    /// CPUs' worth of time the process gets (mask and quota), at least 1.
    pub budget: usize,
}

impl Cpus {
    /// Asks the kernel. Quotas of both versions of control groups count; a fraction of a CPU is rounded down.
    pub fn of_this_process() -> io::Result<Self> {
        let allowed = affinity()?;
        let budget = std::thread::available_parallelism()?.get().min(allowed.len()).max(1);
        Ok(Self { allowed, budget })
    }

    /// Shards when the user names no number.
    pub fn shards_default(&self) -> u16 {
        let shards = if self.budget > CPUS_ALL_USED_MAX { self.budget - 1 } else { self.budget };
        u16::try_from(shards).unwrap_or(SHARDS_MAX).min(SHARDS_MAX)
    }

    /// A seat for each of `shards_count` shards. The first CPU is the one left free: interrupts go there by default.
    pub fn seats(&self, shards_count: u16) -> Vec<Seat> {
        let shards_count = usize::from(shards_count);
        let has_quota = self.budget < self.allowed.len();
        if shards_count > self.allowed.len() || has_quota {
            return vec![Seat::Fenced(self.allowed.clone()); shards_count];
        }
        let free = self.allowed.len() - shards_count;
        self.allowed[free..].iter().map(|cpu| Seat::Pinned(*cpu)).collect()
    }
}

fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: a zeroed `cpu_set_t` is an empty set; the call writes at most the size it is given; `CPU_ISSET` reads below it.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(allowed: &[usize], budget: usize) -> Cpus {
        Cpus { allowed: allowed.to_vec(), budget }
    }

    #[test]
    fn up_to_four_cpus_are_all_used_and_above_one_stays_free() {
        for (budget, shards) in [(1, 1), (2, 2), (4, 4), (5, 4), (64, 63)] {
            let allowed: Vec<usize> = (0..budget).collect();
            assert_eq!(cpus(&allowed, budget).shards_default(), shards, "{budget} CPUs");
        }
    }

    #[test]
    fn shards_are_pinned_while_there_are_cpus_and_the_first_cpu_stays_free() {
        assert_eq!(cpus(&[2, 5], 2).seats(2), [Seat::Pinned(2), Seat::Pinned(5)]);
        assert_eq!(cpus(&[2, 5], 2).seats(1), [Seat::Pinned(5)]);
    }

    #[test]
    fn more_shards_than_cpus_or_a_quota_leave_shards_unpinned() {
        assert_eq!(cpus(&[0, 1], 2).seats(3), vec![Seat::Fenced(vec![0, 1]); 3]);
        assert_eq!(cpus(&[0, 1, 2, 3], 2).seats(2), vec![Seat::Fenced(vec![0, 1, 2, 3]); 2]);
    }

    #[test]
    fn this_process_may_use_some_cpu() {
        let cpus = Cpus::of_this_process().unwrap();
        assert!(!cpus.allowed.is_empty());
        assert!(1 <= cpus.budget && cpus.budget <= cpus.allowed.len());
    }
}
