//! Pushing on a schedule over a number of connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use crate::client::{Address, Connection};
use crate::report::Report;
use crate::schedule::Schedule;
use crate::workload::Workload;

const PATH: &str = "/push.v1.PusherService/Push";

/// Names of services: pushes are dealt to them in turn.
const SERVICE: &str = "loadtest";

/// What is pushed where, and how.
#[derive(Clone, Debug)]
pub struct Push {
    /// The server.
    pub address: Address,
    /// Value of `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// Connections, each with a thread.
    pub connections_count: usize,
    /// Services the pushes are dealt to.
    pub services_count: u64,
    /// The profiles.
    pub workload: Workload,
    /// When each starts.
    pub schedule: Schedule,
}

impl Push {
    /// Runs until the schedule ends and every push has its answer.
    pub fn run(&self) -> Report {
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.connections_count).map(|_| scope.spawn(|| self.run_one(&next))).collect();
            threads.into_iter().fold(Report::default(), |mut sum, thread| {
                sum.add(&thread.join().expect("a pushing thread does not panic"));
                sum
            })
        })
    }

    /// Takes numbers until the schedule ends. A number is taken before its start, so that starts stay in order.
    fn run_one(&self, next: &AtomicU64) -> Report {
        let mut report = Report::default();
        let mut connection = None;
        while let (number, Some(intended)) = self.take(next) {
            let body = self.workload.request(&self.service_of(number), number, unix_ns());
            let wait = intended.saturating_duration_since(Instant::now());
            std::thread::sleep(wait);
            let sent = Instant::now();
            let answer = match connection.take() {
                Some(connection) => Ok(connection),
                None => Connection::open(&self.address, self.tenant.as_deref()),
            }
            .and_then(|mut open| {
                let status = open.post(PATH, &body)?;
                connection = Some(open);
                Ok(status)
            });
            let answered = Instant::now();
            report.note(answer, answered - intended, answered - sent, body.len());
        }
        report
    }

    fn take(&self, next: &AtomicU64) -> (u64, Option<Instant>) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        (number, self.schedule.start_of(number))
    }

    fn service_of(&self, number: u64) -> String {
        format!("{SERVICE}-{}", number % self.services_count)
    }
}

fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}
