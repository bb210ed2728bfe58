//! Shards that run what a test sends them: two for each runtime, which live as long as the test binary (glommio leaks an eventfd
//! per executor).

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use engine::route::ShardId;
use futures_channel::mpsc as async_mpsc;
use futures_util::StreamExt as _;
use net::runtime::cpu_plan::{Cpus, Seat};
use net::runtime::host::{self, HostRuntime, ShardThread};
use net::runtime::portable::Portable;
use net::runtime::uring::Uring;
use net::runtime::watchdog::{Pulse, Watchdog};
use net::runtime::{Class, probe};

type Job<R> = Box<dyn FnOnce(R) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A shard that runs what it is sent.
pub(crate) struct Worker<R> {
    jobs: Mutex<async_mpsc::UnboundedSender<Job<R>>>,
    pub(crate) pulse: Pulse,
}

/// Two shards, and what watches over them.
pub(crate) type Workers<R> = ([Worker<R>; 2], Watchdog);

/// A runtime under test.
pub(crate) trait Tested: HostRuntime {
    /// Fails where the runtime cannot be had: these tests do not skip.
    fn demand();

    /// Two shards: the second one is for what needs a foreign thread or a busy shard.
    fn workers() -> &'static [Worker<Self>; 2];

    /// Whether this run of the tests is to try the runtime: `PYRITE_RUNTIME=portable` says that there is no io_uring here.
    fn is_asked_for() -> bool {
        let named = std::env::var("PYRITE_RUNTIME").unwrap_or_default();
        let asked_for = named != Portable::NAME || Self::NAME == Portable::NAME;
        if !asked_for {
            println!("not run: PYRITE_RUNTIME={named}");
        }
        asked_for
    }
}

impl Tested for Uring {
    fn demand() {
        if let Err(reason) = probe::io_uring() {
            panic!("no ring can be opened, and these tests do not skip: {reason}");
        }
    }

    fn workers() -> &'static [Worker<Self>; 2] {
        static WORKERS: OnceLock<Workers<Uring>> = OnceLock::new();
        &WORKERS.get_or_init(start_two).0
    }
}

impl Tested for Portable {
    fn demand() {}

    fn workers() -> &'static [Worker<Self>; 2] {
        static WORKERS: OnceLock<Workers<Portable>> = OnceLock::new();
        &WORKERS.get_or_init(start_two).0
    }
}

fn start_two<R: Tested>() -> Workers<R> {
    R::demand();
    let data_path = data_path().join(R::NAME);
    std::fs::create_dir(&data_path).unwrap();
    host::prepare_data_dir(&data_path).expect("a writable target directory");
    let workers = [0, 1].map(|shard| start(ShardId(shard), data_path.clone()));
    let pulses = workers.iter().map(|worker| worker.pulse.clone()).collect();
    (workers, Watchdog::start(pulses).expect("a thread can be started"))
}

fn data_path() -> PathBuf {
    static PATH: OnceLock<tempfile::TempDir> = OnceLock::new();
    PATH.get_or_init(directory).path().to_owned()
}

/// A fresh directory beside the test binary: that is a disk, where /tmp may be memory.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
}

fn start<R: Tested>(id: ShardId, data_path: PathBuf) -> Worker<R> {
    let (jobs, mut inbox) = async_mpsc::unbounded::<Job<R>>();
    let pulse = Pulse::default();
    let shard = ShardThread { id, seat: anywhere(), data_path, pulse: pulse.clone() };
    let handle = R::spawn_shard(shard, move |runtime| async move {
        while let Some(job) = inbox.next().await {
            let future = job(runtime.clone());
            runtime.spawn(Class::Rpc, future);
        }
    })
    .unwrap();
    drop(handle); // it runs until the process ends
    Worker { jobs: Mutex::new(jobs), pulse }
}

/// On any CPU.
pub(crate) fn anywhere() -> Seat {
    Seat::Fenced(Cpus::of_this_process().unwrap().allowed)
}

/// Runs a job on a shard and returns what it returned.
pub(crate) fn on<R, T, F, Fut>(worker: &Worker<R>, job: F) -> T
where
    R: Tested,
    T: Send + 'static,
    F: FnOnce(R) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let (done, result) = mpsc::channel();
    let job: Job<R> = Box::new(move |runtime| {
        let future = job(runtime);
        Box::pin(async move { done.send(future.await).unwrap() })
    });
    worker.jobs.lock().unwrap().unbounded_send(job).unwrap();
    result.recv_timeout(Duration::from_mins(1)).expect("the job ended (a panic or a hang if not)")
}

/// Runs `main` on a shard of its own, whose thread has ended when this returns.
pub(crate) fn on_its_own<R, T, F, Fut>(main: F) -> T
where
    R: Tested,
    T: Send + 'static,
    F: FnOnce(R) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    R::demand();
    let directory = directory();
    host::prepare_data_dir(directory.path()).unwrap();
    let data_path = directory.path().to_owned();
    let thread =
        ShardThread { id: ShardId(0), seat: anywhere(), data_path, pulse: Pulse::default() };
    let (done, result) = mpsc::channel();
    let handle = R::spawn_shard(thread, move |rt| async move {
        done.send(main(rt).await).unwrap();
    });
    let result = result.recv_timeout(Duration::from_mins(2)).expect("the job ended");
    handle.unwrap().join().unwrap();
    result
}
