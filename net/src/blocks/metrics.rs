//! What a shard counts of its blocks and cuts.

use std::cell::Cell;

use engine::block::BlockReader;
use proto::rpc::MetricSample;

use super::cut::Trigger;

/// Counters and gauges.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Blocks that reads see.
    pub blocks: Cell<u64>,
    /// Bytes of their files.
    pub block_bytes: Cell<u64>,
    /// Directories that cannot be read as blocks.
    pub blocks_damaged: Cell<u64>,
    /// Cuts that ended well, by [`Trigger`].
    cuts: [Cell<u64>; Trigger::ALL.len()],
    /// Cuts that failed; their heads are kept and tried again.
    pub failed: Cell<u64>,
    /// Nanoseconds from freezing to swapping.
    cut_ns: Cell<u64>,
    /// The longest of them.
    cut_ns_max: Cell<u64>,
    /// Profiles put into blocks.
    profiles: Cell<u64>,
    /// Bytes written of blocks.
    bytes: Cell<u64>,
    /// Blocks out of the list whose files are still there.
    pub leaving: Cell<u64>,
    /// Blocks removed by their age.
    removed: Cell<u64>,
    /// Bytes of their files.
    removed_bytes: Cell<u64>,
    /// Removals that failed and are tried again.
    removals_failed: Cell<u64>,
}

impl Metrics {
    pub(super) fn add_block(&self, block: &BlockReader) {
        self.blocks.set(self.blocks.get() + 1);
        self.block_bytes.set(self.block_bytes.get() + bytes_of(block));
    }

    pub(super) fn remove_block(&self, block: &BlockReader) {
        self.blocks.set(self.blocks.get() - 1);
        self.block_bytes.set(self.block_bytes.get() - bytes_of(block));
    }

    pub(super) fn count_removed(&self, block: &BlockReader) {
        self.removed.set(self.removed.get() + 1);
        self.removed_bytes.set(self.removed_bytes.get() + bytes_of(block));
    }

    pub(super) fn count_removal_failed(&self) {
        self.removals_failed.set(self.removals_failed.get() + 1);
    }

    pub(super) fn count_cut(&self, trigger: Trigger, block: Option<&BlockReader>, took_ns: u64) {
        let cuts = &self.cuts[trigger as usize];
        cuts.set(cuts.get() + 1);
        self.cut_ns.set(self.cut_ns.get() + took_ns);
        self.cut_ns_max.set(self.cut_ns_max.get().max(took_ns));
        if let Some(block) = block {
            self.profiles.set(self.profiles.get() + block.meta().stats.profiles);
            self.bytes.set(self.bytes.get() + bytes_of(block));
        }
    }

    /// The samples of `/metrics`.
    pub fn samples(&self, shard: u16) -> Vec<MetricSample> {
        const NS: f64 = 1e9;
        let sample = |name, value| MetricSample::of_shard(name, shard, value);
        let mut samples = vec![
            sample("pyrite_blocks", self.blocks.get() as f64),
            sample("pyrite_blocks_bytes", self.block_bytes.get() as f64),
            sample("pyrite_blocks_damaged", self.blocks_damaged.get() as f64),
            sample("pyrite_cut_bytes_total", self.bytes.get() as f64),
            sample("pyrite_cut_failures_total", self.failed.get() as f64),
            sample("pyrite_cut_profiles_total", self.profiles.get() as f64),
            sample("pyrite_cut_seconds_total", self.cut_ns.get() as f64 / NS),
            sample("pyrite_longest_cut_seconds", self.cut_ns_max.get() as f64 / NS),
            sample("pyrite_retention_blocks_leaving", self.leaving.get() as f64),
            sample("pyrite_retention_blocks_removed_total", self.removed.get() as f64),
            sample("pyrite_retention_bytes_removed_total", self.removed_bytes.get() as f64),
            sample("pyrite_retention_failures_total", self.removals_failed.get() as f64),
        ];
        samples.extend(Trigger::ALL.iter().map(|trigger| MetricSample {
            name: "pyrite_cuts_total",
            labels: vec![("shard", shard.to_string()), ("trigger", trigger.as_str().to_owned())],
            value: self.cuts[*trigger as usize].get() as f64,
        }));
        samples
    }
}

fn bytes_of(block: &BlockReader) -> u64 {
    block.meta().files.iter().map(|file| file.bytes).sum()
}
