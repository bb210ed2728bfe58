//! What a shard counts of writes, in plain cells: read by `/metrics` over the mesh.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proto::rpc::MetricSample;

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
}

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
        let mut discarded = self.discarded.borrow_mut();
        let known = discarded.len() < METRIC_TENANTS_MAX
            || discarded.contains_key(&(reason, tenant.to_owned()));
        let key = (reason, if known { tenant } else { TENANT_OTHER }.to_owned());
        let row = discarded.entry(key).or_default();
        row.profiles += 1;
        row.bytes += bytes as u64;
    }

    /// The samples of `/metrics`.
    pub fn samples(&self, shard: u16) -> Vec<MetricSample> {
        let mut samples = Vec::new();
        let mut add = |name, labels: Vec<(&'static str, String)>, value: u64| {
            samples.push(MetricSample { name, labels, value: value as f64 });
        };
        for (tenant, row) in &*self.received.borrow() {
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
        }
        for ((reason, tenant), row) in &*self.discarded.borrow() {
            let labels = || vec![("reason", (*reason).to_owned()), ("tenant", tenant.clone())];
            add("pyroscope_discarded_samples_total", labels(), row.profiles);
            add("pyroscope_discarded_bytes_total", labels(), row.bytes);
        }
        let shard_label = || vec![("shard", shard.to_string())];
        add("pyrite_shard_profiles_total", shard_label(), self.profiles_stored.get());
        add("pyrite_shard_profiles_replayed_total", shard_label(), self.profiles_replayed.get());
        add("pyrite_ingest_queue_profiles", shard_label(), self.queue_profiles.get());
        add("pyrite_ingest_queue_bytes", shard_label(), self.queue_bytes.get());
        samples
    }
}
