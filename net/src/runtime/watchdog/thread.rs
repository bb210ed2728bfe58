//! What the kernel knows of one thread of this process: enough to tell why a shard is silent.
//!
//! A silent thread is one of three. It *ran* (a poll that is too long, or the virtual CPU below it stood still: `steal`); it
//! *waited for a CPU* that others had; or it did neither and was *blocked* in the kernel, and then `wchan` and `syscall` say where
//! and `faults` whether it was for memory.
//! Read from `/proc` by the watchdog's thread alone. What a kernel does not tell is zero or empty: this is for people to read.

use std::fmt;
use std::fs;
use std::time::Duration;

/// One tick of the times in `/proc`: `USER_HZ` is 100 on every architecture Linux runs on here.
const TICK: Duration = Duration::from_millis(10);

/// A thread of this process, by its kernel id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread(pub(super) u32);

impl Thread {
    /// The calling thread; `None` without `/proc`.
    pub(super) fn current() -> Option<Self> {
        let link = fs::read_link("/proc/thread-self").ok()?;
        link.file_name()?.to_str()?.parse().ok().map(Self)
    }

    /// What the thread has used so far.
    pub(super) fn usage(self) -> Usage {
        let run_and_wait = self.text("schedstat");
        let mut ns = run_and_wait.split_whitespace().map(|field| field.parse().unwrap_or(0));
        let mut next = || Duration::from_nanos(ns.next().unwrap_or(0));
        let (ran, waited) = (next(), next());
        let stat = self.text("stat");
        let of_cpu = field(&stat, PROCESSOR).to_owned();
        let faults = field(&stat, MAJOR_FAULTS).parse().unwrap_or(0);
        let stolen = stolen(&fs::read_to_string("/proc/stat").unwrap_or_default(), &of_cpu);
        Usage { ran, waited, faults, stolen }
    }

    /// What the thread does at this moment.
    pub(super) fn place(self) -> Place {
        Place {
            state: field(&self.text("stat"), STATE).to_owned(),
            wchan: self.text("wchan").trim().to_owned(),
            syscall: self.text("syscall").split(' ').next().unwrap_or_default().trim().to_owned(),
        }
    }

    fn text(self, file: &str) -> String {
        fs::read_to_string(format!("/proc/self/task/{}/{file}", self.0)).unwrap_or_default()
    }
}

/// Sums since the thread's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Time on a CPU.
    pub(super) ran: Duration,
    /// Time it could have run and another thread did.
    pub(super) waited: Duration,
    /// Page faults that needed the disk.
    pub(super) faults: u64,
    /// What the host took of the CPU that the thread was on last; of all threads of that CPU.
    pub(super) stolen: Duration,
}

impl Usage {
    /// What came on top of `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self.waited.saturating_sub(earlier.waited),
            faults: self.faults.saturating_sub(earlier.faults),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ran, waited, faults, stolen } = self;
        write!(
            f,
            "ran {ran:.1?}, waited for a cpu {waited:.1?}, faults {faults}, steal {stolen:.1?}"
        )
    }
}

/// Where a thread is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// `R` runs or waits for a CPU, `S` sleeps, `D` waits for a device, `T` is stopped.
    pub(super) state: String,
    /// Kernel function it sleeps in; `0` when it does not.
    pub(super) wchan: String,
    /// Number of the system call it is in, `running`, or -1 for a page fault.
    pub(super) syscall: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, wchan, syscall } = self;
        write!(f, "state {state}, wchan {wchan}, syscall {syscall}")
    }
}

/// Fields of `stat` as `proc(5)` numbers them.
const STATE: usize = 3;
const MAJOR_FAULTS: usize = 12;
const PROCESSOR: usize = 39;

/// A field behind the thread's name, which may hold anything, spaces and parentheses included.
fn field(stat: &str, number: usize) -> &str {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().nth(number - STATE).unwrap_or_default()
}

/// Time the host took of a CPU, from the text of `/proc/stat`: the eighth number of its line.
fn stolen(stat: &str, cpu: &str) -> Duration {
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split(' ').next() == Some(&name));
    let ticks = line.and_then(|line| line.split_whitespace().nth(8));
    TICK * ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) D 1 2 3 4 5 6 7 8 99 10";
        assert_eq!(field(stat, STATE), "D");
        assert_eq!(field(stat, MAJOR_FAULTS), "99");
        assert_eq!(field(stat, PROCESSOR), "");
        assert_eq!(field("", STATE), "");
    }

    #[test]
    fn steal_is_that_of_the_threads_own_cpu() {
        let stat =
            "cpu  1 2 3 4 5 6 7 8 0 0\ncpu1 0 0 0 0 0 0 0 250 0 0\ncpu11 0 0 0 0 0 0 0 9 0 0\n";
        assert_eq!(stolen(stat, "1"), Duration::from_millis(2500));
        assert_eq!(stolen(stat, "2"), Duration::ZERO);
    }

    #[test]
    fn a_busy_thread_has_run_and_one_that_waits_is_seen_asleep() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || {
            tell.send(Thread::current().unwrap()).unwrap();
            let _ = ended.recv();
        });
        let other = told.recv().unwrap();
        let own = Thread::current().unwrap();
        assert_ne!(other, own);
        let before = own.usage();
        let given_up = Instant::now() + Duration::from_secs(20);
        while own.usage().since(&before).ran < Duration::from_millis(20)
            || other.place().state != "S"
        {
            assert!(Instant::now() < given_up, "{} / {}", own.usage(), other.place());
        }
        drop(end);
        waiting.join().unwrap();
    }
}
