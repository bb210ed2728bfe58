//! The `pyrite-loadtest` binary.

mod arguments;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use arguments::PushArgs;
use clap::{Parser, Subcommand};
use loadtest::journal::{Header, Writer};
use loadtest::push::{Push, unix_ns};
use loadtest::report::Report;
use loadtest::schedule::Schedule;
use loadtest::shards;
use loadtest::workload::Workload;
use serde_json::{Value, json};

/// Drives a running server over its public protocol.
#[derive(Debug, Parser)]
#[command(name = "pyrite-loadtest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pushes profiles at a fixed rate and tells what became of them; ends with 0 when all were taken, 1 when not, 2 when it
    /// could not run.
    Push(PushArgs),
}

fn main() -> ExitCode {
    let Command::Push(args) = Cli::parse().command;
    match push(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("pyrite-loadtest: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Whether everything was taken.
fn push(args: &PushArgs) -> Result<bool, String> {
    let workload = Workload::new(args.spec(unix_ns()))?;
    let header = Header::new(&workload, args.tenant.as_deref());
    let journal = args
        .journal
        .as_deref()
        .map(|path| Writer::create(path, &header).map_err(|error| at(path, &error)))
        .transpose()?;
    let (count_max, time_max) = args.bounds();
    let push = Push {
        address: args.url.clone(),
        tenant: args.tenant.clone(),
        connections_count: args.connections.into(),
        workload: &workload,
        first_number: 0,
        schedule: Schedule { start: Instant::now(), rate: args.rate, count_max, time_max },
        progress: !args.quiet,
    };
    let report = push.run(journal).map_err(|error| error.to_string())?;
    let shards = shards::profiles(&args.url);
    tell(args, &report, &workload, &shards)?;
    Ok(report.is_clean())
}

fn tell(
    args: &PushArgs,
    report: &Report,
    workload: &Workload,
    shards: &Value,
) -> Result<(), String> {
    let mut result = report.to_json();
    result["shard_profiles"] = shards.clone();
    result["configuration"] = json!({
        "rate": args.rate,
        "connections": args.connections,
        "url": format!("http://{}{}", args.url.authority, args.url.prefix),
        "workload": workload.spec(),
    });
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => {
            say(&report.to_string());
            print(&format!("{result:#}\n"));
        }
        Some(path) => {
            print(&report.to_string());
            std::fs::write(path, format!("{result:#}\n")).map_err(|error| at(path, &error))?;
        }
        None => print(&report.to_string()),
    }
    Ok(())
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[expect(clippy::print_stdout, reason = "a command line tool tells its result")]
fn print(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command line tool tells what goes wrong")]
fn say(text: &str) {
    eprintln!("{text}");
}
