//! The runtime that needs nothing of the kernel but epoll: one single-threaded tokio runtime and one disk thread per shard.
//!
//! It serves where io_uring is refused (containers' default seccomp profiles, old kernels, little lockable memory). tokio gives
//! sockets and timers; who runs next is decided here, because tokio knows no classes. What is known of tokio and guarded against:
//! - Its resources force a task to yield after 128 operations, and count per tokio task, which is all of the shard here: the
//!   turns run unconstrained, and `yield_if_needed` bounds polls as under glommio.
//! - Its scheduler looks at sockets after 61 polls: the runtime is built to look after every turn.
//! - `tokio::fs` moves every operation to a pool of up to 512 threads: files have one thread here, with a bounded queue.
//!
//! Reading order: `thread` (a shard's thread), `executor` (its tasks), this file (the handle), `disk`, `net`.

mod disk;
mod executor;
mod net;
mod thread;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

pub use disk::{PortableFile, PortableReadFile};
pub use net::{PortableListener, PortableStream};

use super::host::{self, HEARTBEAT, HostRuntime, Random, ShardHandle, ShardThread};
use super::polls::PollTimes;
use super::watchdog::Pulse;
use super::{Class, Clock, Rand, Spawn};
use disk::DiskThread;
use executor::Executor;

/// The runtime of the shard whose thread it was made on.
#[derive(Clone)]
pub struct Portable(Rc<Handle>);

struct Handle {
    data_path: PathBuf,
    executor: Rc<Executor>,
    disk: DiskThread,
    random: Random,
}

impl std::fmt::Debug for Portable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Portable").field("data_path", &self.0.data_path).finish_non_exhaustive()
    }
}

impl Portable {
    fn new(
        data_path: PathBuf,
        executor: Rc<Executor>,
        disk: DiskThread,
        pulse: Pulse,
    ) -> io::Result<Self> {
        let random = Random::new()?;
        let runtime = Self(Rc::new(Handle { data_path, executor, disk, random }));
        pulse.begin();
        let kicked = pulse.clone();
        runtime.spawn(Class::Rpc, async move { kicked.hear_kicks().await });
        runtime.spawn(Class::Rpc, heartbeat(Rc::downgrade(&runtime.0), pulse));
        Ok(runtime)
    }
}

/// Beats until nobody holds the runtime any more.
async fn heartbeat(runtime: Weak<Handle>, pulse: Pulse) {
    while runtime.strong_count() > 0 {
        pulse.beat();
        tokio::time::sleep(HEARTBEAT).await;
    }
}

impl HostRuntime for Portable {
    const NAME: &'static str = "portable";

    fn spawn_shard<T, F, Fut>(thread: ShardThread, main: F) -> io::Result<ShardHandle<T>>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        thread::spawn_shard(thread, main)
    }

    fn poll_times(&self, class: Class) -> &PollTimes {
        self.0.executor.poll_times(class)
    }

    fn disk_operations(&self) -> Option<usize> {
        Some(self.0.disk.operations())
    }
}

impl Clock for Portable {
    fn now_ns(&self) -> u64 {
        host::now_ns()
    }

    fn unix_ms(&self) -> i64 {
        host::unix_ms()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Rand for Portable {
    fn next_u64(&self) -> u64 {
        self.0.random.next_u64()
    }
}

impl Spawn for Portable {
    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        self.0.executor.spawn(class, task);
    }

    async fn yield_if_needed(&self) {
        if self.0.executor.wants_the_core() {
            executor::give_way().await;
        }
    }
}
