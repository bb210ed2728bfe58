//! What the runtimes on a real machine have in common: threads, the process's clocks, the kernel's random source.
//!
//! Not here: what the simulator has too (the five traits), and everything that only one of them needs.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::route::ShardId;

use super::cpu_plan::Seat;
use super::polls::PollTimes;
use super::watchdog::Pulse;
use super::{Class, DISK_ALIGN, Runtime};

/// The pulse that the watchdog reads is beaten so often; it also bounds a park that glommio would not end by itself. A beat costs an
/// idle shard six `io_uring_enter` and up to 70 µs: at 10 ms, beats were four of five parks of a server that took 60 pushes a second.
pub const HEARTBEAT: Duration = Duration::from_millis(20);

/// A task of a class that called `yield_if_needed` within this time of its poll's begin goes on unless the executor wants the core back.
///
/// Half of what a poll may take, as a step between two calls may take the other half. A quarter in the background: nobody waits for it,
/// and its steps meet what nobody estimates, memory that the kernel has yet to find and clear.
pub(super) fn poll_age_max(class: Class) -> Duration {
    Duration::from_micros(if class == Class::Background { 500 } else { 1000 })
}

/// Shares of the classes, in the order of [`Class::ALL`]. They are relative and cooperative: they decide which class runs next,
/// nothing stops one that does not yield.
pub(super) const CLASS_SHARES: [u64; 4] = [
    // Rpc: others wait for replies and acknowledgements that pass through here; polls are short, so the largest share costs nothing.
    1000,
    // Ingest: pushes are answered after their decode and the log: twice the queries' share keeps agents from timing out under reads.
    600, // Query: people wait for them, but for seconds rather than milliseconds.
    300,
    // Background: a tenth of the largest: recovery and zeroing always progress, and never set the pace.
    100,
];

/// File in the data directory that is there to be read; never empty.
pub const PROBE_FILE: &str = "io-probe";

/// Random bytes fetched from the kernel at a time: one system call for 32 words.
const RANDOM_BYTES: usize = 256;

/// Bytes of one write or read of a file. Copying a MiB takes about 0.1 ms, so a poll stays short; larger ones gain nothing
/// (1 MiB reaches the device's bandwidth).
pub(super) const TRANSFER_BYTES_MAX: usize = 1 << 20;

/// What a write took of `len` bytes. A short one ends where space did; what was written must be whole blocks to go on from.
pub(super) fn check_written(written: usize, len: usize) -> io::Result<()> {
    if written == 0 || !written.is_multiple_of(DISK_ALIGN) {
        let text = format!("the device took {written} of {len} bytes");
        return Err(io::Error::new(io::ErrorKind::WriteZero, text));
    }
    Ok(())
}

/// A runtime that serves clients: one thread of this machine a shard, sockets that hyper can use, polls that are timed.
pub trait HostRuntime: Runtime<Conn: hyper::rt::Read + hyper::rt::Write + Unpin> {
    /// Name in flags, log lines and metrics.
    const NAME: &'static str;

    /// Starts the shard's thread and runs `main` on it, in [`Class::Rpc`]. The thread ends when `main` does; tasks that are left
    /// then are polled no more: the portable runtime drops them, glommio may leak them.
    ///
    /// An `Err` of the thread itself (an executor that could not be made, the probe file unreadable) comes back from `join`, too.
    fn spawn_shard<T, F, Fut>(thread: ShardThread, main: F) -> io::Result<ShardHandle<T>>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static;

    /// Poll times of a class on this shard.
    fn poll_times(&self, class: Class) -> &PollTimes;

    /// Operations of this shard that wait for its disk thread or run there; `None` where there is no such thread.
    fn disk_operations(&self) -> Option<usize>;
}

/// What makes a shard's thread.
#[derive(Debug)]
pub struct ShardThread {
    /// Its number.
    pub id: ShardId,
    /// Where it runs.
    pub seat: Seat,
    /// The data directory; [`prepare_data_dir`] was called on it.
    pub data_path: PathBuf,
    /// Its pulse.
    pub pulse: Pulse,
}

/// A running shard.
pub struct ShardHandle<T>(Box<dyn FnOnce() -> io::Result<T> + Send>);

impl<T> fmt::Debug for ShardHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHandle").finish_non_exhaustive()
    }
}

impl<T> ShardHandle<T> {
    pub(super) fn new(join: impl FnOnce() -> io::Result<T> + Send + 'static) -> Self {
        Self(Box::new(join))
    }

    /// Waits for the shard's end and returns what its main returned.
    pub fn join(self) -> io::Result<T> {
        (self.0)()
    }
}

/// Ends the pulse on the shard's own thread: a waker of a task must not outlive its executor elsewhere.
pub(super) struct EndOfPulse(pub(super) Pulse);

impl Drop for EndOfPulse {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Writes the file that every executor opens first. It fills a block: some file systems keep smaller files inside the inode,
/// where reading them says nothing about the device.
pub fn prepare_data_dir(data_path: &Path) -> io::Result<()> {
    let path = data_path.join(PROBE_FILE);
    if std::fs::metadata(&path).is_ok_and(|found| found.len() >= DISK_ALIGN as u64) {
        return Ok(());
    }
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&[b'\n'; DISK_ALIGN])?;
    file.sync_all()
}

/// Monotonic nanoseconds since the process first asked: the same for all shards, so that times of several shards compare.
pub(super) fn now_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// The wall clock. Before 1970 it reads as 1970: profiles are then refused by the ingestion window, which is the right answer.
pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Words of the kernel's random source: hash secrets of stored contents come from here, so no guessable generator will do.
pub(super) struct Random(RefCell<RandomBytes>);

struct RandomBytes {
    bytes: [u8; RANDOM_BYTES],
    used: usize,
}

impl Random {
    pub(super) fn new() -> io::Result<Self> {
        let mut random = RandomBytes { bytes: [0; RANDOM_BYTES], used: 0 };
        random.refill()?;
        Ok(Self(RefCell::new(random)))
    }

    pub(super) fn next_u64(&self) -> u64 {
        let mut random = self.0.borrow_mut();
        if random.used == RANDOM_BYTES {
            random
                .refill()
                .expect("getrandom succeeded when the shard started and cannot fail later");
        }
        let word = random.bytes[random.used..random.used + 8].try_into().expect("eight bytes");
        random.used += 8;
        u64::from_le_bytes(word)
    }
}

impl RandomBytes {
    fn refill(&mut self) -> io::Result<()> {
        // SAFETY: the call writes at most as many bytes as the buffer has. Up to 256 bytes it is never interrupted nor short.
        let got = unsafe { libc::getrandom(self.bytes.as_mut_ptr().cast(), RANDOM_BYTES, 0) };
        if usize::try_from(got) != Ok(RANDOM_BYTES) {
            return Err(io::Error::last_os_error());
        }
        self.used = 0;
        Ok(())
    }
}
