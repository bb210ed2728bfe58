//! A process from its start to its end: everything that shards share, their start, the order in which they stop.
//!
//! ```text
//! main thread: lock data ─► choose a runtime ─► address ─► shards ─► wait for a signal ─► Drain, Cut, Close to all ─► join
//! ```
//! Stopping has three steps, because requests of one shard need the others: every shard drains (answers what is under way,
//! takes nothing new); when all have drained, or their time is up, each cuts its heads; and when all have cut, or their time is
//! up, each closes its log, which is gone if blocks have all of it. A further signal ends the step that is under way: what is not
//! cut is in the log. The process ends within `SHUTDOWN_MAX` of the first whatever happens.
//! What a shard does is in `shard_main`; nothing else here runs on a shard.

mod address;
mod backend;
mod shard_main;
mod signals;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::limits::Overrides;
use engine::route::ShardId;
use futures_channel::oneshot;
use ulid::Ulid;

use self::backend::Backend;
use crate::budget::{Budget, RssWatch};
use crate::config::{Config, memory_limit_default};
use crate::data_dir::DataDir;
use crate::mesh::{self, Envelope, Inbox};
use crate::overrides::{Reloader, Update};
use crate::pressure::Pressure;
use crate::readiness::Readiness;
use crate::runtime::cpu_plan::{Cpus, Seat};
use crate::runtime::host::{self, HostRuntime, ShardThread};
use crate::runtime::portable::Portable;
use crate::runtime::probe;
use crate::runtime::uring::{self, Uring};
use crate::runtime::watchdog::{Pulse, Watchdog};
use crate::telemetry::log;

/// Most that `-server.graceful-shutdown-timeout` grants.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// How long the others may drain once a shard has failed: what waits for that shard is never answered.
const DRAIN_FAILED_MAX: Duration = Duration::from_secs(1);

/// How long heads may be cut at the end: several times what heads that fill a node take. What is not in blocks then stays in
/// the log.
const CUT_MAX: Duration = Duration::from_secs(15);

/// How long closing the logs may take: a flush and a sync.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// From the signal to the process's end at most; supervisors kill after 30 s.
const SHUTDOWN_MAX: Duration = Duration::from_secs(24);

/// From the signal to the end of cutting at most, however long draining took.
const CUT_END: Duration = Duration::from_secs(20);

const _: () = assert!(
    CUT_END.as_secs() >= DRAIN_MAX.as_secs()
        && CUT_END.as_secs() + CLOSE_MAX.as_secs() < SHUTDOWN_MAX.as_secs(),
    "an orderly stop ends before the process is ended"
);

/// How long the last log lines may take to reach stderr.
const LOG_PATIENCE: Duration = Duration::from_millis(500);

/// Exit status of a process that did what it was told.
pub const EXIT_OK: u8 = 0;

/// Exit status of a process that could not start or had to stop by itself.
pub const EXIT_FAILED: u8 = 1;

/// Exit status of a command line that cannot be read, as of Go programs.
pub const EXIT_USAGE: u8 = 2;

/// Why a process could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum ProcessError {
    #[error(transparent)]
    Config(#[from] crate::config::Unsupported),
    #[error(transparent)]
    DataDir(#[from] crate::data_dir::DataDirError),
    #[error(transparent)]
    RuntimeConfig(#[from] crate::overrides::LoadError),
    #[error(transparent)]
    Probe(#[from] probe::Unavailable),
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
    #[error("listening on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("shard {shard}: {reason}", shard = shard.0)]
    Shard { shard: ShardId, reason: String },
    #[error(
        "stopping took longer than {SHUTDOWN_MAX:?}: {waiting} shards had not closed their log"
    )]
    Stuck { waiting: usize },
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> ProcessError {
    move |source| ProcessError::Io { doing, source }
}

/// What a shard is given when it starts.
#[derive(Debug)]
struct ShardSeed {
    /// Its number.
    id: ShardId,
    /// What the process was told.
    config: Arc<Config>,
    /// Queues of all shards.
    peers: Vec<futures_channel::mpsc::UnboundedSender<Envelope>>,
    /// Its own queue's end.
    inbox: Inbox,
    /// Memory of the process.
    budget: Budget,
    /// This run of the process.
    run: Ulid,
    /// Where all shards listen.
    listen: SocketAddr,
    /// Limits of every tenant at the start.
    overrides: Arc<Overrides>,
    /// Limits as they are read again.
    updates: Updates,
    /// How long profiles would wait at the shards' ingesters.
    pressure: Pressure,
    /// How far the shards' recovery is.
    readiness: Readiness,
    /// Its pulse.
    pulse: Pulse,
    /// Tells the main thread how far it is.
    events: mpsc::Sender<Event>,
    /// Resolves when it shall drain.
    drain: oneshot::Receiver<()>,
    /// Resolves when it shall cut its heads.
    cut: oneshot::Receiver<()>,
    /// Resolves when it shall close its log and end.
    close: oneshot::Receiver<()>,
}

/// What the main thread waits for.
#[derive(Debug)]
enum Event {
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// A shard has answered everything and takes nothing new.
    Drained(ShardId),
    /// A shard has put its heads into blocks, or could not.
    HasCut(ShardId),
    /// A shard's thread has ended.
    Ended(ShardId, Result<(), String>),
}

/// Runs the process until a signal stops it; the result is its exit status.
///
/// Installs the process's logging and panic hook, so it is called once.
pub fn run(config: Config) -> u8 {
    // Before any other thread exists.
    let signals = signals::StopSignals::block();
    if let Err(error) = log::install(config.log) {
        // Without a log there is only stderr to say so.
        let _ =
            std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("logging: {error}\n"));
        return EXIT_FAILED;
    }
    abort_on_panic();
    let result = signals.map_err(io("blocking signals")).and_then(|signals| serve(config, signals));
    let status = match result {
        Ok(()) => {
            tracing::info!("stopped");
            EXIT_OK
        }
        Err(error) => {
            tracing::error!(%error, "cannot go on");
            EXIT_FAILED
        }
    };
    log::flush(LOG_PATIENCE);
    status
}

/// A shard that panicked has broken an invariant of its own and others wait for it: nothing it holds is to be believed. The log
/// is; the next start reads it.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        if thread.name().is_some_and(uring::is_trial) {
            return; // who waits for the trial says that it failed
        }
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), %backtrace, "{panic}");
        log::flush(LOG_PATIENCE);
        std::process::abort();
    }));
}

fn serve(config: Config, signals: signals::StopSignals) -> Result<(), ProcessError> {
    config.check()?;
    for setting in &config.not_honoured {
        tracing::warn!(setting, "this setting is accepted and does nothing");
    }
    let reloader = match config.runtime_config.files.as_str() {
        "" => None,
        files => Some(Reloader::open(files.to_owned(), config.limits.clone())?),
    };
    // Leaked: a shard that is stuck may still append after this has returned, so the lock lasts to the process's very end.
    let data_dir: &DataDir = Box::leak(Box::new(DataDir::open(&config.data_path)?));
    let open_files = probe::raise_open_files().map_err(io("raising the limit on open files"))?;
    host::prepare_data_dir(data_dir.path()).map_err(io("writing to the data directory"))?;
    let backend = backend::choose(config.runtime, data_dir.path())?;
    let cpus = Cpus::of_this_process().map_err(io("asking for the CPUs of this process"))?;
    let shards_count = if config.shards == 0 { cpus.shards_default() } else { config.shards };
    let memory_limit = match config.memory_limit_bytes {
        0 => memory_limit_default(),
        bytes => bytes,
    };
    let listen = address::listen_address(&config.http).map_err(|source| ProcessError::Listen {
        address: format!("{}:{}", config.http.listen_address, config.http.listen_port),
        source,
    })?;
    let (events_in, events) = mpsc::channel();
    let signal_events = events_in.clone();
    signals
        .listen(move |name| signal_events.send(Event::Signal(name)).is_ok())
        .map_err(io("starting the signal thread"))?;
    let run = new_run().map_err(io("reading the random source"))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        data = %data_dir.path().display(),
        %run,
        shards = shards_count,
        cpus = cpus.budget,
        runtime = match backend {
            Backend::Uring => Uring::NAME,
            Backend::Portable => Portable::NAME,
        },
        memory_limit,
        open_files,
        "starting"
    );
    let seats = cpus.seats(shards_count);
    let overrides = match &reloader {
        Some(reloader) => Arc::clone(reloader.overrides()),
        None => Arc::new(Overrides::none(config.limits.clone())),
    };
    let (updates_in, updates) = update_channels(shards_count);
    let settings = Settings { config: Arc::new(config), overrides, run, listen, memory_limit };
    let start = match backend {
        Backend::Uring => Shards::start::<Uring>,
        Backend::Portable => Shards::start::<Portable>,
    };
    let mut shards = start(seats, updates, &settings, data_dir.path(), &events_in)?;
    let reload_period = settings.config.runtime_config.reload_period;
    if let Some(reloader) = reloader.filter(|_| !reload_period.is_zero()) {
        let started = reloader.start(reload_period, updates_in);
        started.map_err(io("starting the thread that rereads the runtime config"))?;
    }
    shards.supervise(&events, settings.config.http.graceful_shutdown_timeout.min(DRAIN_MAX))
}

/// Where a shard is told of limits that were read again.
type Updates = futures_channel::mpsc::Receiver<Update>;

/// A way for each shard; one update waits at most beside the one under way.
fn update_channels(
    shards_count: u16,
) -> (Vec<futures_channel::mpsc::Sender<Update>>, Vec<Updates>) {
    (0..shards_count).map(|_| futures_channel::mpsc::channel(0)).unzip()
}

/// A ULID of now. The kernel's source makes runs of one millisecond differ.
fn new_run() -> std::io::Result<Ulid> {
    let mut random = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    Ok(Ulid::from_parts(unix_ms as u64, u128::from_le_bytes(random)))
}

/// What all shards have in common.
struct Settings {
    config: Arc<Config>,
    overrides: Arc<Overrides>,
    run: Ulid,
    listen: SocketAddr,
    memory_limit: u64,
}

/// The running shards as the main thread sees them.
struct Shards {
    drains: Vec<Option<oneshot::Sender<()>>>,
    cuts: Vec<Option<oneshot::Sender<()>>>,
    closes: Vec<Option<oneshot::Sender<()>>>,
    drained: Vec<bool>,
    has_cut: Vec<bool>,
    ended: Vec<bool>,
    failure: Option<ProcessError>,
    _watchdog: Watchdog,
    _rss_watch: Option<RssWatch>,
}

impl Shards {
    fn start<R: HostRuntime>(
        seats: Vec<Seat>,
        updates: Vec<Updates>,
        settings: &Settings,
        data_path: &Path,
        events: &mpsc::Sender<Event>,
    ) -> Result<Self, ProcessError> {
        let shards_count = seats.len() as u16;
        let (peers, inboxes) = mesh::queues(shards_count);
        let budget = Budget::new(settings.memory_limit, shards_count);
        let rss_watch =
            RssWatch::start(budget.clone()).map_err(io("looking at the memory of this process"))?;
        let pressure = Pressure::new(shards_count);
        let readiness = Readiness::new(shards_count);
        let pulses: Vec<Pulse> = seats.iter().map(|_| Pulse::default()).collect();
        let watchdog =
            Watchdog::start(pulses.clone()).map_err(io("starting the watchdog's thread"))?;
        let mut shards = Self {
            drains: Vec::new(),
            cuts: Vec::new(),
            closes: Vec::new(),
            drained: vec![false; seats.len()],
            has_cut: vec![false; seats.len()],
            ended: vec![false; seats.len()],
            failure: None,
            _watchdog: watchdog,
            _rss_watch: Some(rss_watch),
        };
        for (number, (((seat, inbox), pulse), updates)) in
            seats.into_iter().zip(inboxes).zip(pulses).zip(updates).enumerate()
        {
            let id = ShardId(number as u16);
            let (drain_in, drain) = oneshot::channel();
            let (cut_in, cut) = oneshot::channel();
            let (close_in, close) = oneshot::channel();
            shards.drains.push(Some(drain_in));
            shards.cuts.push(Some(cut_in));
            shards.closes.push(Some(close_in));
            let seed = ShardSeed {
                id,
                config: Arc::clone(&settings.config),
                peers: peers.clone(),
                inbox,
                budget: budget.clone(),
                run: settings.run,
                listen: settings.listen,
                overrides: Arc::clone(&settings.overrides),
                updates,
                pressure: pressure.clone(),
                readiness: readiness.clone(),
                pulse: pulse.clone(),
                events: events.clone(),
                drain,
                cut,
                close,
            };
            let thread = ShardThread { id, seat, data_path: data_path.to_owned(), pulse };
            let handle = R::spawn_shard(thread, move |rt| shard_main::shard_main(rt, seed))
                .map_err(io("starting a shard's thread"))?;
            let ended = events.clone();
            std::thread::Builder::new()
                .name(format!("join-{number}"))
                .spawn(move || {
                    let result = handle.join().map_err(|error| error.to_string()).flatten();
                    let _ = ended.send(Event::Ended(id, result)); // nobody listens once the process gave up
                })
                .map_err(io("starting a joining thread"))?;
        }
        Ok(shards)
    }

    /// Waits for a signal or the end of a shard, then stops them all in order.
    fn supervise(
        &mut self,
        events: &mpsc::Receiver<Event>,
        drain_max: Duration,
    ) -> Result<(), ProcessError> {
        while !matches!(self.next(events, None), Stopping::Signal | Stopping::Ended) {}
        let began = Instant::now();
        tell(&mut self.drains);
        let drain_end = |shards: &Self| {
            let failed = shards.failure.is_some();
            began + if failed { drain_max.min(DRAIN_FAILED_MAX) } else { drain_max }
        };
        let told = self.wait_until(events, drain_end, |shards| shards.all(&shards.drained));
        if told != Told::ToHurry && self.failure.is_none() {
            tell(&mut self.cuts);
            let cut_end = (Instant::now() + CUT_MAX).min(began + CUT_END);
            self.wait_until(events, |_| cut_end, |shards| shards.all(&shards.has_cut));
        }
        tell(&mut self.closes);
        self.wait_until(events, |_| began + SHUTDOWN_MAX, |shards| shards.waiting() == 0);
        match (self.failure.take(), self.waiting()) {
            (Some(failure), _) => Err(failure),
            (None, 0) => Ok(()),
            (None, waiting) => Err(ProcessError::Stuck { waiting }),
        }
    }

    /// Takes events in until `enough`, the deadline, or a further signal: whoever sends a second one does not want to wait.
    fn wait_until(
        &mut self,
        events: &mpsc::Receiver<Event>,
        deadline: impl Fn(&Self) -> Instant,
        enough: impl Fn(&Self) -> bool,
    ) -> Told {
        while !enough(self) {
            match self.next(events, Some(deadline(self))) {
                Stopping::Signal => return Told::ToHurry,
                Stopping::Late => return Told::Late,
                Stopping::No | Stopping::Ended => {}
            }
        }
        Told::Enough
    }

    fn next(&mut self, events: &mpsc::Receiver<Event>, deadline: Option<Instant>) -> Stopping {
        let event = match deadline {
            None => events.recv().map_err(|_| ()),
            Some(deadline) => {
                let patience = deadline.saturating_duration_since(Instant::now());
                events.recv_timeout(patience).map_err(|_| ())
            }
        };
        match event {
            Err(()) => Stopping::Late,
            Ok(Event::Signal(name)) => {
                tracing::info!(signal = name, "stopping");
                Stopping::Signal
            }
            Ok(Event::Drained(shard)) => {
                self.drained[shard.0 as usize] = true;
                Stopping::No
            }
            Ok(Event::HasCut(shard)) => {
                self.has_cut[shard.0 as usize] = true;
                Stopping::No
            }
            Ok(Event::Ended(shard, result)) => {
                self.ended[shard.0 as usize] = true;
                if let Err(reason) = result {
                    self.failure.get_or_insert(ProcessError::Shard { shard, reason });
                }
                Stopping::Ended
            }
        }
    }

    /// Whether all shards that have not ended are so far.
    fn all(&self, far: &[bool]) -> bool {
        far.iter().zip(&self.ended).all(|(far, ended)| *far || *ended)
    }

    /// Shards whose thread has not ended.
    fn waiting(&self) -> usize {
        self.ended.iter().filter(|ended| !**ended).count()
    }
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Enough,
    ToHurry,
    Late,
}

/// What an event means for whoever waits.
enum Stopping {
    No,
    Signal,
    Ended,
    Late,
}

fn tell(receivers: &mut [Option<oneshot::Sender<()>>]) {
    for receiver in receivers {
        if let Some(receiver) = receiver.take() {
            let _ = receiver.send(()); // a shard that has ended needs no telling
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    /// The drain was once waited for whole, 20 s, although what the failed shard owed the others never came.
    #[test]
    fn after_a_failed_shard_the_others_close_their_logs_at_once() {
        let (events_in, events) = mpsc::channel();
        let (close_in, close) = oneshot::channel();
        let mut shards = Shards {
            drains: Vec::new(),
            cuts: Vec::new(),
            closes: vec![None, Some(close_in)],
            drained: vec![false; 2],
            has_cut: vec![false; 2],
            ended: vec![false; 2],
            failure: None,
            _watchdog: Watchdog::start(Vec::new()).unwrap(),
            _rss_watch: None,
        };
        let began = Instant::now();
        events_in.send(Event::Ended(ShardId(0), Err("its log is gone".to_owned()))).unwrap();
        let survivor = std::thread::spawn(move || {
            futures_executor::block_on(close).unwrap();
            events_in.send(Event::Ended(ShardId(1), Ok(()))).unwrap();
            began.elapsed()
        });
        let error = shards.supervise(&events, DRAIN_MAX).unwrap_err();
        assert_eq!(error.to_string(), "shard 0: its log is gone");
        let waited = survivor.join().unwrap();
        assert!(waited >= DRAIN_FAILED_MAX && waited < DRAIN_MAX / 2, "{waited:?}");
    }

    /// The lock once went before the last log lines were written, and with it before a stuck shard's last append.
    #[test]
    fn the_data_stays_locked_when_serving_has_ended() {
        let data = tempfile::tempdir().unwrap();
        let mut config = Config { data_path: data.path().join("data"), ..Config::default() };
        config.http.listen_address = "no address".to_owned();
        let error = serve(config.clone(), signals::StopSignals::block().unwrap()).unwrap_err();
        assert!(matches!(error, ProcessError::Listen { .. }), "{error}");
        let again = DataDir::open(&config.data_path).unwrap_err().to_string();
        assert!(again.contains("is in use by process"), "{again}");
    }

    /// Tells a copy of this test binary to be the process that panics.
    const PANICS: &str = "PYRITE_TEST_PANICS";

    #[test]
    fn a_panic_on_any_thread_is_logged_and_ends_the_process() {
        if std::env::var_os(PANICS).is_some() {
            log::install(Config::default().log).unwrap();
            abort_on_panic();
            let trial = std::thread::Builder::new().name("io-trial".to_owned());
            let trial = trial.spawn(|| panic!("io_uring is not what it was thought to be"));
            assert!(trial.unwrap().join().is_err(), "a failed trial ends its thread alone");
            let _ = std::thread::spawn(|| panic!("a law is broken")).join();
            unreachable!("the process has ended");
        }
        let name = "process::tests::a_panic_on_any_thread_is_logged_and_ends_the_process";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(PANICS, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("level=error") && stderr.contains("a law is broken"), "{stderr}");
        assert!(!stderr.contains("thought to be"), "{stderr}");
    }

    /// Its supervisor would kill it while it still answers requests.
    #[test]
    fn the_systemd_unit_waits_longer_than_a_stop_takes() {
        let unit = include_str!("../../../docs/pyrite.service");
        let granted = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
        let granted = Duration::from_secs(granted.unwrap().parse().unwrap());
        assert!(granted > SHUTDOWN_MAX + Duration::from_secs(5), "{granted:?}");
    }
}
