//! What a shard counts of writes, in plain cells: read by `/metrics` over the mesh.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proto::rpc::MetricSample;

use crate::runtime::Spawn;

/// Tenants with metrics of their own on a shard; the rest is counted under [`TENANT_OTHER`].
pub const METRIC_TENANTS_MAX: usize = 1_000;

/// Stands for the tenants above [`METRIC_TENANTS_MAX`].
pub const TENANT_OTHER: &str = "__other__";

/// Counters of the distributor and ingester of one shard.
#[derive(Debug, Default)]
pub struct WriteCounters {
    received: RefCell<BTreeMap<String, Received>>,
    discarded: RefCell<BTreeMap<(&'static str, String), Discarded>>,
    /// Profiles stored by this shard as owner.
    pub profiles_stored: Cell<u64>,
    /// Profiles put back from logs of earlier runs.
    pub profiles_replayed: Cell<u64>,
    /// Profiles that wait for this shard's ingester.
    pub queue_profiles: Cell<u64>,
    /// Their bytes as received.
    pub queue_bytes: Cell<u64>,
    /// Nanoseconds of the ingester by [`Stage`].
    stages_ns: [Cell<u64>; STAGES.len()],
}

/// What the ingester does with a profile, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Inflates, decodes, checks and admits it.
    Intake,
    /// Waits for room in the log and adds its record.
    Log,
    /// Puts it into its head.
    Head,
}

/// How stages are called in metrics.
const STAGES: [(Stage, &str); 3] =
    [(Stage::Intake, "intake"), (Stage::Log, "log"), (Stage::Head, "head")];

#[derive(Debug, Default, Clone, Copy)]
struct Received {
    profiles: u64,
    samples: u64,
    compressed_bytes: u64,
    decompressed_bytes: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Discarded {
    profiles: u64,
    bytes: u64,
}

impl WriteCounters {
    /// Counts the time since `begun_ns`, which it moves to `now_ns`.
    pub fn count_stage(&self, stage: Stage, begun_ns: &mut u64, now_ns: u64) {
        let counted = &self.stages_ns[stage as usize];
        counted.set(counted.get() + now_ns - std::mem::replace(begun_ns, now_ns));
    }

    /// Counts a profile an owner decoded.
    pub fn count_received(
        &self,
        tenant: &str,
        compressed_bytes: usize,
        decompressed_bytes: usize,
        samples: usize,
    ) {
        let mut received = self.received.borrow_mut();
        let known = received.contains_key(tenant) || received.len() < METRIC_TENANTS_MAX;
        let key = if known { tenant } else { TENANT_OTHER };
        let row = match received.get_mut(key) {
            Some(row) => row,
            None => received.entry(key.to_owned()).or_default(),
        };
        row.profiles += 1;
        row.samples += samples as u64;
        row.compressed_bytes += compressed_bytes as u64;
        row.decompressed_bytes += decompressed_bytes as u64;
    }

    /// Counts a profile that was refused or dropped.
    pub fn count_discarded(&self, tenant: &str, reason: &'static str, bytes: usize) {
        self.count_all_discarded(tenant, reason, 1, bytes as u64);
    }

    /// Counts profiles that were refused for one reason, with the bytes of all.
    pub fn count_all_discarded(
        &self,
        tenant: &str,
        reason: &'static str,
        profiles: usize,
        bytes: u64,
    ) {
        let mut discarded = self.discarded.borrow_mut();
        let known = discarded.len() < METRIC_TENANTS_MAX
            || discarded.contains_key(&(reason, tenant.to_owned()));
        let key = (reason, if known { tenant } else { TENANT_OTHER }.to_owned());
        let row = discarded.entry(key).or_default();
        row.profiles += profiles as u64;
        row.bytes += bytes;
    }

    /// The samples of `/metrics`. Gives way while it makes them: those of [`METRIC_TENANTS_MAX`] tenants take milliseconds.
    pub async fn samples(&self, rt: &impl Spawn, shard: u16) -> Vec<MetricSample> {
        let received = self.received.borrow().clone();
        let discarded = self.discarded.borrow().clone();
        let mut samples = Vec::new();
        let mut add = |name, labels: Vec<(&'static str, String)>, value: u64| {
            samples.push(MetricSample { name, labels, value: value as f64 });
        };
        for (tenant, row) in received {
            let labels = || vec![("tenant", tenant.clone())];
            add("pyroscope_distributor_profiles_received_total", labels(), row.profiles);
            add("pyroscope_distributor_received_samples_sum", labels(), row.samples);
            add("pyroscope_distributor_received_samples_count", labels(), row.profiles);
            add(
                "pyroscope_distributor_received_compressed_bytes_sum",
                labels(),
                row.compressed_bytes,
            );
            add("pyroscope_distributor_received_compressed_bytes_count", labels(), row.profiles);
            add(
                "pyroscope_distributor_received_decompressed_bytes_sum",
                labels(),
                row.decompressed_bytes,
            );
            add("pyroscope_distributor_received_decompressed_bytes_count", labels(), row.profiles);
            rt.yield_if_needed().await;
        }
        for ((reason, tenant), row) in discarded {
            let labels = || vec![("reason", reason.to_owned()), ("tenant", tenant.clone())];
            add("pyroscope_discarded_samples_total", labels(), row.profiles);
            add("pyroscope_discarded_bytes_total", labels(), row.bytes);
            rt.yield_if_needed().await;
        }
        let shard_label = || vec![("shard", shard.to_string())];
        add("pyrite_shard_profiles_total", shard_label(), self.profiles_stored.get());
        add("pyrite_shard_profiles_replayed_total", shard_label(), self.profiles_replayed.get());
        add("pyrite_ingest_queue_profiles", shard_label(), self.queue_profiles.get());
        add("pyrite_ingest_queue_bytes", shard_label(), self.queue_bytes.get());
        samples.extend(STAGES.map(|(stage, name)| MetricSample {
            name: "pyrite_ingest_stage_seconds_total",
            labels: vec![("shard", shard.to_string()), ("stage", name.to_owned())],
            value: self.stages_ns[stage as usize].get() as f64 / 1e9,
        }));
        samples
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::http::turns::Turns;

    /// A thousand tenants were once written in one poll of milliseconds.
    #[test]
    fn samples_give_way_after_every_tenant() {
        let counters = WriteCounters::default();
        for tenant in 0..2 * METRIC_TENANTS_MAX {
            counters.count_received(&tenant.to_string(), 1, 1, 1);
        }
        let turns = Turns::default();
        let samples = block_on(counters.samples(&turns, 0));
        let of_others = samples.iter().filter(|sample| sample.labels[0].1 == TENANT_OTHER);
        assert_eq!((turns.count(), of_others.count()), (METRIC_TENANTS_MAX + 1, 7));
    }
}
