//! Real memory: what the kernel says the process holds, and how much of it nobody accounts.
//!
//! Accounts know capacities; they do not know the allocator's slack and what it has not given back yet, stacks, code, rings, nor
//! what was forgotten. The difference between real and accounted memory is charged to the pool. It rises at once and falls
//! slowly: what the allocator keeps for a while is memory, and a fall may be a pause between two rises. But what was accounted
//! and was let go of, the heads that a block replaces, is charged no longer than the process holds it.
//!
//! One ordinary thread looks, so that a shard never waits for `/proc`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;
use std::time::Duration;

use super::Budget;

/// How often real memory is looked at. A node that takes 2 GB/s from the network grows by 40 MB between two looks, all of it
/// admitted; reading the file takes some 5 µs.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Of what is unaccounted no more, this part is forgotten at every look: half of it within a second.
const FALL_DIVISOR: u64 = 72;

/// Looks at the process's memory until it is dropped.
#[derive(Debug)]
pub struct RssWatch {
    _alive: mpsc::Sender<()>,
}

impl RssWatch {
    /// Looks once, then from a thread of its own. Without `/proc` nothing is corrected, which is an error to tell.
    pub fn start(budget: Budget) -> io::Result<Self> {
        let statm = Statm::open()?;
        let mut looks = Looks::default();
        budget.note_rss(&mut looks, statm.rss_bytes()?);
        let (alive, ended) = mpsc::channel::<()>();
        std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
            while ended.recv_timeout(LOOK_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                // The file was read before; should it ever fail, the last look stands.
                if let Ok(rss_bytes) = statm.rss_bytes() {
                    budget.note_rss(&mut looks, rss_bytes);
                }
            }
        })?;
        Ok(Self { _alive: alive })
    }
}

/// What is charged as unaccounted, from look to look.
#[derive(Debug, Default)]
pub(super) struct Looks {
    unaccounted_bytes: u64,
    rss_bytes: u64,
    accounted_bytes: u64,
    /// Of what is charged, this was accounted before.
    let_go_bytes: u64,
}

impl Looks {
    /// Takes a look in; gives what is charged after it.
    pub(super) fn look(&mut self, rss_bytes: u64, accounted_bytes: u64) -> u64 {
        self.let_go_bytes += self.accounted_bytes.saturating_sub(accounted_bytes);
        // The kernel has it back, or what is accounted since then has taken its place.
        let returned_bytes = self.rss_bytes.saturating_sub(rss_bytes)
            + accounted_bytes.saturating_sub(self.accounted_bytes);
        let gone_bytes = returned_bytes.min(self.let_go_bytes);
        self.let_go_bytes -= gone_bytes;
        let before = self.unaccounted_bytes.saturating_sub(gone_bytes);
        let now = rss_bytes.saturating_sub(accounted_bytes);
        self.unaccounted_bytes =
            if now >= before { now } else { before - (before - now).div_ceil(FALL_DIVISOR) };
        self.let_go_bytes = self.let_go_bytes.min(self.unaccounted_bytes);
        (self.rss_bytes, self.accounted_bytes) = (rss_bytes, accounted_bytes);
        self.unaccounted_bytes
    }
}

/// `/proc/self/statm`, kept open.
#[derive(Debug)]
struct Statm {
    file: File,
    page_bytes: u64,
}

impl Statm {
    fn open() -> io::Result<Self> {
        // SAFETY: the call has no preconditions.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = u64::try_from(page_bytes).map_err(io::Error::other)?;
        Ok(Self { file: File::open("/proc/self/statm")?, page_bytes })
    }

    /// Resident bytes, those of files that are mapped included.
    fn rss_bytes(&self) -> io::Result<u64> {
        let mut bytes = [0; 128];
        let len = self.file.read_at(&mut bytes, 0)?;
        let text = std::str::from_utf8(&bytes[..len]).map_err(io::Error::other)?;
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let pages = pages.ok_or_else(|| io::Error::other("statm has a second number"))?;
        Ok(pages * self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unaccounted_rises_at_once_and_falls_by_half_in_a_second() {
        let mut looks = Looks::default();
        assert_eq!(looks.look(410, 400), 10);
        assert_eq!(looks.look(1000, 400), 600);
        let mut looks = Looks::default();
        assert_eq!(looks.look(410, 400), 10);
        assert_eq!(looks.look(410, 2000), 9, "untouched capacity");
        let second = Duration::from_secs(1).as_millis() / LOOK_INTERVAL.as_millis();
        let mut looks = Looks::default();
        looks.look(5 + (1 << 30), 5);
        let left = (0..second).fold(0, |_, _| looks.look(5, 5));
        assert!((0.45..0.55).contains(&(left as f64 / f64::from(1 << 30))), "{left}");
        let settled = (0..10_000).fold(0, |_, _| looks.look(7, 5));
        assert_eq!(settled, 2, "the last byte falls, too");
    }

    /// A cut lets go of a hundred megabytes at once: for a second they were charged beside the heads that grew in their place, and
    /// reads were refused by memory that nothing held.
    #[test]
    fn what_was_accounted_is_charged_no_longer_than_it_is_held() {
        let mut looks = Looks::default();
        assert_eq!(looks.look(200, 130), 70);
        assert_eq!(looks.look(200, 20), 180, "the process still holds what a cut let go of");
        assert_eq!(looks.look(150, 20), 130, "and here no more");
        assert_eq!(looks.look(150, 60), 90, "heads grow where others were");
        assert_eq!(looks.look(130, 60), 70, "the last of it");
        assert_eq!(looks.look(100, 60), 69, "what never was accounted falls slowly");
        assert_eq!(looks.look(300, 60), 240, "and rises at once");
    }

    #[test]
    fn memory_that_is_touched_is_seen() {
        let statm = Statm::open().unwrap();
        let before = statm.rss_bytes().unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = statm.rss_bytes().unwrap();
        assert!(after >= before + (48 << 20), "{before} {after}");
        drop(touched);
    }

    #[test]
    fn a_watch_has_looked_once_when_it_starts() {
        let budget = Budget::new(1 << 40, 1);
        let _watch = RssWatch::start(budget.clone()).unwrap();
        assert!(budget.rss_bytes() > 1 << 20);
        assert!(budget.unaccounted_bytes() > 1 << 20, "nothing is accounted");
    }
}
