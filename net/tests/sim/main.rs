//! The simulator's seeds: pushes that enter at the distributor's admission, clients that go away, limits that are met, services
//! spread anew, heads cut by size, by age and because somebody asks, crashes at any moment and at the named steps of publishing,
//! torn and lost writes, failing syncs and renames, slow, low and full disks, clock jumps that outlive blocks, restarts with another number of shards.
//!
//! Checked after every start and while pushes, cuts and reads go on: acknowledged ⊆ readable, everything exactly once (a refused
//! push 0 times, one in doubt or unanswered 0 or 1 times), what was recovered once or flushed stays, stacks and series equal an
//! oracle that shares no code with the product, a start leaves nothing half-written; and the same seed leaves the same trace.
//!
//! ```text
//! cargo test -p net --test sim                                    200 fixed seeds, one fresh, every planted bug
//! SIM_SEEDS=5000 cargo sim                                        more fixed seeds, faster
//! SIM_SEED=42 cargo test -p net --test sim                        one seed
//! PYRITE_PLANTED_BUG=ack_before_sync cargo test -p net --test sim one planted bug
//! ```
//! The planted bugs live under the feature `planted-bugs`, which this package turns on for its own tests and no build has.
#![expect(clippy::print_stdout, reason = "a test without a harness tells what it did itself")]

mod clients;
mod hot;
mod node;
mod oracle;
mod profile;
mod publishing;
mod read;
mod removal;
mod scenario;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use engine::planted::Bug;

use self::scenario::Report;

/// Fixed seeds, 0 and on, unless `SIM_SEEDS` says how many.
const SEEDS: u64 = 200;

/// Every so many seeds one is run twice, to hold its traces against each other.
const TWICE_EVERY: u64 = 10;

fn main() -> ExitCode {
    let seed = std::env::var("SIM_SEED").ok().map(|text| parse_number(&text));
    let seeds = std::env::var("SIM_SEEDS").ok().map_or(SEEDS, |text| parse_number(&text));
    let outcome = match std::env::var("PYRITE_PLANTED_BUG") {
        Ok(name) => match Bug::from_name(&name) {
            Some(bug) => catch(bug, seed.map_or(0..seeds, |seed| seed..seed + 1)),
            None => Err(format!("there is no planted bug {name}")),
        },
        Err(_) => match seed {
            Some(seed) => one(seed),
            None => all(seeds),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            println!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn parse_number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{text:?} is no decimal or 0x number of seeds or of a seed"))
}

/// Runs a seed; a panic is a finding like any other.
fn run(seed: u64, bug: Option<Bug>) -> (Report, Result<(), String>) {
    catch_unwind(AssertUnwindSafe(|| scenario::run(seed, bug))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        (Report::default(), Err(format!("panic: {}", text.unwrap_or_default())))
    })
}

fn all(seeds: u64) -> Result<(), String> {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let sums = std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|part| scope.spawn(move || fixed(seeds, part, threads))).collect();
        parts.into_iter().try_fold(Report::default(), |mut sums, part| {
            add(&mut sums, part.join().expect("a thread of seeds catches its panics")?);
            Ok::<_, String>(sums)
        })
    })?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{seeds} fixed seeds: sound in {seconds:.1} s ({})", told(sums));
    println!("{} of them run twice: same traces", seeds.div_ceil(TWICE_EVERY));
    println!("a hot service: {}", hot::run()?);
    println!("a crash at each step of publishing: {}", publishing::run()?);
    println!("a crash at each step of removing logs: {}", removal::run()?);
    let fresh = fresh_seed();
    println!("fresh seed {fresh:#x}");
    let report = sound(fresh)?;
    same_trace(fresh, report)?;
    println!("fresh seed {fresh:#x}: sound, same trace twice ({})", told(report));
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        missed.extend(catch(bug, 0..seeds).err());
    }
    if missed.is_empty() { Ok(()) } else { Err(missed.join("\n")) }
}

/// Every `of`-th of the fixed seeds.
fn fixed(seeds: u64, part: u64, of: u64) -> Result<Report, String> {
    let mut sums = Report::default();
    for seed in (0..seeds).filter(|seed| seed % of == part) {
        let report = sound(seed)?;
        if seed % TWICE_EVERY == 0 {
            same_trace(seed, report)?;
        }
        add(&mut sums, report);
    }
    Ok(sums)
}

fn one(seed: u64) -> Result<(), String> {
    println!("seed {seed:#x}");
    let report = sound(seed)?;
    same_trace(seed, report)?;
    println!("seed {seed:#x}: sound, same trace twice ({})", told(report));
    Ok(())
}

fn sound(seed: u64) -> Result<Report, String> {
    let (report, outcome) = run(seed, None);
    outcome
        .map_err(|text| format!("seed {seed:#x}: {text}\nrun it again with SIM_SEED={seed:#x}"))?;
    Ok(report)
}

fn same_trace(seed: u64, first: Report) -> Result<(), String> {
    let second = sound(seed)?;
    if first == second {
        return Ok(());
    }
    Err(format!("seed {seed:#x} is not one run but two: {first:?} and {second:?}"))
}

/// Runs seeds with a bug until a checker finds it.
fn catch(bug: Bug, seeds: Range<u64>) -> Result<(), String> {
    let count = seeds.end - seeds.start;
    // What a planted bug makes panic is no news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = seeds.into_iter().find_map(|seed| Some((seed, run(seed, Some(bug)).1.err()?)));
    std::panic::set_hook(hook);
    let name = bug.as_str();
    match caught {
        Some((seed, text)) => {
            println!("{name}: caught (seed {seed:#x}: {text})");
            Ok(())
        }
        None => Err(format!("{name}: NOT caught by {count} seeds")),
    }
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    since.as_nanos() as u64
}

fn add(sums: &mut Report, report: Report) {
    sums.runs += report.runs;
    sums.profiles += report.profiles;
    sums.acknowledged += report.acknowledged;
    sums.refused += report.refused;
    sums.in_doubt += report.in_doubt;
    sums.unanswered += report.unanswered;
    sums.recovered_unasked += report.recovered_unasked;
    sums.sealed += report.sealed;
    sums.starved += report.starved;
    sums.segments += report.segments;
    sums.cuts += report.cuts;
    sums.cuts_failed += report.cuts_failed;
    sums.blocks_removed += report.blocks_removed;
    sums.reads += report.reads;
    sums.last_cuts += report.last_cuts;
    sums.crashes_while_publishing += report.crashes_while_publishing;
}

fn told(report: Report) -> String {
    let Report { runs, profiles, acknowledged, refused, in_doubt, unanswered, .. } = report;
    let Report { recovered_unasked, segments, sealed, starved, .. } = report;
    let Report { cuts, cuts_failed, blocks_removed, reads, crashes_while_publishing, .. } = report;
    let last_cuts = report.last_cuts;
    format!(
        "{runs} runs, {profiles} profiles: {acknowledged} acknowledged, {refused} refused, {in_doubt} in doubt, \
         {unanswered} unanswered, {recovered_unasked} of these two stored; {segments} segments, {sealed} logs sealed, {starved} starved at the end; \
         {cuts} cuts, {cuts_failed} failed, {blocks_removed} blocks outlived, {crashes_while_publishing} crashes at a step of publishing, {last_cuts} ends with a cut; {reads} reads while pushing"
    )
}
