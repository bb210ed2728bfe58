//! The production runtime: one glommio executor per shard, io_uring below it. Nothing else in the project names glommio.
//!
//! Guards against what is known of glommio 0.9 (each was reproduced; `net/tests/uring.rs` keeps the ones that can be tested):
//! - It can park for good with runnable tasks when its preempt timer fires between arming and the first task: a heartbeat
//!   timer of [`HEARTBEAT`] bounds the stall unless the heartbeat is the runnable task, then `runtime::watchdog` ends it from
//!   outside; no class's timer is below 1 ms. Before the first task has run there is neither: [`PREEMPT_TIMER`] is out of reach
//!   then.
//! - Its probe for polled I/O believes in it when the first file opened is empty, and then breaks direct I/O: each
//!   executor opens [`PROBE_FILE`] first.
//! - `spawn_local` polls the task inside the caller: only `spawn_local_into` is used.
//! - A busy shard hears other threads only when its preempt timer fires, which is the least latency of the classes that have
//!   runnable tasks: every class has one of at most 2 ms, and nothing but the start runs outside of the classes.
//! - A panic ends the shard's thread and nobody notices: `process` aborts on any panic.
//! - It leaks an eventfd per executor: executors are made once per process.
//!
//! Reading order: [`cpu_plan`], `executor` (a shard's thread), this file (clock, random source, tasks), `disk`, `net`, `stream`.

pub mod cpu_plan;
mod disk;
mod executor;
mod net;
mod polls;
mod stream;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use glommio::{Latency, Shares, TaskQueueHandle, executor};

pub use disk::UringFile;
pub use executor::{Shard, ShardHandle, prepare_data_dir, spawn_shard};
pub use net::UringListener;
pub use polls::{POLL_BUCKETS_NS, PollTimes};
pub use stream::UringStream;

use super::watchdog::Pulse;
use super::{Class, Clock, Rand, Spawn};
use stream::ReadScratch;

/// Bounds a park that glommio would not end by itself; also the pulse that the watchdog reads.
pub const HEARTBEAT: Duration = Duration::from_millis(5);

/// glommio's preempt timer while only its default queue has a task: the first one of an executor, which makes everything
/// else. At 1 ms one start in some hundred parked for good on a loaded machine.
pub const PREEMPT_TIMER: Duration = Duration::from_secs(10);

/// A task that called `yield_if_needed` within this time of its poll's begin goes on unless the executor wants the core back.
/// Half of what a poll may take: a step between two calls may take the other half.
const POLL_AGE_MAX: Duration = Duration::from_millis(1);

/// File in the data directory that every executor opens first; never empty.
pub const PROBE_FILE: &str = "io-probe";

/// Random bytes fetched from the kernel at a time: one system call for 32 words.
const RANDOM_BYTES: usize = 256;

/// Scheduling of one class. Shares are relative and cooperative: they decide which class runs next, nothing stops one that
/// does not yield.
struct ClassQueue {
    class: Class,
    shares: usize,
    latency: Duration,
}

/// A class's latency is also the preempt timer when only that class has runnable tasks: how long a message from another
/// shard can wait, and how long `yield_if_needed` lets a task go on. So none is above the 2 ms of a poll. Nor below 1 ms: there
/// the parking bug is met within seconds.
const CLASS_QUEUES: [ClassQueue; 4] = [
    // Others wait for replies and acknowledgements that pass through here; polls are short, so the largest share costs nothing.
    ClassQueue { class: Class::Rpc, shares: 1000, latency: Duration::from_millis(1) },
    // Pushes are answered after their decode and the log: twice the queries' share keeps agents from timing out under reads.
    ClassQueue { class: Class::Ingest, shares: 600, latency: Duration::from_millis(2) },
    // People wait for queries, but for seconds rather than milliseconds.
    ClassQueue { class: Class::Query, shares: 300, latency: Duration::from_millis(2) },
    // A tenth of the largest: recovery and zeroing always progress, and never set the pace.
    ClassQueue { class: Class::Background, shares: 100, latency: Duration::from_millis(2) },
];

/// The runtime of the shard whose thread it was made on.
#[derive(Clone)]
pub struct Uring(Rc<Handle>);

struct Handle {
    data_path: PathBuf,
    queues: [TaskQueueHandle; 4],
    poll_times: Rc<[PollTimes; 4]>,
    random: RefCell<Random>,
    read_scratch: ReadScratch,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("executor", &executor().id())
            .field("data_path", &self.0.data_path)
            .finish_non_exhaustive()
    }
}

impl Uring {
    /// Makes the runtime of the executor that runs the caller: its classes, the guard against false polled I/O, the heartbeat.
    async fn enter(data_path: &Path, pulse: Pulse) -> io::Result<Self> {
        let queues = CLASS_QUEUES.map(|queue| {
            executor().create_task_queue(
                Shares::Static(queue.shares),
                Latency::Matters(queue.latency),
                queue.class.as_str(),
            )
        });
        let runtime = Self(Rc::new(Handle {
            data_path: data_path.to_owned(),
            queues,
            poll_times: Rc::default(),
            random: RefCell::new(Random::new()?),
            read_scratch: ReadScratch::default(),
        }));
        // Before anything is waited for.
        pulse.begin();
        let kicked = pulse.clone();
        runtime.spawn(Class::Rpc, async move { kicked.hear_kicks().await });
        runtime.spawn(Class::Rpc, heartbeat(Rc::downgrade(&runtime.0), pulse));
        disk::settle_polled_io(data_path).await?;
        Ok(runtime)
    }

    /// Poll times of a class on this shard.
    pub fn poll_times(&self, class: Class) -> &PollTimes {
        &self.0.poll_times[class as usize]
    }
}

/// Beats until nobody holds the runtime any more.
async fn heartbeat(runtime: Weak<Handle>, pulse: Pulse) {
    while runtime.strong_count() > 0 {
        pulse.beat();
        glommio::timer::sleep(HEARTBEAT).await;
    }
}

impl Clock for Uring {
    fn now_ns(&self) -> u64 {
        /// The same for all shards, so that times of several shards compare.
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    fn unix_ms(&self) -> i64 {
        // A clock before 1970 reads as 1970: profiles are then refused by the ingestion window, which is the right answer.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }
}

impl Rand for Uring {
    fn next_u64(&self) -> u64 {
        self.0.random.borrow_mut().next_u64()
    }
}

impl Spawn for Uring {
    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        let timed = polls::Timed::new(task, Rc::clone(&self.0.poll_times), class as usize);
        glommio::spawn_local_into(timed, self.0.queues[class as usize])
            .expect("the class queues live as long as the executor, and a runtime never leaves its thread")
            .detach();
    }

    async fn yield_if_needed(&self) {
        if executor().need_preempt() || polls::poll_age() >= POLL_AGE_MAX {
            executor().yield_task_queue_now().await;
        }
    }
}

/// Words of the kernel's random source: hash secrets of stored contents come from here, so no guessable generator will do.
struct Random {
    bytes: [u8; RANDOM_BYTES],
    used: usize,
}

impl Random {
    fn new() -> io::Result<Self> {
        let mut random = Self { bytes: [0; RANDOM_BYTES], used: 0 };
        random.refill()?;
        Ok(random)
    }

    fn refill(&mut self) -> io::Result<()> {
        // SAFETY: the call writes at most as many bytes as the buffer has. Up to 256 bytes it is never interrupted nor short.
        let got = unsafe { libc::getrandom(self.bytes.as_mut_ptr().cast(), RANDOM_BYTES, 0) };
        if usize::try_from(got) != Ok(RANDOM_BYTES) {
            return Err(io::Error::last_os_error());
        }
        self.used = 0;
        Ok(())
    }

    fn next_u64(&mut self) -> u64 {
        if self.used == RANDOM_BYTES {
            self.refill()
                .expect("getrandom succeeded when the shard started and cannot fail later");
        }
        let word = self.bytes[self.used..self.used + 8].try_into().expect("eight bytes");
        self.used += 8;
        u64::from_le_bytes(word)
    }
}
