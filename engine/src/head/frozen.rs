//! Frozen heads: what a cut took away from appends, and what readers go on reading until a block has taken its place.
//!
//! ```text
//!            freeze                      retire (the block is published)
//! live head ────────► frozen, all see it ────────► frozen, readers of before see it ────────► gone
//!            appends go to a fresh head                                     the last of them ends
//! ```
//! A reader takes a [`View`] when it begins, and the list of blocks in the same poll. It reads every head that was not retired
//! then, and every block that was published then: each profile exactly once, however often heads are frozen and retired while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Head;
use crate::tenant::{PartitionKey, TenantId};

/// Which freeze, from 1 on, of one shard's heads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrozenId(pub u64);

/// All heads that a tenant had on a shard when they were frozen. Nothing in them changes any more.
#[derive(Debug)]
pub struct Frozen {
    pub(super) id: FrozenId,
    pub(super) tenant: TenantId,
    pub(super) heads: BTreeMap<PartitionKey, Box<Head>>,
    pub(super) bytes: usize,
}

impl Frozen {
    /// Which freeze it was.
    pub fn id(&self) -> FrozenId {
        self.id
    }

    /// Whose heads.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The heads, by service name and split.
    pub fn iter(&self) -> impl Iterator<Item = (&PartitionKey, &Head)> {
        self.heads.iter().map(|(key, head)| (key, &**head))
    }

    /// The heads alone.
    pub fn into_heads(self) -> impl Iterator<Item = Box<Head>> {
        self.heads.into_values()
    }

    /// Heap bytes of all of them.
    pub fn bytes_held(&self) -> usize {
        self.bytes
    }
}

/// What a reader sees: the heads that were not retired when it began. While a view lives, so do they.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) epoch: u64,
    /// Dropped with the last reader of the epoch.
    pub(super) _alive: Arc<()>,
}

/// A freeze, and since which epoch new readers do not see it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) frozen: Arc<Frozen>,
    pub(super) retired_epoch: Option<u64>,
}

impl Slot {
    pub(super) fn is_seen_by(&self, view: &View) -> bool {
        self.retired_epoch.is_none_or(|epoch| view.epoch < epoch)
    }
}
