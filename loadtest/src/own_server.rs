//! A run at a server of its own: started, killed while pushes go on, asked what it holds, stopped.

use std::path::Path;
use std::time::{Duration, Instant};

use loadtest::journal;
use loadtest::push::unix_ns;
use loadtest::server::{Server, kill_moments};
use loadtest::shards;
use loadtest::verify::Verify;
use loadtest::workload::Workload;

use crate::arguments::PushArgs;
use crate::{prepared, say, tell, writer};

/// Questions asked at a time in the end.
const VERIFY_THREADS: usize = 2;

/// Whether everything is as it should be.
pub(crate) fn push(args: &PushArgs) -> Result<bool, String> {
    let scratch = std::env::temp_dir().join(format!("pyrite-loadtest-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let data = args.server.data.clone().unwrap_or_else(|| scratch.join("data"));
    let journal = args.journal.clone().unwrap_or_else(|| scratch.join("journal"));
    let result = run(args, &data, &journal);
    if matches!(result, Ok(true)) {
        // What is left of it harms nobody.
        let _ = std::fs::remove_dir_all(&scratch);
    } else {
        say(&format!("kept: {} (data), {} (journal)", data.display(), journal.display()));
    }
    result
}

fn run(args: &PushArgs, data: &Path, journal: &Path) -> Result<bool, String> {
    let binary = args.server.start.as_deref().expect("a server is to be started");
    let mut server = Server::start(binary, data, &args.server.server_flags)?;
    server.wait_ready()?;
    if args.find_rate {
        let is_found = crate::push(args, server.address().clone())?;
        return server.stop().map(|()| is_found);
    }
    let workload = Workload::new(args.spec(unix_ns()))?;
    let journal_writer = writer(journal, args, &workload)?;
    let push = prepared(args, server.address().clone(), &workload);
    let (start, seed) = (push.schedule.start, workload.spec().seed);
    let moments = kill_moments(seed, args.server.kills, push.schedule.time());
    say(&format!("seed {seed}; kills at {} s", seconds(&moments)));
    let (report, killed) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_all(&mut server, start, &moments));
        let report = push.run(Some(journal_writer));
        (report, killer.join().expect("the killer does not panic"))
    });
    killed?;
    let report = report.map_err(|error| error.to_string())?;
    let mut result = report.to_json();
    let mut text = report.to_string();
    let is_verified = args.server.kills > 0 || args.server.verify;
    let mut is_clean = is_verified || report.is_clean();
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
