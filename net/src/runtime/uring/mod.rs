//! The production runtime: one glommio executor per shard, io_uring below it. Nothing else in the project names glommio.
//!
//! Guards against what is known of glommio 0.9 (each was reproduced; `net/tests/host` keeps the ones that can be tested):
//! - It can park for good with runnable tasks when its preempt timer fires between arming and the first task: a heartbeat
//!   timer of [`HEARTBEAT`] bounds the stall unless the heartbeat is the runnable task, then `runtime::watchdog` ends it from
//!   outside; no class's timer is below 1 ms. Before the first task has run there is neither: [`PREEMPT_TIMER`] is out of reach
//!   then.
//! - Its probe for polled I/O believes in it when the first file opened is empty, and then breaks direct I/O: each
//!   executor opens [`host::PROBE_FILE`] first.
//! - `spawn_local` polls the task inside the caller: only `spawn_local_into` is used.
//! - A busy shard hears other threads only when its preempt timer fires, which is the least latency of the classes that have
//!   runnable tasks: every class has one of at most 2 ms, and nothing but the start runs outside of the classes.
//! - A panic ends the shard's thread and nobody notices: `process` aborts on any panic.
//! - It leaks an eventfd per executor: executors are made once per process.
//!
//! Reading order: `executor` (a shard's thread), this file (clock, random source, tasks), `disk`, `net`, `stream`.

mod disk;
mod executor;
mod net;
mod stream;
mod trial;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

use glommio::{Latency, Shares, TaskQueueHandle, executor};

pub use disk::{UringFile, UringReadFile};
pub use net::UringListener;
pub use stream::UringStream;
pub use trial::{is_trial, try_out};

use super::host::{self, CLASS_SHARES, HEARTBEAT, HostRuntime, Random, ShardHandle, ShardThread};
use super::polls::{self, PollTimes};
use super::watchdog::Pulse;
use super::{Class, Clock, Rand, Spawn};
use stream::ReadScratch;

/// glommio's preempt timer while only its default queue has a task: the first one of an executor, which makes everything
/// else. At 1 ms one start in some hundred parked for good on a loaded machine.
pub const PREEMPT_TIMER: Duration = Duration::from_secs(10);

/// Latencies of the classes, in the order of [`Class::ALL`]. A class's latency is also the preempt timer when only that class has
/// runnable tasks: how long a message from another shard can wait, and how long `yield_if_needed` lets a task go on. So none is
/// above the 2 ms of a poll. Nor below 1 ms: there the parking bug is met within seconds.
const CLASS_LATENCIES: [Duration; 4] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(2),
    Duration::from_millis(2),
];

/// The runtime of the shard whose thread it was made on.
#[derive(Clone)]
pub struct Uring(Rc<Handle>);

struct Handle {
    data_path: PathBuf,
    queues: [TaskQueueHandle; 4],
    poll_times: Rc<[PollTimes; 4]>,
    random: Random,
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
        let queues = Class::ALL.map(|class| {
            executor().create_task_queue(
                Shares::Static(CLASS_SHARES[class as usize] as usize),
                Latency::Matters(CLASS_LATENCIES[class as usize]),
                class.as_str(),
            )
        });
        let runtime = Self(Rc::new(Handle {
            data_path: data_path.to_owned(),
            queues,
            poll_times: Rc::new(PollTimes::of_all()),
            random: Random::new()?,
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
}

impl HostRuntime for Uring {
    const NAME: &'static str = "uring";

    fn spawn_shard<T, F, Fut>(thread: ShardThread, main: F) -> io::Result<ShardHandle<T>>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        executor::spawn_shard(thread, main)
    }

    fn poll_times(&self, class: Class) -> &PollTimes {
        &self.0.poll_times[class as usize]
    }

    fn disk_operations(&self) -> Option<usize> {
        None
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
        host::now_ns()
    }

    fn unix_ms(&self) -> i64 {
        host::unix_ms()
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }
}

impl Rand for Uring {
    fn next_u64(&self) -> u64 {
        self.0.random.next_u64()
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
        if executor().need_preempt() || polls::is_poll_aged() {
            executor().yield_task_queue_now().await;
        }
    }
}
