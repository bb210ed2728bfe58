//! What a log counts, in plain cells its shard reads for `/metrics`.

use std::cell::Cell;

use proto::rpc::MetricSample;

use crate::telemetry::histogram::{LatencyHistogram, histogram_names};

/// Counters and gauges of one log.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Groups written and synced.
    pub commits: Cell<u64>,
    /// Records in them.
    pub records: Cell<u64>,
    /// Bytes written for them, padding included.
    pub bytes: Cell<u64>,
    /// Bytes of the last group, padding included.
    pub group_bytes: Cell<u64>,
    /// Records of the last group.
    pub group_records: Cell<u64>,
    /// How long commits took, from taking a group to its sync.
    pub commit_times: LatencyHistogram,
    /// How long the syncs in them took.
    pub sync_times: LatencyHistogram,
    /// The longest commit, nanoseconds.
    pub commit_ns_max: Cell<u64>,
    /// When the oldest group that is not synced yet was begun, on the monotonic clock. Told from the time that the committer takes
    /// it, which is at once if nothing goes before it.
    pub unsynced_since_ns: Cell<Option<u64>>,
    /// Bytes accepted and not synced yet.
    pub pending_bytes: Cell<usize>,
    /// Segments begun.
    pub segments: Cell<u64>,
    /// Whether a failed write or sync has ended the log.
    pub sealed: Cell<bool>,
    /// Whether the disk has no room for the next segment and writes are refused.
    pub starved: Cell<bool>,
    /// Whether the log is as long as it may be and writes are refused.
    pub full: Cell<bool>,
}

/// How long a log is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Bytes of segments that are begun and not released.
    pub(super) held_bytes: u64,
    /// Bytes of all its files.
    pub(super) disk_bytes: u64,
    /// What they may be.
    pub(super) bytes_max: u64,
}

impl Metrics {
    pub(super) fn count_commit(&self, records: u32, bytes: usize, begun_ns: u64, now_ns: u64) {
        let took_ns = now_ns - begun_ns;
        self.commits.set(self.commits.get() + 1);
        self.records.set(self.records.get() + u64::from(records));
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.group_bytes.set(bytes as u64);
        self.group_records.set(records.into());
        self.commit_times.record(took_ns);
        self.commit_ns_max.set(self.commit_ns_max.get().max(took_ns));
    }

    /// The samples of `/metrics`. `age_ms` is that of the oldest record that only a log holds.
    pub(super) fn samples(
        &self,
        shard: u16,
        size: Size,
        age_ms: i64,
        now_ns: u64,
    ) -> Vec<MetricSample> {
        const NS: f64 = 1e9;
        const MS: f64 = 1e3;
        let unsynced_ns = self.unsynced_since_ns.get().map_or(0, |since_ns| now_ns - since_ns);
        let rows = [
            ("pyrite_wal_commits_total", self.commits.get() as f64),
            ("pyrite_wal_records_total", self.records.get() as f64),
            ("pyrite_wal_bytes_total", self.bytes.get() as f64),
            ("pyrite_wal_longest_commit_seconds", self.commit_ns_max.get() as f64 / NS),
            ("pyrite_wal_group_bytes", self.group_bytes.get() as f64),
            ("pyrite_wal_group_records", self.group_records.get() as f64),
            ("pyrite_wal_pending_bytes", self.pending_bytes.get() as f64),
            ("pyrite_wal_bytes", size.held_bytes as f64),
            ("pyrite_wal_disk_bytes", size.disk_bytes as f64),
            ("pyrite_wal_max_bytes", size.bytes_max as f64),
            ("pyrite_wal_segments", self.segments.get() as f64),
            ("pyrite_wal_age_seconds", age_ms as f64 / MS),
            ("pyrite_wal_unsynced_age_seconds", unsynced_ns as f64 / NS),
            ("pyrite_wal_sealed", f64::from(u8::from(self.sealed.get()))),
            ("pyrite_wal_starved", f64::from(u8::from(self.starved.get()))),
            ("pyrite_wal_full", f64::from(u8::from(self.full.get()))),
        ];
        let labels = || vec![("shard", shard.to_string())];
        let rows = rows.into_iter();
        let mut samples: Vec<_> =
            rows.map(|(name, value)| MetricSample { name, labels: labels(), value }).collect();
        let names = histogram_names!("pyrite_wal_commit_seconds");
        self.commit_times.add_samples(names, &labels(), &mut samples);
        let names = histogram_names!("pyrite_wal_sync_seconds");
        self.sync_times.add_samples(names, &labels(), &mut samples);
        samples
    }
}
