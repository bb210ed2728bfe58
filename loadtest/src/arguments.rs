//! What is said on the command line, and the workload and schedule it makes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use loadtest::client::Address;
use loadtest::push::{CONNECTIONS_MAX, Protocol};
use loadtest::workload::{Shape, Source, Spec, Times};

/// Population P: 18 services of nine kinds, 4 pods each, a profile every 15 s for an hour.
const POPULATION: (u64, u64, u64, u64) = (18, 4, 15, 3600);

/// Seconds of a run that says neither how many pushes nor how long.
const SECONDS: u64 = 60;

/// Pushes of a run at most, where nothing is said.
const COUNT: u64 = 1_000_000;

/// Seconds that --find-rate offers a rate for.
const STEP_SECONDS: u64 = 5;

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The server [default: <http://127.0.0.1:4040>].
    #[arg(long, value_parser = Address::parse, conflicts_with = "start")]
    url: Option<Address>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Offer rates from --rate up, and tell the highest of which 99 % are taken; each for 5 s, or --seconds.
    #[arg(long, conflicts_with_all = ["journal", "kills", "count", "population"])]
    pub(crate) find_rate: bool,
    /// Value of X-Scope-OrgID.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// How pushes are said.
    #[arg(long, value_enum, default_value = "connect")]
    pub(crate) protocol: ProtocolArg,
    /// Pushes a second.
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Connections, each with a thread.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub(crate) connections: u16,
    /// Pushes at most [default: 1000000].
    #[arg(long)]
    count: Option<u64>,
    /// Seconds at most [default: 60, or what --count and --rate need].
    #[arg(long)]
    seconds: Option<u64>,
    /// File that says what became of each push, for verify.
    #[arg(long)]
    pub(crate) journal: Option<PathBuf>,
    /// File for the result as JSON; - for stdout.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// No line a second.
    #[arg(long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    workload: WorkloadArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProtocolArg {
    /// push.v1.PusherService/Push over Connect, in protobuf.
    Connect,
    /// /ingest, as older agents do.
    Ingest,
}

impl From<ProtocolArg> for Protocol {
    fn from(arg: ProtocolArg) -> Self {
        match arg {
            ProtocolArg::Connect => Self::Connect,
            ProtocolArg::Ingest => Self::Ingest,
        }
    }
}

/// A server that the run starts itself.
#[derive(Debug, Args)]
pub(crate) struct OwnServerArgs {
    /// A server's binary: it is started on a free port of the loopback, and stopped in the end.
    #[arg(long)]
    pub(crate) start: Option<PathBuf>,
    /// A flag for it, as it stands; may be given again.
    #[arg(long = "server-flag", requires = "start", allow_hyphen_values = true)]
    pub(crate) server_flags: Vec<String>,
    /// Its data directory [default: a new one, removed when all went well].
    #[arg(long, requires = "start")]
    pub(crate) data: Option<PathBuf>,
}

/// What is done with it.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) own: OwnServerArgs,
    /// Kill it (SIGKILL) so many times, at random moments, and start it again; then verify what it holds.
    #[arg(long, requires = "start", default_value_t = 0)]
    pub(crate) kills: u32,
    /// Watch its memory, its log and what it writes, beside a tenant that pushes once: is it steady? Turns multitenancy on.
    #[arg(long, requires_all = ["start", "tenant"], conflicts_with = "kills")]
    pub(crate) watch: bool,
    /// Verify what it holds, also without kills.
    #[arg(long, requires = "start")]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:4040", value_parser = Address::parse, conflicts_with = "start")]
    pub(crate) url: Address,
    /// What push wrote.
    #[arg(long, required_unless_present = "cuts", conflicts_with = "cuts")]
    pub(crate) journal: Option<PathBuf>,
    /// Push made-up profiles, have their heads cut so many times, and verify meanwhile what does not change any more.
    #[arg(long)]
    pub(crate) cuts: Option<u32>,
    /// With --cuts: pushes a second.
    #[arg(long, default_value_t = 100.0, value_parser = rate, requires = "cuts")]
    pub(crate) rate: f64,
    /// With --cuts: seed of what is made up.
    #[arg(long, default_value_t = 1, requires = "cuts")]
    pub(crate) seed: u64,
    /// With --cuts: a server of the run's own.
    #[command(flatten)]
    pub(crate) own: OwnServerArgs,
    /// Questions asked at a time; with --cuts, connections that push.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) connections: u16,
    /// File for the result as JSON; - for stdout.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct WorkloadArgs {
    /// Services the pushes are dealt to in turn [default: 1; with --series one of each kind].
    #[arg(long)]
    services: Option<u64>,
    /// Pods of each service.
    #[arg(long, default_value_t = 1)]
    pods: u64,
    /// Send consecutive profiles of real programs: a folder of PROGRAM/KIND/*.pb.gz.
    #[arg(long, group = "source")]
    series: Option<PathBuf>,
    /// Send the pprof files of a folder in turn.
    #[arg(long, group = "source")]
    files: Option<PathBuf>,
    /// Send made-up profiles (so it does when no other source is named).
    #[arg(long, group = "source")]
    generated: bool,
    /// Send made-up profiles whose every stack is new.
    #[arg(long, group = "source")]
    bomb: bool,
    /// With --series: 18 services of 4 pods, a profile every 15 s for the hour before now, each once: 17,280 pushes.
    #[arg(long, requires = "series", conflicts_with_all = ["services", "pods", "count", "interval", "live"])]
    population: bool,
    /// With --population: for so many hours, one after the other.
    #[arg(long, requires = "population", default_value_t = 1)]
    rounds: u64,
    /// Samples of a made-up profile.
    #[arg(long, default_value_t = 100)]
    samples: u32,
    /// Frames of a made-up stack.
    #[arg(long, default_value_t = 20)]
    depth: u32,
    /// Share of a made-up profile's stacks that no other push has.
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    new_share: f64,
    /// Seed of what is made up.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds between the times of two profiles of a pod [default: 15 with --series].
    #[arg(long)]
    interval: Option<u64>,
    /// Time of the first profile, Unix seconds [default: so that the last is of now].
    #[arg(long, conflicts_with = "live")]
    from: Option<i64>,
    /// Profiles carry the time of sending [default, except with --series].
    #[arg(long, conflicts_with = "interval")]
    live: bool,
}

impl PushArgs {
    /// The server, where it is not one of our own.
    pub(crate) fn url(&self) -> Address {
        let authority = "127.0.0.1:4040".to_owned();
        self.url.clone().unwrap_or(Address { authority, prefix: String::new() })
    }

    /// How long --find-rate offers a rate.
    pub(crate) fn step_time(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(STEP_SECONDS))
    }

    /// Pushes and seconds at most. Both are always bounded.
    pub(crate) fn bounds(&self) -> (u64, Duration) {
        if self.workload.population {
            let (services, pods, interval, seconds) = POPULATION;
            let count = services * pods * seconds / interval * self.workload.rounds;
            return (count, self.seconds.map_or_else(|| self.time_of(count), Duration::from_secs));
        }
        let time_max = match (self.count, self.seconds) {
            (_, Some(seconds)) => Duration::from_secs(seconds),
            (Some(count), None) => self.time_of(count),
            (None, None) => Duration::from_secs(SECONDS),
        };
        (self.count.unwrap_or(COUNT), time_max)
    }

    /// How long so many pushes take, and one second.
    fn time_of(&self, count: u64) -> Duration {
        Duration::try_from_secs_f64(count as f64 / self.rate + 1.0).unwrap_or(Duration::MAX)
    }

    /// What is pushed.
    pub(crate) fn spec(&self, now_ns: i64) -> Spec {
        let args = &self.workload;
        let new_share = if args.bomb { 1.0 } else { args.new_share };
        let (source, is_series) = match (&args.series, &args.files) {
            (Some(folder), _) => (Source::Series(absolute(folder)), true),
            (_, Some(folder)) => (Source::Files(absolute(folder)), false),
            _ => {
                let shape = Shape { samples: args.samples, depth: args.depth, new_share };
                (Source::Generated(shape), false)
            }
        };
        let (services, pods) = if args.population {
            (POPULATION.0, POPULATION.1)
        } else {
            (args.services.unwrap_or(if is_series { 9 } else { 1 }), args.pods)
        };
        let interval = match (args.interval, args.live) {
            (Some(interval), _) => Some(interval),
            (None, false) if self.find_rate && args.from.is_none() => None,
            (None, false) if is_series || args.from.is_some() => Some(POPULATION.2),
            (None, _) => None,
        };
        let times = interval.map_or(Times::Sending, |interval| {
            let targets = services.saturating_mul(pods).max(1);
            let (count, time_max) = self.bounds();
            let rounds = (count as f64).min(time_max.as_secs_f64() * self.rate) / targets as f64;
            let interval_ns = i64::try_from(interval.saturating_mul(1_000_000_000));
            let interval_ns = interval_ns.unwrap_or(i64::MAX);
            let from_ns = args.from.map_or_else(
                || now_ns.saturating_sub((rounds.ceil() * interval_ns as f64) as i64),
                |seconds| seconds.saturating_mul(1_000_000_000),
            );
            Times::Consecutive { from_ns, interval_ns }
        });
        Spec { source, services, first_service: 0, pods, seed: args.seed, times }
    }
}

/// So that a journal names the folder wherever it is read.
fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("a rate is above 0".to_owned()) }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is 0 to 1".to_owned()) }
}
