//! A shard's thread: where it runs, how it starts, how it ends.

use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use engine::route::ShardId;
use futures_channel::oneshot;
use glommio::{CpuSet, ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::cpu_plan::Seat;
use super::{PREEMPT_TIMER, PROBE_FILE, Uring};
use crate::runtime::watchdog::Pulse;
use crate::runtime::{Class, DISK_ALIGN, Spawn as _};

/// Submissions a ring takes before they are flushed; glommio's own default. Log, sockets and timers of a shard stay far below.
const RING_DEPTH: usize = 128;

/// What makes a shard.
#[derive(Debug)]
pub struct Shard {
    /// Its number.
    pub id: ShardId,
    /// Where it runs.
    pub seat: Seat,
    /// The data directory; [`prepare_data_dir`] was called on it.
    pub data_path: PathBuf,
    /// Its pulse.
    pub pulse: Pulse,
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

/// Starts the shard's thread and runs `main` on it, in [`Class::Rpc`]. The thread ends when `main` does; tasks that are left
/// then are dropped. The handle's `join` returns what `main` returned.
///
/// An `Err` of the thread itself (an executor that could not be made, the probe file unreadable) comes back from `join`, too.
pub fn spawn_shard<T, F, Fut>(shard: Shard, main: F) -> io::Result<ShardHandle<T>>
where
    T: Send + 'static,
    F: FnOnce(Uring) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let Shard { id, seat, data_path, pulse } = shard;
    let placement = placement(seat)?;
    let handle = LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{}", id.0))
        .preempt_timer(PREEMPT_TIMER)
        .ring_depth(RING_DEPTH)
        .spawn(move || async move {
            let _end = EndOfPulse(pulse.clone());
            let runtime = Uring::enter(&data_path, pulse).await?;
            let (ended, end) = oneshot::channel();
            let task = main(runtime.clone());
            runtime.spawn(Class::Rpc, async move {
                let _ = ended.send(task.await); // the other end waits just below
            });
            end.await.map_err(|_| io::Error::other("the shard's main task was dropped"))
        })?;
    Ok(ShardHandle(handle))
}

/// Ends the pulse on the shard's own thread: a waker of a task must not outlive its executor elsewhere.
struct EndOfPulse(Pulse);

impl Drop for EndOfPulse {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn placement(seat: Seat) -> io::Result<Placement> {
    Ok(match seat {
        Seat::Pinned(cpu) => Placement::Fixed(cpu),
        Seat::Fenced(cpus) => {
            let allowed = CpuSet::online()?.filter(|location| cpus.contains(&location.cpu));
            Placement::Fenced(allowed)
        }
    })
}

/// A running shard.
#[derive(Debug)]
pub struct ShardHandle<T: Send + 'static>(ExecutorJoinHandle<io::Result<T>>);

impl<T: Send + 'static> ShardHandle<T> {
    /// Waits for the shard's end.
    pub fn join(self) -> io::Result<T> {
        self.0.join()?
    }
}
