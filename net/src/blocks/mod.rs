//! Blocks of one shard: the list that reads see, the cutter that adds to it, retention that takes from it, and the files below all.
//!
//! ```text
//! heads ─freeze─► frozen heads ─encode─► .<ULID>.tmp/… ─rename─► <ULID>/ ─swap─► the list; the frozen heads are retired
//!   reads: heads, frozen heads and blocks that the shard has in the moment they begin
//! ```
//! Invariants
//! - A block belongs to one shard of the running process: the one that cut it; at the start blocks are dealt by their ULID.
//! - A block takes the place of its frozen heads in one step, in which nothing is awaited. A read takes its view of the heads
//!   and the list in one step, too. So each profile counts once at every moment.
//! - Nothing is cut before all shards have listed what was there: no shard takes a block of this run for one of an earlier.
//! - What is in the list was published: every file and every name of it is durable.
//! - A block leaves the list only when it is older than its tenant's retention period; its files go after the last read that holds it.
//!
//! Not here: bytes of blocks (`engine::block`); releasing what the log no longer need hold (`wal::pins`).

mod cut;
mod directory;
mod free_space;
mod metrics;
mod open;
mod publish;
mod read;
mod retention;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::block::{BlockReader, SymbolCache};
use engine::identity::{Identities, Identity};
use engine::tenant::{PartitionKey, TenantId};
use proto::rpc::select::SelectRequest;
use proto::rpc::{Code, Failure, MetricSample};

use crate::budget::Cache;

pub(crate) use self::cut::free_unseen;
pub use self::cut::{Cutter, Settings, Trigger};
pub(crate) use self::directory::{Entry, entry_of, tenant_path};
pub use self::directory::{ROOT, block_path};
pub use self::free_space::FreeSpace;
pub use self::metrics::Metrics;
pub use self::open::{OpenError, OpenScope};
pub use self::publish::PublishStep;
pub use self::read::BlockFiles;
pub(crate) use self::retention::Retention;
pub use self::retention::Settings as RetentionSettings;

/// The blocks of one shard.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Replaced whole: a read keeps the list that it began with.
    list: RefCell<Arc<[Arc<BlockReader>]>>,
    symbols: SymbolCache,
    damaged: RefCell<Vec<Damaged>>,
    /// What blocks of earlier runs hold of this shard's partitions; until recovery is done.
    published: RefCell<BTreeMap<PartitionKey, Identities>>,
    metrics: Metrics,
    #[cfg(feature = "planted-bugs")]
    bug: std::cell::Cell<Option<engine::planted::Bug>>,
}

/// A directory that is no block any more. Whoever asks for its tenant is told.
#[derive(Clone, Debug)]
struct Damaged {
    tenant: TenantId,
    ulid: u128,
    reason: String,
    /// Greatest profile time, Unix nanoseconds, where `meta.json` is whole and says it.
    max_time_ns: Option<i64>,
    /// Whether it is this shard that has to remove it.
    is_own: bool,
}

impl Blocks {
    /// None yet; symbols of at most so many bytes are kept between reads.
    pub fn new(symbols_bytes_max: usize) -> Self {
        Self { symbols: SymbolCache::new(symbols_bytes_max), ..Self::default() }
    }

    /// The blocks that a read which begins now sees, whatever is added or removed while it runs.
    pub fn list(&self) -> Arc<[Arc<BlockReader>]> {
        Arc::clone(&self.list.borrow())
    }

    /// Symbols that reads have left.
    pub fn symbols(&self) -> &SymbolCache {
        &self.symbols
    }

    /// Plants a bug.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&self, bug: Option<engine::planted::Bug>) {
        self.bug.set(bug);
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The samples of `/metrics`.
    pub fn samples(&self, shard: u16) -> Vec<MetricSample> {
        let counts = self.symbols.counts();
        let sample = |name, value: u64| MetricSample::of_shard(name, shard, value as f64);
        let mut samples = self.metrics.samples(shard);
        samples.extend([
            sample("pyrite_block_symbols_evicted_total", counts.evicted),
            sample("pyrite_block_symbols_hits_total", counts.hits),
            sample("pyrite_block_symbols_misses_total", counts.misses),
        ]);
        samples
    }

    /// Refuses a read that would miss a block which cannot be opened.
    pub fn admit_read(&self, request: &SelectRequest) -> Result<(), Failure> {
        let damaged = self.damaged.borrow();
        let asked = |damaged: &&Damaged| tenants_of(request).any(|t| t == damaged.tenant.as_str());
        let Some(Damaged { tenant, ulid, reason, .. }) = damaged.iter().find(asked) else {
            return Ok(());
        };
        let message = format!("{}: {reason}", block_path(tenant, *ulid));
        Err(Failure::new(Code::DataLoss, "block_damaged", message))
    }

    /// Whether a tenant has a block that does not open: which profiles it holds is not known.
    pub fn has_damaged(&self, tenant: &TenantId) -> bool {
        self.damaged.borrow().iter().any(|damaged| damaged.tenant == *tenant)
    }

    /// Whether a block of an earlier run holds a profile. Told until [`Self::forget_published`].
    pub fn is_published(&self, partition: &PartitionKey, identity: Identity) -> bool {
        self.published.borrow().get(partition).is_some_and(|held| held.contains(identity))
    }

    /// Forgets what earlier runs published: their logs are read.
    pub fn forget_published(&self) {
        self.published.take();
    }

    fn add(&self, block: Arc<BlockReader>) {
        self.metrics.add_block(&block);
        let mut list = self.list.borrow_mut();
        *list = list.iter().cloned().chain([block]).collect();
    }

    /// Takes blocks out of the list, by their ULIDs. Reads that have begun keep them.
    fn remove(&self, ulids: &BTreeSet<String>) -> Vec<Arc<BlockReader>> {
        let mut list = self.list.borrow_mut();
        let is_removed = |block: &Arc<BlockReader>| ulids.contains(&block.meta().ulid);
        let (removed, kept): (Vec<_>, Vec<_>) = list.iter().cloned().partition(is_removed);
        *list = kept.into();
        for block in &removed {
            self.metrics.remove_block(block);
        }
        removed
    }

    fn add_damaged(&self, damaged: Damaged) {
        let count = &self.metrics.blocks_damaged;
        count.set(count.get() + u64::from(damaged.is_own));
        self.damaged.borrow_mut().push(damaged);
    }

    /// Forgets a block that does not open: its tenant is read again.
    fn remove_damaged(&self, gone: &Damaged) {
        self.damaged
            .borrow_mut()
            .retain(|damaged| (&damaged.tenant, damaged.ulid) != (&gone.tenant, gone.ulid));
        let count = &self.metrics.blocks_damaged;
        count.set(count.get() - u64::from(gone.is_own));
    }
}

impl Cache for SymbolCache {
    fn bytes_held(&self) -> usize {
        Self::bytes_held(self)
    }

    fn clear(&self) {
        Self::clear(self);
    }
}

fn tenants_of(request: &SelectRequest) -> Box<dyn Iterator<Item = &str> + '_> {
    match request {
        SelectRequest::Series { selection, .. }
        | SelectRequest::LabelNames(selection)
        | SelectRequest::LabelValues { selection, .. }
        | SelectRequest::Points { selection, .. }
        | SelectRequest::Tree { selection, .. }
        | SelectRequest::Profile { selection, .. } => {
            Box::new(selection.tenants.iter().map(String::as_str))
        }
        SelectRequest::Stats { tenant } => Box::new(std::iter::once(tenant.as_str())),
    }
}

#[cfg(test)]
mod tests;
