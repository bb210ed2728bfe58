//! Whether answers stay exact while heads become blocks: data that does not change any more is read over and over.
//!
//! ```text
//! round 0: push batch 0
//! round k: push batch k ║ flush, flush, … ║ verify batch k − 1 until both have ended      the first flush cuts what is watched
//! the end: verify every batch
//! ```
//! A batch has services of its own. Not here: what an answer must be ([`crate::verify`]).

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::batch::{Batch, Order};
use crate::client::{Address, Connection};
use crate::schedule::Schedule;
use crate::verify::Findings;

/// Flushes of a round: one cuts what is watched, the others what comes beside it.
const FLUSHES_OF_ROUND: u32 = 5;

/// How long a round pushes, where nothing else is said, and the time its flushes are spread over.
pub const ROUND_TIME: Duration = Duration::from_secs(2);

/// Services of a batch, and pods of each: enough for every shard to have some.
const SERVICES: u64 = 10;
const PODS: u64 = 2;

/// Questions asked at a time.
const VERIFY_THREADS: usize = 2;

/// A run.
#[derive(Debug)]
pub struct Cuts {
    /// The server.
    pub address: Address,
    /// How often it is asked to cut.
    pub cuts: u32,
    /// Pushes a second meanwhile.
    pub rate: f64,
    /// Connections of the pushes.
    pub connections_count: usize,
    /// Seed of what is pushed.
    pub seed: u64,
    /// How long a round pushes: [`ROUND_TIME`].
    pub round_time: Duration,
    /// Where journals are written.
    pub directory: PathBuf,
}

/// What it showed.
#[derive(Clone, Debug, Default)]
pub struct CutsReport {
    /// Cuts that were asked for and made.
    pub cuts: u32,
    /// What was found while they were made.
    pub during: Findings,
    /// What was found of everything in the end.
    pub after: Findings,
}

impl Cuts {
    /// Runs all rounds. An error says why they could not end.
    pub fn run(&self) -> Result<CutsReport, String> {
        let mut report = CutsReport::default();
        let mut batches = vec![self.push(0)?];
        let mut round = 1;
        while report.cuts < self.cuts {
            let flushes = (self.cuts - report.cuts).min(FLUSHES_OF_ROUND);
            let watched = batches.last().expect("round 0 made one");
            let (batch, findings) = self.round(round, flushes, watched)?;
            batches.push(batch);
            report.during.add(findings);
            report.cuts += flushes;
            round += 1;
        }
        for batch in &batches {
            report.after.add(batch.verify(&self.address, VERIFY_THREADS)?);
        }
        Ok(report)
    }

    fn round(
        &self,
        round: u64,
        flushes: u32,
        watched: &Batch,
    ) -> Result<(Batch, Findings), String> {
        std::thread::scope(|scope| {
            let pushing = scope.spawn(|| self.push(round));
            let flushing = scope.spawn(|| self.flush(flushes));
            let mut findings = Findings::default();
            loop {
                let is_last = pushing.is_finished() && flushing.is_finished();
                findings.add(watched.verify(&self.address, VERIFY_THREADS)?);
                if is_last {
                    break;
                }
            }
            flushing.join().expect("the flushing thread does not panic")?;
            let batch = pushing.join().expect("the pushing thread does not panic")?;
            Ok((batch, findings))
        })
    }

    fn push(&self, round: u64) -> Result<Batch, String> {
        let order = Order {
            address: &self.address,
            tenant: None,
            first_service: round * SERVICES,
            services: SERVICES,
            pods: PODS,
            seed: self.seed,
            connections_count: self.connections_count,
            schedule: Schedule {
                start: Instant::now(),
                rate: self.rate,
                count_max: u64::MAX,
                time_max: self.round_time,
            },
        };
        Batch::push(order, &self.directory.join(format!("batch-{round}")))
    }

    fn flush(&self, flushes: u32) -> Result<(), String> {
        let start = Instant::now();
        let failed = |error: std::io::Error| format!("POST /flush: {error}");
        for number in 1..=flushes {
            let moment = start + self.round_time * number / (flushes + 1);
            std::thread::sleep(moment.saturating_duration_since(Instant::now()));
            let mut connection = Connection::open(&self.address, None).map_err(failed)?;
            let answer = connection.post("/flush", "text/plain", &[]).map_err(failed)?;
            if !(200..300).contains(&answer.status) {
                return Err(format!("POST /flush: {}: {}", answer.status, answer.text()));
            }
        }
        Ok(())
    }
}

impl CutsReport {
    /// Answers that were compared while cuts were made.
    pub fn answers(&self) -> u64 {
        self.during.queries
    }

    /// Whether every answer was what it must be, and everything is there.
    pub fn is_clean(&self) -> bool {
        self.during.is_clean() && self.after.is_clean()
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Value {
        json!({
            "cuts": self.cuts,
            "answers": self.answers(),
            "during": self.during.to_json(),
            "after": self.after.to_json(),
        })
    }
}

impl fmt::Display for CutsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for detail in &self.during.details {
            writeln!(f, "  {detail}")?;
        }
        let Findings { lost, duplicated, wrong, .. } = self.during;
        let faults = lost + duplicated + wrong;
        writeln!(f, "cuts={} answers={} wrong={faults}", self.cuts, self.answers())?;
        write!(f, "in the end: {}", self.after)
    }
}
