//! Retention: a block whose greatest profile time is older than its tenant's retention period is removed.
//!
//! ```text
//! expired ─► out of the list ─► (reads that have it end) ─► renamed to a name that no reader takes ─► its files, its directory
//! ```
//! What holds
//! - The period is compared with the greatest *profile time*, as in Pyroscope: all of a block is older than the period when it
//!   goes, also of what was pushed late. So what is pushed when it is older than the period already goes with its block.
//! - Nothing else removes a block: a disk that fills up refuses pushes instead ([`super::FreeSpace`]).
//! - A read that has begun keeps its blocks: their files are removed after the last read that holds them has ended.
//! - A crash at any step leaves a block, which is removed again, or a directory that no reader takes for one.
//! - Nothing is removed before recovery is done: until then a block tells which records of a log are not to be put back. Where a
//!   log outlives a removed block, its records come back at the next start, and go with the block they are cut into.
//! - A block that does not open goes by the greatest time that its `meta.json` tells. Where that is damaged it goes by its name: all in it
//!   was pushed before the cut, and what was pushed lay no further ahead than the tenant may push. Until then its tenant's reads fail.
//!
//! Not here: blocks in a bucket.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::block::BlockReader;
use engine::pace::Pace;
use engine::tenant::TenantId;
use ulid::Ulid;

use super::free_space::{FreeSpace, LOOK_INTERVAL};
use super::publish::remove_published;
use super::{Blocks, Damaged, block_path};
use crate::overrides::TenantLimits;
use crate::readiness::Readiness;
use crate::runtime::{Class, Runtime};

/// Shortest pause between two looks, whatever the settings say.
const PAUSE_MIN: Duration = Duration::from_millis(10);

const NS_PER_MS: i64 = 1_000_000;

/// What is kept of blocks and of the disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// `-pyroscopedb.retention-policy-enforcement-interval`: how often blocks are looked at for their age.
    pub interval: Duration,
    /// `-pyroscopedb.retention-policy-min-free-disk-gb`, GiB.
    pub free_gib_min: u64,
    /// `-pyroscopedb.retention-policy-min-disk-available-percentage`, of 1.
    pub available_fraction_min: f64,
    /// `-pyroscopedb.retention-policy-disable`: pushes are taken until the disk is full. Ages are looked at all the same.
    pub is_space_ignored: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_mins(5),
            free_gib_min: 10,
            available_fraction_min: 0.05,
            is_space_ignored: false,
        }
    }
}

/// The retention of one shard's blocks.
#[derive(Debug)]
pub(crate) struct Retention<R: Runtime> {
    rt: R,
    settings: Settings,
    limits: TenantLimits,
    blocks: Rc<Blocks>,
    free_space: FreeSpace,
    readiness: Readiness,
    /// Out of the list, and still on the disk.
    leaving: RefCell<Vec<Arc<BlockReader>>>,
    /// When ages were looked at last, [`crate::runtime::Clock::now_ns`].
    enforced_ns: Cell<Option<u64>>,
}

impl<R: Runtime> Retention<R> {
    /// Starts a shard's retention.
    pub(crate) fn start(
        rt: &R,
        settings: Settings,
        limits: TenantLimits,
        blocks: Rc<Blocks>,
        free_space: FreeSpace,
        readiness: Readiness,
    ) {
        let retention = Self {
            rt: rt.clone(),
            settings,
            limits,
            blocks,
            free_space,
            readiness,
            leaving: RefCell::default(),
            enforced_ns: Cell::new(None),
        };
        rt.spawn(Class::Background, retention.run());
    }

    #[expect(clippy::infinite_loop, reason = "it ends with the shard's executor")]
    async fn run(self) {
        loop {
            if !self.settings.is_space_ignored {
                self.free_space.look(&self.rt).await;
            }
            if self.readiness.recovered().is_ok() {
                if self.is_due() {
                    self.enforced_ns.set(Some(self.rt.now_ns()));
                    let outlived = self.outlived().await;
                    self.let_go(&outlived);
                    self.remove_damaged().await;
                }
                self.remove_leaving().await;
            }
            self.rt.sleep(self.settings.interval.clamp(PAUSE_MIN, LOOK_INTERVAL)).await;
        }
    }

    /// A disk that is low has ages looked at each time: what may go, goes at once.
    fn is_due(&self) -> bool {
        let interval_ns = self.settings.interval.as_nanos();
        let since = |enforced_ns| u128::from(self.rt.now_ns() - enforced_ns);
        self.free_space.is_low() || self.enforced_ns.get().is_none_or(|ns| since(ns) >= interval_ns)
    }

    /// ULIDs of the blocks that are to be removed.
    async fn outlived(&self) -> BTreeSet<String> {
        let now_ms = self.rt.unix_ms();
        let mut outlived = BTreeSet::new();
        for block in &*self.blocks.list() {
            let limits = self.limits.of(block.tenant().as_str());
            let period_ms = limits.compactor_blocks_retention_period_ms;
            if is_older(block.meta().max_time_ns, period_ms, now_ms) {
                outlived.insert(block.meta().ulid.clone());
            }
            self.rt.yield_if_needed().await;
        }
        #[cfg(feature = "planted-bugs")]
        if self.blocks.bug.get() == Some(engine::planted::Bug::DeleteOnlyCopy)
            && self.free_space.is_low()
        {
            outlived.extend(self.blocks.list().iter().map(|block| block.meta().ulid.clone()).min());
        }
        outlived
    }

    fn let_go(&self, outlived: &BTreeSet<String>) {
        if !outlived.is_empty() {
            self.leaving.borrow_mut().extend(self.blocks.remove(outlived));
        }
    }

    /// Removes what no read holds any more. What cannot be removed is tried again at the next look.
    async fn remove_leaving(&self) {
        for block in self.leaving.take() {
            if Arc::strong_count(&block) > 1 || !self.remove(&block).await {
                self.leaving.borrow_mut().push(block);
            } else if let Some(block) = Arc::into_inner(block) {
                block.free(&Pace::new()).await;
            }
        }
        self.blocks.metrics().leaving.set(self.leaving.borrow().len() as u64);
    }

    async fn remove(&self, block: &BlockReader) -> bool {
        let (meta, tenant) = (block.meta(), block.tenant());
        if !self.remove_files(tenant, block.ulid()).await {
            return false;
        }
        self.blocks.metrics().count_removed(block);
        tracing::info!(
            path = block_path(tenant, block.ulid()),
            profiles = meta.stats.profiles,
            "removed: older than the retention period"
        );
        true
    }

    async fn remove_files(&self, tenant: &TenantId, ulid: u128) -> bool {
        let removed = remove_published(&self.rt, tenant, ulid).await;
        if let Err(error) = &removed {
            let path = block_path(tenant, ulid);
            self.blocks.metrics().count_removal_failed();
            tracing::warn!(path, %error, "a block that is older than its retention period cannot be removed; tried again");
        }
        removed.is_ok()
    }

    /// Removes what does not open and is older than the period for sure. Another shard's is only forgotten: that one removes it.
    async fn remove_damaged(&self) {
        let now_ms = self.rt.unix_ms();
        let listed = self.blocks.damaged.borrow().clone();
        for damaged in listed.iter().filter(|damaged| self.is_outlived(damaged, now_ms)) {
            if damaged.is_own {
                if !self.remove_files(&damaged.tenant, damaged.ulid).await {
                    continue;
                }
                tracing::info!(
                    path = block_path(&damaged.tenant, damaged.ulid),
                    reason = damaged.reason,
                    "removed: older than the retention period, and not to be read"
                );
            }
            self.blocks.remove_damaged(damaged);
        }
    }

    fn is_outlived(&self, damaged: &Damaged, now_ms: i64) -> bool {
        let limits = self.limits.of(damaged.tenant.as_str());
        let by_name = || {
            let ahead_ms = limits.reject_newer_than_ms;
            let cut_ms = i64::try_from(Ulid(damaged.ulid).timestamp_ms()).ok()?;
            (ahead_ms > 0).then(|| (cut_ms.saturating_add(ahead_ms)).saturating_mul(NS_PER_MS))
        };
        let max_time_ns = damaged.max_time_ns.or_else(by_name);
        let period_ms = limits.compactor_blocks_retention_period_ms;
        max_time_ns.is_some_and(|time_ns| is_older(time_ns, period_ms, now_ms))
    }
}

/// Whether a time is further back than the period, of which 0 is for ever.
fn is_older(time_ns: i64, period_ms: i64, now_ms: i64) -> bool {
    period_ms > 0 && time_ns / NS_PER_MS < now_ms.saturating_sub(period_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_of_zero_is_for_ever() {
        for (time_ms, period_ms, is_old) in
            [(0, 0, false), (999, 1000, true), (1000, 1000, false), (5000, 1000, false)]
        {
            assert_eq!(is_older(time_ms * NS_PER_MS, period_ms, 2000), is_old, "{time_ms}");
        }
    }
}
