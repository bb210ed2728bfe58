//! The `pyrite-loadtest` binary.

mod arguments;
mod own_server;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{PushArgs, VerifyArgs};
use clap::{Parser, Subcommand};
use loadtest::client::Address;
use loadtest::find_rate::{Step, find_rate};
use loadtest::journal::{self, Header, Writer};
use loadtest::push::{Push, unix_ns};
use loadtest::schedule::Schedule;
use loadtest::shards;
use loadtest::verify::{Findings, Verify};
use loadtest::workload::Workload;
use serde_json::{Value, json};

/// Drives a running server over its public protocol.
#[derive(Debug, Parser)]
#[command(name = "pyrite-loadtest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// All end with 0 when everything is as it should be, 1 when not, 2 when that could not be found out.
#[derive(Debug, Subcommand)]
enum Command {
    /// Pushes profiles at a fixed rate and tells what became of them. All must be taken; with --kills or --verify, found again.
    Push(Box<PushArgs>),
    /// Reads back what a journal says was pushed: each acknowledged push must be there once, and nothing else. With --cuts, pushes by
    /// itself and reads while heads become blocks.
    Verify(Box<VerifyArgs>),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Push(args) if args.server.own.start.is_some() => own_server::push(&args),
        Command::Push(args) => push(&args, args.url()),
        Command::Verify(args) => match (&args.journal, args.cuts) {
            (Some(journal), _) => verify(&args, journal),
            (None, cuts) => own_server::cuts(&args, cuts.unwrap_or_default()),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("pyrite-loadtest: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Whether everything was taken.
fn push(args: &PushArgs, address: Address) -> Result<bool, String> {
    let workload = Workload::new(args.spec(unix_ns()))?;
    let journal = args.journal.as_deref().map(|path| writer(path, args, &workload)).transpose()?;
    let mut push = prepared(args, address, &workload);
    if args.find_rate {
        return search(args, &mut push);
    }
    let report = push.run(journal).map_err(|error| error.to_string())?;
    let mut result = report.to_json();
    result["shard_profiles"] = shards::profiles(&push.address);
    tell(args.json.as_deref(), &report.to_string(), &mut result, args, &workload)?;
    Ok(report.is_clean())
}

fn writer(path: &Path, args: &PushArgs, workload: &Workload) -> Result<Writer, String> {
    let header = Header::new(workload, args.tenant.as_deref());
    Writer::create(path, &header).map_err(|error| format!("{}: {error}", path.display()))
}

fn prepared<'a>(args: &PushArgs, address: Address, workload: &'a Workload) -> Push<'a> {
    let (count_max, time_max) = args.bounds();
    Push {
        address,
        tenant: args.tenant.clone(),
        protocol: args.protocol.into(),
        connections_count: args.connections.into(),
        workload,
        first_number: 0,
        schedule: Schedule { start: Instant::now(), rate: args.rate, count_max, time_max },
        progress: !args.quiet,
    }
}

fn search(args: &PushArgs, push: &mut Push<'_>) -> Result<bool, String> {
    let mut steps = Vec::new();
    let tell_step = |step: &Step| {
        let (rate, goodput) = (step.rate, step.report.goodput());
        let word = if step.is_taken() { "taken" } else { "too much" };
        let p99 = step.report.latency_at(0.99).as_secs_f64() * 1000.0;
        say(&format!("rate {rate:.1}/s  goodput {goodput:.1}/s  p99 {p99:.1} ms  {word}"));
        steps.push(
            json!({"rate": rate, "is_taken": step.is_taken(), "report": step.report.to_json()}),
        );
    };
    let best = find_rate(push, args.step_time(), tell_step).map_err(|error| error.to_string())?;
    let text = best.as_ref().map_or_else(
        || "no rate was taken\n".to_owned(),
        |step| format!("highest rate taken: {:.1}/s\n{}", step.rate, step.report),
    );
    let mut result = json!({"rate_max": best.as_ref().map(|step| step.rate), "steps": steps});
    tell(args.json.as_deref(), &text, &mut result, args, push.workload)?;
    Ok(best.is_some())
}

fn verify(args: &VerifyArgs, journal: &Path) -> Result<bool, String> {
    let (header, records) = journal::read(journal)?;
    let workload = header.workload()?;
    let verify = Verify {
        address: args.url.clone(),
        tenant: header.tenant,
        workload: &workload,
        records,
        threads_count: args.connections.into(),
    };
    let findings = verify.run()?;
    write_result(args.json.as_deref(), &findings.to_string(), &findings.to_json())?;
    Ok(Findings::is_clean(&findings))
}

/// Tells a result of pushing with what was asked for.
fn tell(
    json: Option<&Path>,
    text: &str,
    result: &mut Value,
    args: &PushArgs,
    workload: &Workload,
) -> Result<(), String> {
    result["configuration"] = json!({
        "rate": args.rate,
        "connections": args.connections,
        "protocol": format!("{:?}", args.protocol).to_lowercase(),
        "kills": args.server.kills,
        "server_flags": args.server.own.server_flags,
        "workload": workload.spec(),
    });
    write_result(json, text, result)
}

fn write_result(json: Option<&Path>, text: &str, result: &Value) -> Result<(), String> {
    match json {
        Some(path) if path == Path::new("-") => {
            say(text);
            print(&format!("{result:#}\n"));
        }
        Some(path) => {
            print(text);
            std::fs::write(path, format!("{result:#}\n"))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        None => print(text),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command line tool tells its result")]
fn print(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command line tool tells what goes wrong")]
fn say(text: &str) {
    eprintln!("{text}");
}
