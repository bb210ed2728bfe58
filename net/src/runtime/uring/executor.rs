//! A shard's thread: where it runs, how it starts, how it ends.

use std::future::Future;
use std::io;

use futures_channel::oneshot;
use glommio::{CpuSet, LocalExecutorBuilder, Placement};

use super::{PREEMPT_TIMER, Uring};
use crate::runtime::cpu_plan::Seat;
use crate::runtime::host::{EndOfPulse, ShardHandle, ShardThread};
use crate::runtime::{Class, Spawn as _};

/// Submissions a ring takes before they are flushed; glommio's own default. Log, sockets and timers of a shard stay far below.
const RING_DEPTH: usize = 128;

/// See [`HostRuntime::spawn_shard`](crate::runtime::host::HostRuntime::spawn_shard).
pub(super) fn spawn_shard<T, F, Fut>(thread: ShardThread, main: F) -> io::Result<ShardHandle<T>>
where
    T: Send + 'static,
    F: FnOnce(Uring) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let ShardThread { id, seat, data_path, pulse } = thread;
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
    Ok(ShardHandle::new(move || handle.join()?))
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
