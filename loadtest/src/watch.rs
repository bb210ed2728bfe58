//! Whether a server of our own is steady while it is pushed to: its memory, its log, what it writes to the disk.
//!
//! Looked at from outside (`/proc/PID`, `/metrics`), at even distances; told by quarters of the run. Steady is: in the last
//! quarter no more memory than in the second and a tenth (the first fills caches and heads), and never a longer log than it may have.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Address, Connection};

/// Looks of a run at least, and the shortest time between two.
const LOOKS: u32 = 200;
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The last quarter's memory, in percent of the second's, that is still steady.
const RSS_PERCENT_MAX: u64 = 110;

/// Bytes of the log's files, and the most they may have, of all shards together.
const LOG_BYTES: &str = "pyrite_wal_disk_bytes";
const LOG_BYTES_MAX: &str = "pyrite_wal_max_bytes";

/// Whom to look at.
#[derive(Debug)]
pub struct Watch {
    /// The server.
    pub address: Address,
    /// Its process.
    pub pid: u32,
    /// How long the pushes take.
    pub time: Duration,
}

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    at: Duration,
    rss_bytes: u64,
    log_bytes: u64,
    log_bytes_max: u64,
    /// Since the process began.
    written_bytes: u64,
}

/// A quarter of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Quarter {
    rss_bytes: u64,
    rss_bytes_max: u64,
    log_bytes_max: u64,
    written_bytes: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    quarters: [Quarter; 4],
    /// The most that the log may have.
    log_bytes_limit: u64,
}

impl Watch {
    /// Looks until `is_over`. An error says what could not be seen.
    pub fn run(&self, is_over: &AtomicBool) -> Result<Watched, String> {
        let start = Instant::now();
        let pause = (self.time / LOOKS).max(PAUSE_MIN);
        let mut looks = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            looks.push(self.look(start)?);
            std::thread::sleep(pause);
        }
        looks.push(self.look(start)?);
        Ok(Watched::of(&looks))
    }

    fn look(&self, start: Instant) -> Result<Look, String> {
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", self.pid);
            fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
        };
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.ok_or_else(|| format!("/proc/{}: no {name}", self.pid))
        };
        let rss_bytes = field(&read("status")?, "VmRSS:")? * 1024;
        let written_bytes = field(&read("io")?, "write_bytes:")?;
        let page = Connection::open(&self.address, None).and_then(|mut open| open.get("/metrics"));
        let page = page.map_err(|error| format!("/metrics: {error}"))?.text();
        Ok(Look {
            at: start.elapsed(),
            rss_bytes,
            log_bytes: sum(&page, LOG_BYTES),
            log_bytes_max: sum(&page, LOG_BYTES_MAX),
            written_bytes,
        })
    }
}

/// Sum of a metric's samples.
fn sum(page: &str, name: &str) -> u64 {
    let value = |line: &str| {
        let labels_and_value = line.strip_prefix(name)?.strip_prefix('{')?;
        labels_and_value.split_once("} ")?.1.parse::<f64>().ok()
    };
    page.lines().filter_map(value).sum::<f64>() as u64
}

impl Watched {
    fn of(looks: &[Look]) -> Self {
        let end = looks.last().map_or(Duration::ZERO, |look| look.at);
        let mut watched = Self::default();
        for (row, quarter) in (0..).zip(&mut watched.quarters) {
            let (from, until) = (end * row / 4, end * (row + 1) / 4);
            let is_in = |at| from <= at && (at < until || row == 3);
            let seen: Vec<&Look> = looks.iter().filter(|look| is_in(look.at)).collect();
            let (Some(first), Some(last)) = (seen.first(), seen.last()) else { continue };
            let before = looks.iter().rfind(|look| look.at < from).unwrap_or(first);
            quarter.rss_bytes =
                seen.iter().map(|look| look.rss_bytes).sum::<u64>() / seen.len() as u64;
            quarter.rss_bytes_max = seen.iter().map(|look| look.rss_bytes).max().unwrap_or(0);
            quarter.log_bytes_max = seen.iter().map(|look| look.log_bytes).max().unwrap_or(0);
            quarter.written_bytes = last.written_bytes - before.written_bytes;
        }
        watched.log_bytes_limit = looks.iter().map(|look| look.log_bytes_max).max().unwrap_or(0);
        watched
    }

    /// Whether memory did not grow any more, and the log stayed within what it may have.
    pub fn is_steady(&self) -> bool {
        self.is_memory_steady() && self.is_log_capped()
    }

    fn is_memory_steady(&self) -> bool {
        let [_, second, _, last] = self.quarters;
        last.rss_bytes * 100 <= second.rss_bytes * RSS_PERCENT_MAX
    }

    fn is_log_capped(&self) -> bool {
        self.quarters.iter().all(|quarter| quarter.log_bytes_max <= self.log_bytes_limit)
    }

    /// Bytes written for each byte of the pushes' bodies, in the second half of the run; pushes come evenly.
    fn written_share(&self, pushed_bytes: u64) -> f64 {
        let [_, _, third, last] = self.quarters;
        (third.written_bytes + last.written_bytes) as f64 / (pushed_bytes.max(1) as f64 / 2.0)
    }

    /// Everything, for programs.
    pub fn to_json(&self, pushed_bytes: u64) -> Value {
        let quarter = |quarter: &Quarter| {
            json!({
                "rss_bytes": quarter.rss_bytes,
                "rss_bytes_max": quarter.rss_bytes_max,
                "log_bytes_max": quarter.log_bytes_max,
                "written_bytes": quarter.written_bytes,
            })
        };
        json!({
            "is_memory_steady": self.is_memory_steady(),
            "is_log_capped": self.is_log_capped(),
            "log_bytes_limit": self.log_bytes_limit,
            "written_per_pushed_byte": self.written_share(pushed_bytes),
            "quarters": self.quarters.iter().map(quarter).collect::<Value>(),
        })
    }

    /// For people.
    pub fn text(&self, pushed_bytes: u64) -> String {
        let share = self.written_share(pushed_bytes);
        format!("{self}written for each byte pushed, second half: {share:.2}\n")
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        for (row, quarter) in (1..).zip(&self.quarters) {
            writeln!(
                f,
                "quarter {row}: memory {:.0} MiB (at most {:.0}), log at most {:.0} MiB, written {:.1} MiB",
                mib(quarter.rss_bytes),
                mib(quarter.rss_bytes_max),
                mib(quarter.log_bytes_max),
                mib(quarter.written_bytes)
            )?;
        }
        let memory = if self.is_memory_steady() { "steady" } else { "GROWS" };
        let log = if self.is_log_capped() { "within" } else { "ABOVE" };
        writeln!(f, "memory {memory}; log {log} its {:.0} MiB", mib(self.log_bytes_limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One look a second for 40 s.
    fn watched(rss: impl Fn(u64) -> u64, log: impl Fn(u64) -> u64) -> Watched {
        let look = |second| Look {
            at: Duration::from_secs(second),
            rss_bytes: rss(second),
            log_bytes: log(second),
            log_bytes_max: 100,
            written_bytes: second * 7,
        };
        Watched::of(&(0..=40).map(look).collect::<Vec<_>>())
    }

    #[test]
    fn memory_that_grows_to_the_end_is_not_steady_and_a_sawtooth_is() {
        assert!(!watched(|second| 100 + second, |_| 0).is_steady());
        assert!(watched(|second| 100 + second % 5, |_| 0).is_steady());
        assert!(watched(|second| second.min(10), |_| 0).is_steady(), "the first quarter may");
    }

    #[test]
    fn a_log_that_is_once_too_long_is_not_steady() {
        assert!(watched(|_| 1, |_| 100).is_steady());
        assert!(!watched(|_| 1, |second| 90 + u64::from(second == 3) * 11).is_steady());
    }

    #[test]
    fn what_was_written_is_in_one_quarter_or_another() {
        let watched = watched(|_| 1, |_| 0);
        let written: u64 = watched.quarters.iter().map(|quarter| quarter.written_bytes).sum();
        assert_eq!(written, 280, "{watched:?}");
        assert!((watched.written_share(140) - 2.0).abs() < 0.2, "{watched:?}");
    }

    #[test]
    fn samples_of_all_shards_are_summed() {
        let page = "# TYPE pyrite_wal_disk_bytes gauge\npyrite_wal_disk_bytes{shard=\"0\"} 5\n\
                    pyrite_wal_disk_bytes{shard=\"1\"} 1e3\npyrite_wal_disk_bytes_more{shard=\"1\"} 9\n";
        assert_eq!(sum(page, LOG_BYTES), 1005);
    }
}
