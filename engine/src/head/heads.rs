//! All heads of one shard.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Head;
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
    by_key: BTreeMap<PartitionKey, Head>,
    bytes: usize,
    seal_next: Option<PartitionKey>,
}

impl Heads {
    /// No heads yet. `secret` keys the content hashes of all of them.
    pub fn new(secret: HashSecret, options: HeadOptions) -> Self {
        Self { secret, options, by_key: BTreeMap::new(), bytes: 0, seal_next: None }
    }

    /// The head of a partition.
    pub fn get(&self, key: &PartitionKey) -> Option<&Head> {
        self.by_key.get(key)
    }

    /// All heads, by tenant, service name and split.
    pub fn iter(&self) -> impl Iterator<Item = (&PartitionKey, &Head)> {
        self.by_key.iter()
    }

    /// The heads of one tenant behind `after` (all of them for `None`), by service name and split: how a reader that let others run finds its place again, though heads may have
    /// come in between.
    pub fn of_tenant_after(
        &self,
        tenant: &TenantId,
        after: Option<&PartitionKey>,
    ) -> impl Iterator<Item = (&PartitionKey, &Head)> {
        let first = PartitionKey { tenant: tenant.clone(), service_name: Arc::from(""), split: 0 };
        let from = match after {
            Some(key) if *key >= first => Bound::Excluded(key.clone()),
            _ => Bound::Included(first),
        };
        let tenant = tenant.clone();
        self.by_key.range((from, Bound::Unbounded)).take_while(move |(key, _)| key.tenant == tenant)
    }

    /// Number of heads.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is no head.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Heap bytes of all heads, unused capacity included; kept up to date by every change, so it costs nothing to read.
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

    /// Makes the head of a partition where there is none.
    pub(super) fn ensure(&mut self, key: &PartitionKey) {
        if !self.by_key.contains_key(key) {
            let mut head = Head::new(self.secret.clone(), key_bytes(key));
            settle(&mut self.bytes, &mut head);
            self.by_key.insert(key.clone(), head);
        }
    }

    /// Changes one head and accounts for the change.
    pub(super) fn change<T>(&mut self, key: &PartitionKey, f: impl FnOnce(&mut Head) -> T) -> T {
        let head = self.by_key.get_mut(key).expect("an append keeps its head until it is done");
        let result = f(head);
        settle(&mut self.bytes, head);
        result
    }
}

/// Takes the difference to what was last accounted of `head` into the sum.
fn settle(bytes: &mut usize, head: &mut Head) {
    let now = head.bytes_held();
    *bytes = *bytes - head.bytes_settled + now;
    head.bytes_settled = now;
}

/// Bytes of a map entry, whose nodes are two thirds full, with its key's texts (each with two counters).
fn key_bytes(key: &PartitionKey) -> usize {
    size_of::<(PartitionKey, Head)>() * 3 / 2
        + key.service_name.len()
        + key.tenant.as_str().len()
        + 4 * size_of::<usize>()
}
