//! The `pyrite-loadtest` binary.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use loadtest::client::Address;
use loadtest::push::Push;
use loadtest::schedule::Schedule;
use loadtest::workload::Workload;

/// Drives a running server over its public protocol.
#[derive(Debug, Parser)]
#[command(name = "pyrite-loadtest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pushes profiles at a fixed rate and tells what became of them; ends with 1 unless all were taken.
    Push(PushArgs),
}

#[derive(Debug, Args)]
struct PushArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:4040", value_parser = Address::parse)]
    url: Address,
    /// Value of X-Scope-OrgID.
    #[arg(long)]
    tenant: Option<String>,
    /// Pushes a second.
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Connections, each with a thread.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Services the pushes are dealt to in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    services: u64,
    /// Pushes at most.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Seconds at most.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Samples of a made-up profile.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    samples: u64,
    /// A folder of pprof files to send in turn, instead of made-up profiles.
    #[arg(long)]
    files: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("a rate is above 0".to_owned()) }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool tells its result"
)]
fn main() -> ExitCode {
    let Command::Push(args) = Cli::parse().command;
    let workload = match args.files.as_deref().map(Workload::of_folder) {
        None => Workload::Generated { samples_count: args.samples },
        Some(Ok(workload)) => workload,
        Some(Err(error)) => {
            eprintln!("pyrite-loadtest: {error}");
            return ExitCode::from(2);
        }
    };
    let push = Push {
        address: args.url,
        tenant: args.tenant,
        connections_count: args.connections.into(),
        services_count: args.services,
        workload,
        schedule: Schedule {
            start: Instant::now(),
            rate: args.rate,
            count_max: args.count,
            time_max: Duration::from_secs(args.seconds),
        },
    };
    let report = push.run();
    print!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
