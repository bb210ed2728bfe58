//! A run at a server of its own: started, killed while pushes go on, asked what it holds, stopped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loadtest::batch::{Batch, Order};
use loadtest::client::Address;
use loadtest::cuts::{Cuts, ROUND_TIME};
use loadtest::journal;
use loadtest::push::unix_ns;
use loadtest::schedule::Schedule;
use loadtest::server::{Server, kill_moments};
use loadtest::shards;
use loadtest::verify::Verify;
use loadtest::watch::Watch;
use loadtest::workload::Workload;

use crate::arguments::{PushArgs, VerifyArgs};
use crate::{prepared, say, tell, write_result, writer};

/// Who pushes once beside those that are watched.
const QUIET_TENANT: &str = "quiet";

/// Questions asked at a time in the end.
const VERIFY_THREADS: usize = 2;

/// Whether everything is as it should be.
pub(crate) fn push(args: &PushArgs) -> Result<bool, String> {
    in_scratch(|scratch| {
        let data = args.server.own.data.clone().unwrap_or_else(|| scratch.join("data"));
        let journal = args.journal.clone().unwrap_or_else(|| scratch.join("journal"));
        run(args, &data, &journal)
    })
}

/// Verifies while heads are cut, at a server of its own where one is to be started.
pub(crate) fn cuts(args: &VerifyArgs, cuts: u32) -> Result<bool, String> {
    in_scratch(|scratch| {
        let own = &args.own;
        let data = own.data.clone().unwrap_or_else(|| scratch.join("data"));
        let start = |binary: &PathBuf| Server::start(binary, &data, &own.server_flags);
        let mut server = own.start.as_ref().map(start).transpose()?;
        server.as_mut().map_or(Ok(()), Server::wait_ready)?;
        let address = server.as_ref().map_or(&args.url, Server::address).clone();
        let report = Cuts {
            address,
            cuts,
            rate: args.rate,
            connections_count: args.connections.into(),
            seed: args.seed,
            round_time: ROUND_TIME,
            directory: scratch.to_owned(),
        }
        .run()?;
        write_result(args.json.as_deref(), &report.to_string(), &report.to_json())?;
        server.map_or(Ok(()), Server::stop)?;
        Ok(report.is_clean())
    })
}

/// Runs with a directory for what is written on the way. It is kept where something went wrong.
fn in_scratch(run: impl FnOnce(&Path) -> Result<bool, String>) -> Result<bool, String> {
    let scratch = std::env::temp_dir().join(format!("pyrite-loadtest-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let result = run(&scratch);
    if matches!(result, Ok(true)) {
        // What is left of it harms nobody.
        let _ = std::fs::remove_dir_all(&scratch);
    } else {
        say(&format!("kept: {}", scratch.display()));
    }
    result
}

fn run(args: &PushArgs, data: &Path, journal: &Path) -> Result<bool, String> {
    let binary = args.server.own.start.as_deref().expect("a server is to be started");
    let mut flags = args.server.own.server_flags.clone();
    if args.server.watch {
        flags.push("-auth.multitenancy-enabled".to_owned());
    }
    let mut server = Server::start(binary, data, &flags)?;
    server.wait_ready()?;
    if args.find_rate {
        let is_found = crate::push(args, server.address().clone())?;
        return server.stop().map(|()| is_found);
    }
    let quiet = args.server.watch.then(|| push_quiet(server.address(), journal)).transpose()?;
    let workload = Workload::new(args.spec(unix_ns()))?;
    let journal_writer = writer(journal, args, &workload)?;
    let push = prepared(args, server.address().clone(), &workload);
    let (start, seed) = (push.schedule.start, workload.spec().seed);
    let moments = kill_moments(seed, args.server.kills, push.schedule.time());
    say(&format!("seed {seed}; kills at {} s", seconds(&moments)));
    let watch =
        Watch { address: server.address().clone(), pid: server.pid(), time: push.schedule.time() };
    let is_over = AtomicBool::new(false);
    let (report, killed, watched) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_all(&mut server, start, &moments));
        let watcher = args.server.watch.then(|| scope.spawn(|| watch.run(&is_over)));
        let report = push.run(Some(journal_writer));
        is_over.store(true, Ordering::Relaxed);
        let watched = watcher.map(|watcher| watcher.join().expect("the watcher does not panic"));
        (report, killer.join().expect("the killer does not panic"), watched)
    });
    killed?;
    let report = report.map_err(|error| error.to_string())?;
    let mut result = report.to_json();
    let mut text = report.to_string();
    let is_verified = args.server.kills > 0 || args.server.verify;
    let mut is_clean = is_verified || report.is_clean();
    if let Some(watched) = watched.transpose()? {
        is_clean &= watched.is_steady();
        result["watch"] = watched.to_json(report.bytes);
        text += &watched.text(report.bytes);
    }
    if let Some(quiet) = quiet {
        let findings = quiet.verify(server.address(), 1)?;
        is_clean &= findings.is_clean() && findings.acknowledged == 1;
        result["quiet_tenant"] = findings.to_json();
        text += "the quiet tenant: ";
        text += &findings.to_string();
    }
    if is_verified {
        let since = Instant::now();
        server.wait_ready()?;
        say(&format!("ready after {:.1} s", since.elapsed().as_secs_f64()));
        let (header, records) = journal::read(journal)?;
        let verify = Verify {
            address: server.address().clone(),
            tenant: header.tenant,
            workload: &workload,
            records,
            threads_count: VERIFY_THREADS,
        };
        let findings = verify.run()?;
        is_clean &= findings.is_clean();
        result["verify"] = findings.to_json();
        text += &findings.to_string();
    }
    result["shard_profiles"] = shards::profiles(server.address());
    tell(args.json.as_deref(), &text, &mut result, args, &workload)?;
    server.stop()?;
    Ok(is_clean)
}

/// Pushes one profile of the quiet tenant.
fn push_quiet(address: &Address, journal: &Path) -> Result<Batch, String> {
    let order = Order {
        address,
        tenant: Some(QUIET_TENANT),
        first_service: 0,
        services: 1,
        pods: 1,
        seed: 1,
        connections_count: 1,
        schedule: Schedule {
            start: Instant::now(),
            rate: 1.0,
            count_max: 1,
            time_max: Duration::from_secs(1),
        },
    };
    Batch::push(order, &journal.with_extension("quiet"))
}

fn kill_all(server: &mut Server, start: Instant, moments: &[Duration]) -> Result<(), String> {
    for moment in moments {
        std::thread::sleep((start + *moment).saturating_duration_since(Instant::now()));
        server.kill()?;
    }
    Ok(())
}

fn seconds(moments: &[Duration]) -> String {
    let words: Vec<String> =
        moments.iter().map(|moment| format!("{:.2}", moment.as_secs_f64())).collect();
    if words.is_empty() { "no".to_owned() } else { words.join(", ") }
}
