//! `/metrics`: what the shards count in plain cells, gathered over the mesh and written in Prometheus' text format.
//!
//! One table ([`METRICS`]) holds every name with its kind, labels and meaning; the exposition's HELP and TYPE lines and
//! `docs/metrics.md` come from it, and a sample whose name is not in it is a bug that tests catch. Label values are bounded: shards and classes by
//! nature, tenants by `component::write_counters::METRIC_TENANTS_MAX` a shard.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use proto::rpc::{MetricSample, Reply, Request};

use super::histogram::{HistogramNames, add_histogram, histogram_names};
use crate::budget::Budget;
use crate::mesh::Mesh;
use crate::runtime::host::HostRuntime;
use crate::runtime::polls::{POLL_BUCKETS_NS, Times};
use crate::runtime::watchdog::Pulse;
use crate::runtime::{Class, Clock, Spawn};

/// How long `/metrics` waits for a shard; one that is late is shown by `pyrite_shard_up`.
const SHARD_PATIENCE: Duration = Duration::from_secs(2);

/// What is known of one metric.
#[derive(Debug)]
pub struct Metric {
    /// Name; that of its family where there are several series (histograms, summaries).
    pub name: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Label names.
    pub labels: &'static [&'static str],
    /// Meaning and unit.
    pub help: &'static str,
}

/// Kinds of Prometheus' text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// `_bucket{le}`, `_sum`, `_count`.
    Histogram,
    /// `_sum` and `_count`.
    Summary,
}

impl MetricKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }

    /// Suffixes of the series of a family.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter | Self::Gauge => &[""],
            Self::Histogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
        }
    }
}

macro_rules! metric {
    ($kind:ident $name:literal { $($label:literal),* } $help:literal) => {
        Metric { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help }
    };
}

/// All metrics, sorted by name.
pub static METRICS: &[Metric] = &[
    metric!(Gauge "process_start_time_seconds" {}
        "When the process started, Unix time."),
    metric!(Gauge "pyrite_accounted_bytes" { "shard", "what" }
        "Bytes accounted against the memory limit, by what holds them."),
    metric!(Counter "pyrite_block_symbols_evicted_total" { "shard" }
        "Partitions of blocks whose symbols were given up, for others or because memory ran short."),
    metric!(Counter "pyrite_block_symbols_hits_total" { "shard" }
        "Partitions of blocks whose symbols a read found in memory."),
    metric!(Counter "pyrite_block_symbols_misses_total" { "shard" }
        "Partitions of blocks whose symbols a read had to load."),
    metric!(Gauge "pyrite_blocks" { "shard" }
        "Blocks of the shard that reads see."),
    metric!(Gauge "pyrite_blocks_bytes" { "shard" }
        "Bytes of their files."),
    metric!(Gauge "pyrite_blocks_damaged" { "shard" }
        "Directories of blocks that cannot be read; reads of their tenants are refused."),
    metric!(Counter "pyrite_cut_bytes_total" { "shard" }
        "Bytes of blocks written by cuts."),
    metric!(Counter "pyrite_cut_failures_total" { "shard" }
        "Cuts that failed; their heads stay in memory and in the log, and are cut again."),
    metric!(Counter "pyrite_cut_profiles_total" { "shard" }
        "Profiles that cuts put into blocks."),
    metric!(Counter "pyrite_cut_seconds_total" { "shard" }
        "Time from freezing heads to swapping them for their block."),
    metric!(Counter "pyrite_cuts_total" { "shard", "trigger" }
        "Cuts that ended well, by what asked for them: age, flush, log (nearly full), memory, recovery, shutdown, size."),
    metric!(Gauge "pyrite_disk_free_bytes" { "shard" }
        "Bytes that may still be written on the file system of the data directory, as the shard saw it last."),
    metric!(Gauge "pyrite_disk_low" { "shard" }
        "1 while there is less free than -pyroscopedb.retention-policy-* say, and pushes are refused."),
    metric!(Gauge "pyrite_disk_operations" { "shard" }
        "Operations on files that wait for the shard's disk thread or run there; the portable runtime only."),
    metric!(Gauge "pyrite_head_series" { "shard" }
        "Series of all tenants in the heads that appends go to; the limits of series count these."),
    metric!(Counter "pyrite_http_connections_refused_total" {}
        "HTTP connections closed at once because their shard had as many as it may."),
    metric!(Counter "pyrite_http_connections_total" {}
        "HTTP connections taken."),
    metric!(Gauge "pyrite_http_health_watches" {}
        "Streams of grpc.health.v1.Health/Watch open now."),
    metric!(Gauge "pyrite_http_open_connections" {}
        "HTTP connections open now."),
    metric!(Histogram "pyrite_http_request_seconds" { "route" }
        "Time from a request's head to its answer, reading its body included, sending the answer not."),
    metric!(Gauge "pyrite_http_requests_in_flight" {}
        "HTTP requests whose answer is not complete."),
    metric!(Counter "pyrite_http_requests_total" { "route", "status" }
        "HTTP requests answered, by route and status. A failed gRPC call counts with the status of the same failure in Connect."),
    metric!(Counter "pyrite_http_write_timeouts_total" {}
        "HTTP connections ended because an answer was not read within -server.http-write-timeout."),
    metric!(Gauge "pyrite_ingest_busy_ratio" { "shard" }
        "Share of a core that storing profiles takes, averaged over some seconds."),
    metric!(Gauge "pyrite_ingest_queue_bytes" { "shard" }
        "Received bytes of profiles that wait for the shard's ingester."),
    metric!(Gauge "pyrite_ingest_queue_profiles" { "shard" }
        "Profiles that wait for the shard's ingester."),
    metric!(Counter "pyrite_ingest_stage_seconds_total" { "shard", "stage" }
        "Time that the shard's ingester spent on profiles it stored, by stage: intake (inflate, decode, check), log (waiting for room), head. The turns of other tasks count."),
    metric!(Counter "pyrite_log_lines_dropped_total" {}
        "Log lines dropped because stderr did not take them fast enough."),
    metric!(Gauge "pyrite_longest_cut_seconds" { "shard" }
        "The longest cut since the shard's start."),
    metric!(Gauge "pyrite_longest_poll_cpu_seconds" { "shard", "class" }
        "The most CPU time that a poll of a task of the class took since the shard's start. Not of class rpc."),
    metric!(Gauge "pyrite_longest_poll_seconds" { "shard", "class" }
        "The longest time a task of the class held the shard since its start."),
    metric!(Gauge "pyrite_memory_leased_bytes" { "shard" }
        "Bytes of the memory limit that the shard may use without asking; their sum never exceeds the limit."),
    metric!(Gauge "pyrite_memory_limit_bytes" {}
        "Limit of the memory of the process (-memory.limit)."),
    metric!(Gauge "pyrite_memory_overdrawn_bytes" { "shard" }
        "Bytes that the shard accounts beyond its lease; while there are any nothing is admitted."),
    metric!(Counter "pyrite_memory_refused_total" { "shard", "what" }
        "How often memory had no room for what asked for it: pushes, reads, recovery."),
    metric!(Gauge "pyrite_memory_rss_bytes" {}
        "Real memory of the process, as last looked at."),
    metric!(Gauge "pyrite_memory_unaccounted_bytes" {}
        "Real memory that nothing accounts: the allocator's slack, code, stacks, rings. Rises at once, falls by half in a second."),
    metric!(Counter "pyrite_mesh_full_total" { "shard", "kind" }
        "Requests of the shard that were not sent because 1024 of the kind waited at their shard already."),
    metric!(Gauge "pyrite_mesh_requests_in_flight" { "shard", "kind" }
        "Requests of the shard to shards that wait for a reply; at most 1024 of a kind for each shard they go to."),
    metric!(Gauge "pyrite_partition_splits" { "shard" }
        "The highest split count of the services whose first split the shard owns; 1 when none is spread over shards."),
    metric!(Counter "pyrite_places_asks_total" { "shard" }
        "Profiles for whose series the shard asked a tenant's home shard; the others had no new ones, or places were held for them."),
    metric!(Gauge "pyrite_places_leases" { "shard" }
        "Tenants of whose series limit the shard holds places."),
    metric!(Counter "pyrite_places_recalls_total" { "shard" }
        "Unused places that the shard, as the home of tenants near their series limit, called back."),
    metric!(Histogram "pyrite_poll_cpu_seconds" { "shard", "class" }
        "CPU time of polls of tasks of the class: without the time in which the kernel ran others on the core. Not of class rpc."),
    metric!(Histogram "pyrite_poll_seconds" { "shard", "class" }
        "How long polls of tasks of the class held the shard."),
    metric!(Gauge "pyrite_queries" { "shard" }
        "Questions of the shard's clients that wait for parts of all shards."),
    metric!(Counter "pyrite_rate_asks_total" { "shard" }
        "Pushes for which the shard asked a tenant's home shard for tokens; the others were paid from slices that it held."),
    metric!(Gauge "pyrite_rate_leases" { "shard" }
        "Tenants of whose rate the shard holds a slice."),
    metric!(Counter "pyrite_rate_recalls_total" { "shard" }
        "Slices that the shard, as the home of tenants near their limit, called back."),
    metric!(Gauge "pyrite_recovery_bytes" { "shard" }
        "Bytes of logs of earlier runs that the shard puts back after the start, as far as it has found them."),
    metric!(Gauge "pyrite_recovery_done" { "shard" }
        "1 when the shard has put its share of the logs of earlier runs back; reads wait for all shards."),
    metric!(Gauge "pyrite_recovery_done_bytes" { "shard" }
        "How many of pyrite_recovery_bytes the shard has read."),
    metric!(Gauge "pyrite_retention_blocks_leaving" { "shard" }
        "Blocks older than their retention period that no new read sees and whose files are still there: a read holds them, or the disk failed."),
    metric!(Counter "pyrite_retention_blocks_removed_total" { "shard" }
        "Blocks removed because they were older than their tenant's retention period."),
    metric!(Counter "pyrite_retention_bytes_removed_total" { "shard" }
        "Bytes of their files."),
    metric!(Counter "pyrite_retention_failures_total" { "shard" }
        "Removals of blocks that failed; they are tried again."),
    metric!(Gauge "pyrite_runtime" { "backend" }
        "1, labelled with the runtime the shards run on: uring or portable."),
    metric!(Gauge "pyrite_selects" { "shard" }
        "Reads that the shard works on."),
    metric!(Gauge "pyrite_services_spread" { "shard" }
        "Services whose first split the shard owns and that are spread over shards."),
    metric!(Counter "pyrite_shard_kicks_total" { "shard" }
        "How often the watchdog woke the shard because it had not ticked for some 40 ms."),
    metric!(Counter "pyrite_shard_profiles_replayed_total" { "shard" }
        "Profiles that the shard put back from logs of earlier runs."),
    metric!(Counter "pyrite_shard_profiles_total" { "shard" }
        "Profiles that the shard stored as their owner."),
    metric!(Counter "pyrite_shard_stalls_total" { "shard" }
        "How often the shard did not tick for a second."),
    metric!(Gauge "pyrite_shard_up" { "shard" }
        "1 when the shard answered this scrape, else 0 and its metrics are missing."),
    metric!(Counter "pyrite_spread_changes_total" { "shard" }
        "How often the shard changed how a service is spread: its split count, or which label sets go to which split."),
    metric!(Gauge "pyrite_wal_age_seconds" { "shard" }
        "Age of the shard's oldest record that only a log holds, of this run or an earlier one, by its receive time."),
    metric!(Gauge "pyrite_wal_bytes" { "shard" }
        "Bytes of the WAL segments that heads need, and of the current one; it falls when heads are cut."),
    metric!(Counter "pyrite_wal_bytes_total" { "shard" }
        "Bytes written to the log for groups of records, padding included."),
    metric!(Histogram "pyrite_wal_commit_seconds" { "shard" }
        "How long commits took, from taking a group to its sync."),
    metric!(Counter "pyrite_wal_commits_total" { "shard" }
        "Groups of records written and synced."),
    metric!(Gauge "pyrite_wal_disk_bytes" { "shard" }
        "Bytes of all files of the log, those made ready or kept for reuse included."),
    metric!(Gauge "pyrite_wal_full" { "shard" }
        "1 while the log is as long as -wal.max-bytes lets it be and writes are refused."),
    metric!(Gauge "pyrite_wal_group_bytes" { "shard" }
        "Bytes of the last group, padding included."),
    metric!(Gauge "pyrite_wal_group_records" { "shard" }
        "Records of the last group."),
    metric!(Gauge "pyrite_wal_longest_commit_seconds" { "shard" }
        "The longest commit since the shard's start."),
    metric!(Gauge "pyrite_wal_max_bytes" { "shard" }
        "Bytes that all files of the log may have (-wal.max-bytes in whole segments)."),
    metric!(Gauge "pyrite_wal_pending_bytes" { "shard" }
        "Bytes of records taken and not synced yet."),
    metric!(Counter "pyrite_wal_records_total" { "shard" }
        "Records written and synced."),
    metric!(Gauge "pyrite_wal_sealed" { "shard" }
        "1 when a failed write or sync has ended the log: writes are refused until a restart."),
    metric!(Gauge "pyrite_wal_segments" { "shard" }
        "WAL segments begun in this run."),
    metric!(Gauge "pyrite_wal_starved" { "shard" }
        "1 while the disk has no room for the next WAL segment and writes are refused."),
    metric!(Histogram "pyrite_wal_sync_seconds" { "shard" }
        "How long writing and syncing a group took."),
    metric!(Gauge "pyrite_wal_unsynced_age_seconds" { "shard" }
        "How long the oldest group that is not synced yet has been there; 0 when there is none."),
    metric!(Gauge "pyroscope_build_info" { "version", "revision", "branch", "goversion" }
        "1, labelled with the version of the running program."),
    metric!(Counter "pyroscope_discarded_bytes_total" { "reason", "tenant" }
        "Bytes of profiles refused or dropped, as received."),
    metric!(Counter "pyroscope_discarded_samples_total" { "reason", "tenant" }
        "Profiles refused or dropped."),
    metric!(Counter "pyroscope_distributor_profiles_received_total" { "tenant" }
        "Profiles received and decoded."),
    metric!(Summary "pyroscope_distributor_received_compressed_bytes" { "tenant" }
        "Bytes of a profile as received."),
    metric!(Summary "pyroscope_distributor_received_decompressed_bytes" { "tenant" }
        "Uncompressed bytes of a profile."),
    metric!(Summary "pyroscope_distributor_received_samples" { "tenant" }
        "Samples of a profile."),
    metric!(Gauge "pyroscope_runtime_config_last_reload_successful" {}
        "1 when the files of -runtime-config.file could be used when they were last read, else 0: then the limits from before hold."),
];

/// The metric a series belongs to.
pub fn metric_of(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| {
        series
            .strip_prefix(metric.name)
            .is_some_and(|suffix| metric.kind.suffixes().contains(&suffix))
    })
}

/// Asks every shard for its samples and adds whether it answered.
async fn gather<C: Clock>(clock: &C, mesh: &Mesh) -> Vec<MetricSample> {
    let answers = join_all(mesh.shards().map(|shard| async move {
        let call = std::pin::pin!(mesh.call(shard, Request::Metrics));
        let patience = std::pin::pin!(clock.sleep(SHARD_PATIENCE));
        match select(call, patience).await {
            Either::Left((Ok(Reply::Metrics(samples)), _)) => (shard, Some(samples)),
            Either::Left(_) | Either::Right(_) => (shard, None),
        }
    }))
    .await;
    let mut samples = Vec::new();
    for (shard, answer) in answers {
        let is_up = f64::from(u8::from(answer.is_some()));
        samples.push(MetricSample::of_shard("pyrite_shard_up", shard.0, is_up));
        samples.extend(answer.into_iter().flatten());
    }
    samples
}

/// Samples of the process as a whole; whoever answers `/metrics` adds them once.
pub fn process_samples(budget: &Budget, runtime: &str, started_unix_ms: u64) -> Vec<MetricSample> {
    let sample = |name, labels, value| MetricSample { name, labels, value };
    vec![
        sample("process_start_time_seconds", Vec::new(), started_unix_ms as f64 / 1e3),
        sample("pyrite_memory_limit_bytes", Vec::new(), budget.limit_bytes() as f64),
        sample("pyrite_memory_rss_bytes", Vec::new(), budget.rss_bytes() as f64),
        sample("pyrite_memory_unaccounted_bytes", Vec::new(), budget.unaccounted_bytes() as f64),
        sample("pyrite_runtime", vec![("backend", runtime.to_owned())], 1.0),
        sample("pyrite_log_lines_dropped_total", Vec::new(), super::log::lines_dropped() as f64),
        sample(
            "pyroscope_build_info",
            vec![
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("revision", super::REVISION.to_owned()),
                ("branch", super::BRANCH.to_owned()),
                ("goversion", String::new()),
            ],
            1.0,
        ),
    ]
}

/// A shard's samples of its runtime: how long its tasks hold it, and how often it stood still.
pub fn runtime_samples<R: HostRuntime>(
    runtime: &R,
    pulse: &Pulse,
    shard: u16,
) -> Vec<MetricSample> {
    let of_shard = |name, value| MetricSample::of_shard(name, shard, value);
    let mut samples = vec![
        of_shard("pyrite_shard_stalls_total", pulse.stalls() as f64),
        of_shard("pyrite_shard_kicks_total", pulse.kicks() as f64),
    ];
    let disk_operations = runtime.disk_operations();
    samples.extend(disk_operations.map(|count| of_shard("pyrite_disk_operations", count as f64)));
    for class in Class::ALL {
        let labels = || vec![("shard", shard.to_string()), ("class", class.as_str().to_owned())];
        let times = runtime.poll_times(class);
        let names = histogram_names!("pyrite_poll_seconds");
        add_poll_times(names, "pyrite_longest_poll_seconds", &labels(), times.held(), &mut samples);
        if let Some(worked) = times.worked() {
            let names = histogram_names!("pyrite_poll_cpu_seconds");
            let longest = "pyrite_longest_poll_cpu_seconds";
            add_poll_times(names, longest, &labels(), worked, &mut samples);
        }
    }
    samples
}

fn add_poll_times(
    names: HistogramNames,
    longest: &'static str,
    labels: &[(&'static str, String)],
    times: &Times,
    samples: &mut Vec<MetricSample>,
) {
    let total_ns = times.total().as_nanos() as u64;
    add_histogram(names, labels, &POLL_BUCKETS_NS, times.buckets(), total_ns, samples);
    let (labels, value) = (labels.to_vec(), times.longest().as_secs_f64());
    samples.push(MetricSample { name: longest, labels, value });
}

/// The text of `/metrics`: `own` and what all shards answer. Yields while it writes: a thousand tenants are a few
/// milliseconds of text.
pub async fn text<R: Clock + Spawn>(runtime: &R, mesh: &Mesh, own: Vec<MetricSample>) -> String {
    let mut exposition = Exposition::default();
    for sample in own.into_iter().chain(gather(runtime, mesh).await) {
        exposition.add(sample);
        runtime.yield_if_needed().await;
    }
    let mut text = String::new();
    for line in exposition.lines() {
        text.push_str(&line);
        runtime.yield_if_needed().await;
    }
    text
}

/// Samples by family, in Prometheus' text format (version 0.0.4).
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    /// Value and rank of a series by its name and labels. Ranks keep the order in which series came: that of a histogram's bounds.
    series: BTreeMap<(&'static str, String), (usize, f64)>,
}

impl Exposition {
    /// Adds a sample; those of the same name and labels are added up. One that the table lacks is left out of the text.
    pub fn add(&mut self, sample: MetricSample) {
        let MetricSample { name, labels, value } = sample;
        let Some(metric) = metric_of(name) else {
            debug_assert!(false, "{name} is in the table of metrics");
            return;
        };
        let family = self
            .families
            .entry(metric.name)
            .or_insert_with(|| Family { metric, series: BTreeMap::new() });
        let rank = family.series.len();
        family.series.entry((name, labels_text(&labels))).or_insert((rank, 0.0)).1 += value;
    }

    /// The text, line by line.
    pub fn lines(self) -> impl Iterator<Item = String> {
        self.families.into_values().flat_map(|family| {
            let Metric { name, kind, help, .. } = family.metric;
            let header = format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str());
            let mut series: Vec<_> = family.series.into_iter().collect();
            series.sort_unstable_by_key(|(_, (rank, _))| *rank);
            let lines = series
                .into_iter()
                .map(|((name, labels), (_, value))| format!("{name}{labels} {value}\n"));
            std::iter::once(header).chain(lines)
        })
    }
}

fn labels_text(labels: &[(&'static str, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let mut text = "{".to_owned();
    for (index, (name, value)) in labels.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{comma}{name}=\"{value}\"");
    }
    text.push('}');
    text
}

/// Text of `docs/metrics.md`.
pub fn reference_page() -> String {
    let mut text = PREFACE.to_owned();
    for Metric { name, kind, labels, help } in METRICS {
        let labels =
            if labels.is_empty() { String::new() } else { format!("`{}`", labels.join("`, `")) };
        let _ = writeln!(text, "| `{name}` | {} | {labels} | {help} |", kind.as_str());
    }
    text
}

const PREFACE: &str = "\
# Metrics

`GET /metrics` answers in Prometheus' text format. Made from the table in `net/src/telemetry/metrics.rs`; a test keeps it so
(`UPDATE_DOCS=1 cargo test -p net --test docs` rewrites it).

`shard` is the number of a shard, `class` one of rpc, ingest, query, background. At most 1000 tenants of a shard have metrics of their
own, the others are counted under the tenant `__other__`.

A poll of a task may take 2 ms. `pyrite_poll_seconds` has what polls take by the clock, and so what others wait for;
`pyrite_poll_cpu_seconds` what they work, which is less where the kernel has other things to run on the core. With `-log.level=debug` a
poll that works longer names its task.

| Metric | Type | Labels | Meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &'static str, labels: &[(&'static str, &str)], value: f64) -> MetricSample {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        MetricSample { name, labels, value }
    }

    fn written(samples: Vec<MetricSample>) -> String {
        let mut exposition = Exposition::default();
        for sample in samples {
            exposition.add(sample);
        }
        exposition.lines().collect()
    }

    #[test]
    fn the_table_is_sorted_and_counters_end_in_total() {
        assert!(METRICS.is_sorted_by(|a, b| a.name < b.name), "sorted by name");
        for metric in METRICS {
            let is_counter = metric.kind == MetricKind::Counter;
            assert_eq!(metric.name.ends_with("_total"), is_counter, "{}", metric.name);
        }
    }

    #[test]
    fn samples_of_several_shards_are_added_up_under_one_header() {
        let text = written(vec![
            sample("pyroscope_discarded_samples_total", &[("reason", "r"), ("tenant", "a")], 1.0),
            sample("pyrite_memory_limit_bytes", &[], 1e9),
            sample("pyroscope_discarded_samples_total", &[("reason", "r"), ("tenant", "b")], 5.0),
            sample("pyroscope_discarded_samples_total", &[("reason", "r"), ("tenant", "a")], 2.0),
        ]);
        assert_eq!(
            text,
            "# HELP pyrite_memory_limit_bytes Limit of the memory of the process (-memory.limit).\n\
             # TYPE pyrite_memory_limit_bytes gauge\n\
             pyrite_memory_limit_bytes 1000000000\n\
             # HELP pyroscope_discarded_samples_total Profiles refused or dropped.\n\
             # TYPE pyroscope_discarded_samples_total counter\n\
             pyroscope_discarded_samples_total{reason=\"r\",tenant=\"a\"} 3\n\
             pyroscope_discarded_samples_total{reason=\"r\",tenant=\"b\"} 5\n"
        );
    }

    #[test]
    fn series_of_histograms_and_summaries_belong_to_their_family() {
        for (series, family) in [
            ("pyrite_poll_seconds_bucket", Some("pyrite_poll_seconds")),
            (
                "pyroscope_distributor_received_samples_sum",
                Some("pyroscope_distributor_received_samples"),
            ),
            ("pyroscope_distributor_received_samples", None),
            ("pyroscope_distributor_received_samples_bucket", None),
            ("pyrite_memory_limit_bytes", Some("pyrite_memory_limit_bytes")),
            ("nonsense", None),
        ] {
            assert_eq!(metric_of(series).map(|metric| metric.name), family, "{series}");
        }
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(labels_text(&[("a", "x\"\\\n".to_owned())]), "{a=\"x\\\"\\\\\\n\"}");
    }

    #[test]
    fn the_process_s_samples_are_in_the_table_with_their_labels() {
        for sample in process_samples(&Budget::new(1, 1), "uring", 1) {
            let metric = metric_of(sample.name).unwrap();
            let names: Vec<&str> = sample.labels.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, metric.labels, "{}", sample.name);
        }
    }
}
