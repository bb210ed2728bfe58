//! What a run showed: counts, and latencies from the intended start.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::outcome::Outcome;

/// Quantiles that are told.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Errors kept for the report; the first few tell what is wrong.
const ERRORS_MAX: usize = 5;

/// An hour; longer latencies count as this one.
const LATENCY_MICROS_MAX: u64 = 3_600_000_000;

/// Moments of one push.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the intended start to sending: the generator's own lateness, or that no connection was free.
    pub lag: Duration,
    /// From the intended start to the answer.
    pub latency: Duration,
    /// From sending to the answer.
    pub service: Duration,
}

/// Outcomes of pushes.
#[derive(Clone, Debug)]
pub struct Report {
    /// Answered 200.
    pub accepted: u64,
    /// Answered with a status that says it was not stored, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Answered with a status that leaves it open, by status.
    pub failed: BTreeMap<u16, u64>,
    /// Sent and not answered.
    pub unanswered: u64,
    /// Not sent: no connection.
    pub unsent: u64,
    /// Bytes of all bodies that were sent.
    pub bytes: u64,
    /// The first errors, with what servers said.
    pub errors: Vec<String>,
    /// From the first intended start to the last answer.
    pub elapsed: Duration,
    latency: Histogram<u64>,
    /// Of accepted pushes alone: a refusal may be fast.
    latency_accepted: Histogram<u64>,
    service: Histogram<u64>,
    lag: Histogram<u64>,
}

impl Default for Report {
    fn default() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("legal bounds");
        Self {
            accepted: 0,
            refused: BTreeMap::new(),
            failed: BTreeMap::new(),
            unanswered: 0,
            unsent: 0,
            bytes: 0,
            errors: Vec::new(),
            elapsed: Duration::ZERO,
            latency: histogram(),
            latency_accepted: histogram(),
            service: histogram(),
            lag: histogram(),
        }
    }
}

impl Report {
    /// Counts one push; `error` tells what the server or the socket said of one that was not taken.
    pub fn note(&mut self, outcome: Outcome, timing: Timing, bytes: usize, error: Option<String>) {
        self.lag.saturating_record(micros(timing.lag));
        if outcome != Outcome::Unsent {
            self.bytes += bytes as u64;
        }
        if let Some(error) = error
            && self.errors.len() < ERRORS_MAX
        {
            self.errors.push(error);
        }
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::Refused(status) => *self.refused.entry(status).or_default() += 1,
            Outcome::Failed(status) => *self.failed.entry(status).or_default() += 1,
            Outcome::Unanswered => self.unanswered += 1,
            Outcome::Unsent => self.unsent += 1,
        }
        if matches!(outcome, Outcome::Unanswered | Outcome::Unsent) {
            return; // no answer has no latency
        }
        self.latency.saturating_record(micros(timing.latency));
        self.service.saturating_record(micros(timing.service));
        if outcome == Outcome::Accepted {
            self.latency_accepted.saturating_record(micros(timing.latency));
        }
    }

    /// Pushes of all outcomes.
    pub fn pushes(&self) -> u64 {
        let answered = self.refused.values().chain(self.failed.values()).sum::<u64>();
        self.accepted + answered + self.unanswered + self.unsent
    }

    /// Whether every push was taken.
    pub fn is_clean(&self) -> bool {
        self.accepted == self.pushes()
    }

    /// Share of the pushes that were taken; of none, all.
    pub fn accepted_share(&self) -> f64 {
        let pushes = self.pushes();
        if pushes == 0 { 1.0 } else { self.accepted as f64 / pushes as f64 }
    }

    /// Pushes taken a second.
    pub fn goodput(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.accepted as f64 / seconds } else { 0.0 }
    }

    /// Latency of answered pushes at a quantile, from the intended start.
    pub fn latency_at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    /// Everything, for programs. Times are milliseconds.
    pub fn to_json(&self) -> Value {
        json!({
            "pushes": self.pushes(),
            "accepted": self.accepted,
            "refused": by_status(&self.refused),
            "failed": by_status(&self.failed),
            "unanswered": self.unanswered,
            "unsent": self.unsent,
            "bytes": self.bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "goodput_per_second": self.goodput(),
            "latency_ms": quantiles(&self.latency),
            "latency_accepted_ms": quantiles(&self.latency_accepted),
            "service_ms": quantiles(&self.service),
            "send_lag_ms": quantiles(&self.lag),
            "errors": self.errors,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |statuses: &BTreeMap<u16, u64>| statuses.values().sum::<u64>();
        writeln!(
            f,
            "pushes {}, accepted {} ({:.1}/s), refused {}, failed {}, unanswered {}, unsent {}, {:.1} MiB sent in {:.1} s",
            self.pushes(),
            self.accepted,
            self.goodput(),
            sum(&self.refused),
            sum(&self.failed),
            self.unanswered,
            self.unsent,
            self.bytes as f64 / f64::from(1 << 20),
            self.elapsed.as_secs_f64(),
        )?;
        for (status, count) in self.refused.iter().chain(&self.failed) {
            writeln!(f, "  status {status}: {count}")?;
        }
        for error in &self.errors {
            writeln!(f, "  error: {error}")?;
        }
        for (what, histogram) in [
            ("latency from the intended start", &self.latency),
            ("latency of accepted pushes", &self.latency_accepted),
            ("latency from sending", &self.service),
            ("lateness of sending", &self.lag),
        ] {
            write!(f, "{what}, ms:")?;
            for (name, quantile) in QUANTILES {
                write!(f, "  {name} {:.2}", millis_at(histogram, quantile))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis_at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    QUANTILES
        .iter()
        .map(|(name, at)| ((*name).to_owned(), json!(millis_at(histogram, *at))))
        .collect()
}

fn by_status(counts: &BTreeMap<u16, u64>) -> Value {
    counts.iter().map(|(status, count)| (status.to_string(), json!(count))).collect()
}
