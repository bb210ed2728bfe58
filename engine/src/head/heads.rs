//! All heads of one shard.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Weak};

use super::frozen::Slot;
use super::{Frozen, FrozenId, Head, HeadId, View};
use crate::hash::HashSecret;
use crate::profile::Step;
use crate::tenant::{PartitionKey, TenantId};

/// Heads that one call of [`Heads::seal_aged`] looks at: sealing one copies at most a chunk, so a call takes well under 1 ms.
const SEAL_HEADS_MAX: usize = 64;

/// Chunks that one call of [`Heads::seal_aged`] seals.
const SEAL_CHUNKS_MAX: usize = 8;

/// What decides when a chunk is sealed.
#[derive(Clone, Copy, Debug)]
pub struct HeadOptions {
    /// Bytes after which the open chunk is sealed.
    pub chunk_bytes_max: usize,
    /// Milliseconds after which it is sealed, counted from the first [`Heads::seal_aged`] that saw it.
    pub chunk_age_ms_max: i64,
    /// The fault to show, if any.
    #[cfg(feature = "planted-bugs")]
    pub bug: Option<crate::planted::Bug>,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            // Some 100,000 values: a copy of 50 µs when sealed, and little enough that unused capacity never adds up.
            chunk_bytes_max: 256 << 10,
            // Six profiles of an agent that sends every ten seconds: the chunk's fixed 200 B are shared by some rows.
            chunk_age_ms_max: 60_000,
            #[cfg(feature = "planted-bugs")]
            bug: None,
        }
    }
}

/// The heads by partition. A head is created by the first append to its partition.
#[derive(Debug)]
pub struct Heads {
    secret: HashSecret,
    options: HeadOptions,
    /// Those that appends go to.
    by_key: BTreeMap<PartitionKey, Box<Head>>,
    /// In the order of their freezing.
    frozen: Vec<Slot>,
    /// Of tenants that have such heads: how many series are in them.
    series: BTreeMap<TenantId, u64>,
    bytes: usize,
    seal_next: Option<PartitionKey>,
    heads_made: u64,
    freezes: u64,
    /// Counts retirements. A reader of an epoch sees what was retired in a later one.
    epoch: u64,
    epoch_alive: Arc<()>,
    /// Epochs before this one that had readers when they ended.
    epochs_before: Vec<(u64, Weak<()>)>,
}

impl Heads {
    /// No heads yet. `secret` keys the content hashes of all of them.
    pub fn new(secret: HashSecret, options: HeadOptions) -> Self {
        Self {
            secret,
            options,
            by_key: BTreeMap::new(),
            frozen: Vec::new(),
            series: BTreeMap::new(),
            bytes: 0,
            seal_next: None,
            heads_made: 0,
            freezes: 0,
            epoch: 0,
            epoch_alive: Arc::new(()),
            epochs_before: Vec::new(),
        }
    }

    /// The head that appends to a partition go to.
    pub fn get(&self, key: &PartitionKey) -> Option<&Head> {
        self.by_key.get(key).map(|head| &**head)
    }

    /// The heads that appends go to, by tenant, service name and split.
    pub fn iter(&self) -> impl Iterator<Item = (&PartitionKey, &Head)> {
        self.iter_behind(None)
    }

    /// Those behind a partition (`None`: all): how a walk that let others run finds its place again.
    pub fn iter_behind(
        &self,
        key: Option<&PartitionKey>,
    ) -> impl Iterator<Item = (&PartitionKey, &Head)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let heads = self.by_key.range::<PartitionKey, _>((from, Bound::Unbounded));
        heads.map(|(key, head)| (key, &**head))
    }

    /// What a reader that begins now sees. It is kept until the reader ends.
    pub fn view(&self) -> View {
        View { epoch: self.epoch, _alive: Arc::clone(&self.epoch_alive) }
    }

    /// The first head of a tenant behind `after` (`None`: of all) that a reader sees, frozen or not, by service name, split and
    /// age: how a reader that let others run finds its place again, though heads were made or frozen in between.
    pub fn next_of_tenant(
        &self,
        tenant: &TenantId,
        view: &View,
        after: Option<&(PartitionKey, HeadId)>,
    ) -> Option<(&PartitionKey, &Head)> {
        let first = PartitionKey { tenant: tenant.clone(), service_name: Arc::from(""), split: 0 };
        let from = match after {
            Some((key, _)) if *key >= first => key.clone(),
            _ => first,
        };
        let is_behind = |key: &PartitionKey, head: &Head| match after {
            Some((last, id)) => key > last || key == last && head.id() > *id,
            None => true,
        };
        let next_in = |heads: &BTreeMap<PartitionKey, Box<Head>>| {
            let range = (Bound::Included(&from), Bound::Unbounded);
            let mut heads =
                heads.range::<PartitionKey, _>(range).take_while(|(k, _)| k.tenant == *tenant);
            heads
                .find(|(key, head)| is_behind(key, head))
                .map(|(key, head)| (key.clone(), head.id()))
        };
        let seen = self.frozen.iter().filter(|slot| slot.is_seen_by(view));
        let frozen = seen.filter(|slot| slot.frozen.tenant == *tenant);
        let (key, id) = frozen
            .filter_map(|slot| next_in(&slot.frozen.heads))
            .chain(next_in(&self.by_key))
            .min()?;
        self.find(&key, id)
    }

    /// A head by its number, frozen or not.
    pub fn find(&self, key: &PartitionKey, id: HeadId) -> Option<(&PartitionKey, &Head)> {
        let frozen = self.frozen.iter().map(|slot| &slot.frozen.heads);
        std::iter::once(&self.by_key)
            .chain(frozen)
            .filter_map(|heads| heads.get_key_value(key))
            .find(|(_, head)| head.id() == id)
            .map(|(key, head)| (key, &**head))
    }

    /// Takes all heads of a tenant away from appends, which go on in fresh ones; `None` where there are none. Readers go on
    /// seeing them until [`Heads::retire`].
    ///
    /// An append under way starts over in the fresh head: its rows are in exactly one of the two.
    pub fn freeze(&mut self, tenant: &TenantId) -> Option<Arc<Frozen>> {
        let first = PartitionKey { tenant: tenant.clone(), service_name: Arc::from(""), split: 0 };
        let mut heads = self.by_key.split_off(&first);
        let behind = heads.keys().find(|key| key.tenant != *tenant).cloned();
        if let Some(behind) = behind {
            self.by_key.append(&mut heads.split_off(&behind));
        }
        if heads.is_empty() {
            return None;
        }
        self.series.remove(tenant);
        self.freezes += 1;
        let bytes = heads.values().map(|head| head.bytes_settled).sum();
        let id = FrozenId(self.freezes);
        let frozen = Arc::new(Frozen { id, tenant: tenant.clone(), heads, bytes });
        self.frozen.push(Slot { frozen: Arc::clone(&frozen), retired_epoch: None });
        Some(frozen)
    }

    /// Takes frozen heads away from readers that begin from now on: a block has taken their place. They are there until the
    /// last reader that sees them has ended, and [`Heads::take_unseen`] is called.
    pub fn retire(&mut self, id: FrozenId) {
        let slot = self.frozen.iter_mut().find(|slot| slot.frozen.id == id);
        let slot = slot.expect("what is retired was frozen, and is retired once");
        assert!(slot.retired_epoch.is_none(), "frozen heads are retired once");
        self.epochs_before.push((self.epoch, Arc::downgrade(&self.epoch_alive)));
        self.epoch += 1;
        self.epoch_alive = Arc::new(());
        slot.retired_epoch = Some(self.epoch);
    }

    /// Frozen heads that are still held, the oldest first.
    pub fn frozen(&self) -> impl ExactSizeIterator<Item = &Arc<Frozen>> {
        self.frozen.iter().map(|slot| &slot.frozen)
    }

    /// Takes out retired heads that no reader sees any more, the oldest first. To give all their memory back at once can take
    /// some ms, so the caller does it head by head.
    pub fn take_unseen(&mut self) -> Vec<Arc<Frozen>> {
        self.epochs_before.retain(|(_, alive)| alive.strong_count() > 0);
        let oldest = self.epochs_before.iter().map(|(epoch, _)| *epoch).min();
        let oldest = oldest.unwrap_or(self.epoch);
        let is_unseen = |slot: &mut Slot| slot.retired_epoch.is_some_and(|epoch| epoch <= oldest);
        let unseen: Vec<_> =
            self.frozen.extract_if(.., is_unseen).map(|slot| slot.frozen).collect();
        self.bytes -= unseen.iter().map(|frozen| frozen.bytes).sum::<usize>();
        unseen
    }

    /// Series of a tenant in the heads that appends go to; one that is in two partitions counts twice.
    pub fn series_of(&self, tenant: &TenantId) -> u64 {
        self.series.get(tenant).copied().unwrap_or_default()
    }

    /// Series of all tenants in the heads that appends go to.
    pub fn series_count(&self) -> u64 {
        self.series.values().sum()
    }

    /// Number of heads that appends go to.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is no such head.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Heap bytes of all heads, frozen ones and unused capacity included; kept up to date by every change, so it costs nothing to read.
    pub fn bytes_held(&self) -> usize {
        self.bytes
    }

    /// Seals open chunks that are older than the limit; looks at some heads a call. `Done` at the end of a round: call again
    /// after a while, not at once.
    pub fn seal_aged(&mut self, now_ms: i64) -> Step {
        let from = self.seal_next.take().map_or(Bound::Unbounded, Bound::Included);
        let (mut looked_at, mut sealed) = (0, 0);
        for (key, head) in self.by_key.range_mut((from, Bound::Unbounded)) {
            if looked_at == SEAL_HEADS_MAX || sealed == SEAL_CHUNKS_MAX {
                self.seal_next = Some(key.clone());
                return Step::More;
            }
            looked_at += 1;
            if head.is_aged(now_ms, self.options.chunk_age_ms_max) {
                sealed += 1;
                head.seal(&self.options);
                settle(&mut self.bytes, head);
            }
        }
        Step::Done
    }

    pub(super) fn secret(&self) -> &HashSecret {
        &self.secret
    }

    pub(super) fn options(&self) -> &HeadOptions {
        &self.options
    }

    /// The head of a partition, made where there is none.
    pub(super) fn ensure(&mut self, key: &PartitionKey) -> HeadId {
        if let Some(head) = self.by_key.get(key) {
            return head.id;
        }
        self.heads_made += 1;
        let id = HeadId(self.heads_made);
        let mut head = Head::new(id, self.secret.clone(), key_bytes(key));
        settle(&mut self.bytes, &mut head);
        self.by_key.insert(key.clone(), Box::new(head));
        id
    }

    /// Changes one head and accounts for the change.
    pub(super) fn change<T>(&mut self, key: &PartitionKey, f: impl FnOnce(&mut Head) -> T) -> T {
        let head = self.by_key.get_mut(key).expect("an append keeps its head until it is done");
        let series_before = head.series().len();
        let result = f(head);
        settle(&mut self.bytes, head);
        let made = head.series().len() - series_before;
        if made > 0 {
            *self.series.entry(key.tenant.clone()).or_default() += made as u64;
        }
        result
    }
}

/// Takes the difference to what was last accounted of `head` into the sum.
fn settle(bytes: &mut usize, head: &mut Head) {
    let now = head.bytes_held();
    *bytes = *bytes - head.bytes_settled + now;
    head.bytes_settled = now;
}

/// Bytes of a map entry, whose nodes are two thirds full, with its key's texts (each with two counters); and of the tenant's
/// count of series, which its first head would do for.
fn key_bytes(key: &PartitionKey) -> usize {
    size_of::<Head>()
        + size_of::<(PartitionKey, Box<Head>)>() * 3 / 2
        + size_of::<(TenantId, u64)>() * 3 / 2
        + key.service_name.len()
        + key.tenant.as_str().len()
        + 4 * size_of::<usize>()
}
