//! What a run showed: counts, and latencies from the intended start.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Quantiles that are printed.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Errors kept for the report; the first few tell what is wrong.
const ERRORS_MAX: usize = 5;

/// An hour; longer latencies count as this one.
const LATENCY_MICROS_MAX: u64 = 3_600_000_000;

/// Outcomes of pushes.
#[derive(Clone, Debug)]
pub struct Report {
    /// Answered 200.
    pub pushed: u64,
    /// Answered otherwise, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Not answered.
    pub failed: u64,
    /// Bytes of all requests' bodies.
    pub bytes: u64,
    /// The first errors.
    pub errors: Vec<String>,
    /// Microseconds from the intended start to the answer.
    latency: Histogram<u64>,
    /// Microseconds from sending to the answer.
    service: Histogram<u64>,
}

impl Default for Report {
    fn default() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("legal bounds");
        Self {
            pushed: 0,
            refused: BTreeMap::new(),
            failed: 0,
            bytes: 0,
            errors: Vec::new(),
            latency: histogram(),
            service: histogram(),
        }
    }
}

impl Report {
    /// Counts one push.
    pub fn note(
        &mut self,
        answer: io::Result<u16>,
        latency: Duration,
        service: Duration,
        bytes: usize,
    ) {
        self.bytes += bytes as u64;
        match answer {
            Ok(200) => self.pushed += 1,
            Ok(status) => *self.refused.entry(status).or_default() += 1,
            Err(error) => {
                self.failed += 1;
                if self.errors.len() < ERRORS_MAX {
                    self.errors.push(error.to_string());
                }
                return; // no answer has no latency
            }
        }
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros(latency));
        self.service.saturating_record(micros(service));
    }

    /// Adds another thread's outcomes.
    pub fn add(&mut self, other: &Self) {
        self.pushed += other.pushed;
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
        self.failed += other.failed;
        self.bytes += other.bytes;
        self.errors.extend(other.errors.iter().cloned());
        self.errors.truncate(ERRORS_MAX);
        let same = "histograms of one kind add up";
        self.latency.add(&other.latency).expect(same);
        self.service.add(&other.service).expect(same);
    }

    /// Whether every push was taken.
    pub fn is_clean(&self) -> bool {
        self.refused.is_empty() && self.failed == 0
    }

    /// Latency at a quantile, from the intended start.
    pub fn latency_at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().sum();
        writeln!(
            f,
            "pushed {}, refused {refused}, failed {}, {:.1} MiB sent",
            self.pushed,
            self.failed,
            self.bytes as f64 / f64::from(1 << 20)
        )?;
        for (status, count) in &self.refused {
            writeln!(f, "  status {status}: {count}")?;
        }
        for error in &self.errors {
            writeln!(f, "  error: {error}")?;
        }
        for (what, histogram) in
            [("from the intended start", &self.latency), ("from sending", &self.service)]
        {
            write!(f, "latency {what}, ms:")?;
            for (name, quantile) in QUANTILES {
                write!(f, "  {name} {:.2}", histogram.value_at_quantile(quantile) as f64 / 1000.0)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
