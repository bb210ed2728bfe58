//! A shard's two threads: where they run, how they start, how they end.

use std::future::{Future, poll_fn};
use std::io;
use std::panic;
use std::pin::pin;
use std::rc::Rc;

use engine::route::ShardId;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use tokio::runtime::{Builder, LocalOptions};

use super::Portable;
use super::disk::DiskThread;
use super::executor::Executor;
use crate::runtime::cpu_plan::Seat;
use crate::runtime::host::{EndOfPulse, ShardHandle, ShardThread};
use crate::runtime::watchdog::Pulse;
use crate::runtime::{Class, Spawn as _};

/// See [`HostRuntime::spawn_shard`](crate::runtime::host::HostRuntime::spawn_shard).
pub(super) fn spawn_shard<T, F, Fut>(thread: ShardThread, main: F) -> io::Result<ShardHandle<T>>
where
    T: Send + 'static,
    F: FnOnce(Portable) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let ShardThread { id, seat, data_path, pulse } = thread;
    let shard = std::thread::Builder::new().name(format!("shard-{}", id.0)).spawn(move || {
        // The disk thread first: it is to have all CPUs that the process may use, not the shard's one.
        let disk = DiskThread::start(id, &data_path)?;
        take_seat(&seat)?;
        let _end = EndOfPulse(pulse.clone());
        run(id, disk, pulse, data_path, main)
    })?;
    Ok(ShardHandle::new(move || {
        shard.join().unwrap_or_else(|_| Err(io::Error::other("the shard's thread panicked")))
    }))
}

fn run<T, F, Fut>(
    id: ShardId,
    mut disk: DiskThread,
    pulse: Pulse,
    data_path: std::path::PathBuf,
    main: F,
) -> io::Result<T>
where
    T: 'static,
    F: FnOnce(Portable) -> Fut,
    Fut: Future<Output = T> + 'static,
{
    let tokio = Builder::new_current_thread()
        .name(format!("shard-{}", id.0))
        .enable_io()
        .enable_time()
        .event_interval(1) // sockets and timers are looked at after each turn
        .build_local(LocalOptions::default())?;
    let executor = Executor::new();
    let end_of_disk = disk.end();
    let runtime = {
        let _inside = tokio.enter();
        Portable::new(data_path, Rc::clone(&executor), disk, pulse)?
    };
    let turns = Rc::clone(&executor);
    let turns = tokio::task::unconstrained(poll_fn(move |context| turns.turn(context)));
    let turns = tokio.spawn_local(turns);
    let result = tokio.block_on(async move {
        let (ended, end) = oneshot::channel();
        let task = main(runtime.clone());
        runtime.spawn(Class::Rpc, async move {
            let _ = ended.send(task.await); // the other end waits just below
        });
        drop(runtime);
        match select(end, pin!(turns)).await {
            Either::Left((result, _)) => {
                result.map_err(|_| io::Error::other("the shard's main task was dropped"))
            }
            // Turns end only by a panic of the task they polled.
            Either::Right((panicked, _)) => match panicked {
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                _ => Err(io::Error::other("the shard's executor was dropped")),
            },
        }
    });
    {
        // What tasks hold may belong to tokio.
        let _inside = tokio.enter();
        executor.close();
    }
    drop(tokio);
    end_of_disk.wait();
    result
}

/// Moves the calling thread to its seat.
fn take_seat(seat: &Seat) -> io::Result<()> {
    let cpus = match seat {
        Seat::Pinned(cpu) => std::slice::from_ref(cpu),
        Seat::Fenced(cpus) => cpus,
    };
    // SAFETY: a zeroed `cpu_set_t` is an empty set; `CPU_SET` writes inside it (the numbers come from such a set); the call
    // reads the size it is given.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
