//! Pushing on a schedule over a number of connections.
//!
//! Open loop: a push has its number and its intended start before a connection is free for it, and is never sent again. Each
//! connection has a thread with a small stack; at most one of them wakes for a push, so a thousand cost no more than eight.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::client::{Address, Answer, Connection};
use crate::journal::{Record, Writer};
use crate::outcome::Outcome;
use crate::report::{Report, Timing};
use crate::schedule::Schedule;
use crate::workload::{Body, Workload};

const PUSH_PATH: &str = "/push.v1.PusherService/Push";

/// Stack of a thread: what it holds is on the heap.
const STACK_BYTES: usize = 256 << 10;

/// Most connections.
pub const CONNECTIONS_MAX: u16 = 4096;

/// How a push is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `push.v1.PusherService/Push` over Connect, in protobuf.
    Connect,
    /// `/ingest`, as older agents do: the profile itself, its labels in the query.
    Ingest,
}

/// What is pushed where, and how.
#[derive(Debug)]
pub struct Push<'a> {
    /// The server.
    pub address: Address,
    /// Value of `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// How it is said.
    pub protocol: Protocol,
    /// Connections, each with a thread.
    pub connections_count: usize,
    /// What is pushed.
    pub workload: &'a Workload,
    /// Number of the first push: those of earlier runs at the same server are below.
    pub first_number: u64,
    /// When each starts.
    pub schedule: Schedule,
    /// Whether a line a second tells how far it is.
    pub progress: bool,
}

/// What all threads write to; held for as long as a push takes to be counted.
#[derive(Debug, Default)]
struct Notes {
    report: Report,
    journal: Option<Writer>,
    journal_error: Option<io::Error>,
}

impl Push<'_> {
    /// Runs until the schedule ends and every push has its outcome. Errors are the journal's.
    pub fn run(&self, journal: Option<Writer>) -> io::Result<Report> {
        let next = AtomicU64::new(0);
        let notes = Mutex::new(Notes { journal, ..Notes::default() });
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| -> io::Result<()> {
            let mut threads = Vec::with_capacity(self.connections_count);
            for _ in 0..self.connections_count {
                let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                threads.push(thread.spawn_scoped(scope, || self.run_one(&next, &notes))?);
            }
            let progress = self.progress.then(|| scope.spawn(|| self.tell(&notes, &is_over)));
            for thread in threads {
                thread.join().expect("a pushing thread does not panic");
            }
            is_over.store(true, Ordering::Relaxed);
            if let Some(progress) = progress {
                progress.thread().unpark();
            }
            Ok(())
        })?;
        let Notes { mut report, journal, journal_error } =
            notes.into_inner().expect("no thread panicked");
        report.elapsed = self.schedule.start.elapsed();
        if let Some(error) = journal_error {
            return Err(error);
        }
        journal.map_or(Ok(()), Writer::finish)?;
        Ok(report)
    }

    /// Takes numbers until the schedule ends. A number is taken before its start, so that starts stay in order.
    fn run_one(&self, next: &AtomicU64, notes: &Mutex<Notes>) {
        let mut connection = None;
        loop {
            let step = next.fetch_add(1, Ordering::Relaxed);
            let Some(intended) = self.schedule.start_of(step) else { return };
            let number = self.first_number + step;
            let until_start = || intended.saturating_duration_since(Instant::now());
            let now_ns = unix_ns() + i64::try_from(until_start().as_nanos()).unwrap_or_default();
            let time_ns = self.workload.time_ns(number, now_ns);
            let (path, content_type, body) = self.request(number, time_ns);
            std::thread::sleep(until_start());
            let sent = Instant::now();
            let parts = [body.head.as_slice(), body.shared, body.own.as_slice()];
            let (outcome, error) = match self.exchange(&mut connection, path, content_type, &parts)
            {
                Ok(answer) => {
                    let outcome = Outcome::of_answer(answer.status, &answer.text());
                    let is_told = outcome != Outcome::Accepted;
                    (outcome, is_told.then(|| format!("{}: {}", answer.status, answer.text())))
                }
                Err((outcome, error)) => (outcome, Some(error.to_string())),
            };
            let answered = Instant::now();
            let timing = Timing {
                lag: sent.saturating_duration_since(intended),
                latency: answered.saturating_duration_since(intended),
                service: answered - sent,
            };
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            let Notes { report, journal, journal_error } = &mut *notes;
            report.note(outcome, timing, body.len(), error);
            if let Some(journal) = journal
                && let Err(error) = journal.note(Record { number, time_ns, outcome })
            {
                journal_error.get_or_insert(error);
            }
        }
    }

    /// Path, content type and body.
    fn request(&self, number: u64, time_ns: i64) -> (&str, &'static str, Body<'_>) {
        match self.protocol {
            Protocol::Connect => {
                let body = self.workload.push_request(number, time_ns);
                (PUSH_PATH, "application/proto", body)
            }
            Protocol::Ingest => {
                let (path, body) = self.workload.ingest_request(number, time_ns);
                (path, "application/octet-stream", body)
            }
        }
    }

    /// Sends one push over the connection, or over a new one where there is none that is open.
    fn exchange(
        &self,
        kept: &mut Option<Connection>,
        path: &str,
        content_type: &str,
        parts: &[&[u8]],
    ) -> Result<Answer, (Outcome, io::Error)> {
        let mut connection = match kept.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => Connection::open(&self.address, self.tenant.as_deref())
                .map_err(|error| (Outcome::Unsent, error))?,
        };
        let answer = connection
            .post(path, content_type, parts)
            .map_err(|error| (Outcome::Unanswered, error))?;
        *kept = Some(connection);
        Ok(answer)
    }

    #[expect(clippy::print_stderr, reason = "whoever started a long run wants to see it go on")]
    fn tell(&self, notes: &Mutex<Notes>, is_over: &AtomicBool) {
        let mut before = 0;
        loop {
            std::thread::park_timeout(Duration::from_secs(1));
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            let notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            let report = &notes.report;
            let (pushes, accepted) = (report.pushes(), report.accepted);
            let p99 = report.latency_at(0.99).as_secs_f64() * 1000.0;
            drop(notes);
            eprintln!(
                "{:4} s  pushes {pushes}  accepted {accepted} (+{})  other {}  p99 {p99:.1} ms",
                self.schedule.start.elapsed().as_secs(),
                accepted - before,
                pushes - accepted,
            );
            before = accepted;
        }
    }
}

/// The clock, in nanoseconds since 1970.
pub fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}
