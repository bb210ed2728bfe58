//! When a service is spread over shards, and how far: the policy of the shard that owns its split 0 (its home).
//!
//! Every shard keeps decaying averages of what its ingester spends on each service. The home raises a service's split count
//! when its ingester is loaded, this service is most of it, and the shards that would take over have room; it deals the
//! service's label sets anew when they happen to lie unevenly, and lowers the count after a long quiet. Two shards need be
//! asked for that, so a decision has two steps: [`SpreadPolicy::due`] says whom to look at, [`SpreadPolicy::decide`] is given
//! what all shards know of it.
//!
//! What holds
//! - Nothing depends on a count but balance: each profile is routed once, under the split its receiver knew, and records carry it.
//!   Receivers may differ for a while, and a restart begins at 1 again.
//! - A count is at most the number of shards; consecutive splits lie on different shards ([`crate::route::shard_of`]).
//!
//! Not here: measuring, asking, telling (`net::component::spread`); which split a label set has ([`split_of`] is asked by the distributor).

use std::collections::BTreeMap;

use proto::rpc::spread::{ShardLoad, Spread};
use xxhash_rust::xxh3::Xxh3;

use crate::route::{ShardId, shard_of};
use crate::tenant::PartitionKey;

/// Services with averages of their own on a shard; the others count for the shard only. Those that do next to nothing are
/// forgotten at every tick, so a hot one finds room. About 200 bytes each, 2 KB with the longest name.
pub const SERVICES_TRACKED_MAX: usize = 1_024;

/// Services that one home spreads at a time. Each is a good part of a core, so there are fewer cores than that.
pub const SERVICES_SPREAD_MAX: usize = 64;

/// Time in which an average follows a change by half, ns: a hot service is seen within seconds, a burst is not.
const AVERAGED_NS: f64 = 4e9;

/// Averages below this share of a core are forgotten.
const FORGOTTEN_SHARE: f64 = 1e-6;

/// Least cost of an inflated byte, ns. A quarter of what real profiles cost: it counts where a clock is too coarse.
const BYTE_NS_MIN: u64 = 1;

/// How long a service must be hot before other shards are asked, ns: averages that begin to rise at different moments say little.
const HOT_NS: u64 = 5_000_000_000;

/// Part of its home's ingest that a service must be: spreading a smaller one would not relieve the shard.
const DOMINANT_PART: f64 = 0.5;

/// Load of the shards that would take over, as a part of the home's, up to which spreading helps.
const RELIEF_PART: f64 = 0.75;

/// The busiest split's share over the mean, up to which splits are called even.
const UNEVEN_MAX: f64 = 1.15;

/// Deals of one split count that are tried; then the best of them stays. Each leaves the symbols of a service on more shards.
const DEALS_MAX: u32 = 4;

/// When services are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpreadOptions {
    /// Share of a core that ingest must take on the home before anything is spread: below it the symbols that splits keep
    /// twice cost more than they bring. A hundredth is about a thousand pods that push 15-second profiles of one service.
    pub loaded_share: f64,
    /// Share of a core below which a whole service counts as quiet. Far below `loaded_share`, so that a count does not swing.
    pub quiet_share: f64,
    /// How long a service must be quiet before its count is halved, ns.
    pub quiet_ns: u64,
    /// How long averages need to follow a change, ns: nothing is judged sooner.
    pub settle_ns: u64,
}

impl Default for SpreadOptions {
    fn default() -> Self {
        Self {
            loaded_share: 0.01,
            quiet_share: 0.0025,
            quiet_ns: 600 * 1_000_000_000,
            settle_ns: 20 * 1_000_000_000,
        }
    }
}

/// Split of a pushed label set: the same for the same labels as long as `spread` holds.
pub fn split_of(labels: &[(String, String)], spread: Spread) -> u32 {
    if spread.splits <= 1 {
        return 0;
    }
    let mut hash = Xxh3::with_seed(spread.deal.into());
    for (name, value) in labels {
        for text in [name, value] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    ((u128::from(hash.digest()) * u128::from(spread.splits)) >> 64) as u32
}

/// What one shard knows of its services' load, and what it decided for those whose home it is.
#[derive(Debug)]
pub struct SpreadPolicy {
    own: ShardId,
    shards_count: u16,
    options: SpreadOptions,
    ticked_ns: u64,
    whole: Average,
    /// By partition key with split 0.
    services: BTreeMap<PartitionKey, Average>,
    spread: BTreeMap<PartitionKey, Decided>,
    /// The service whose count may be raised, and since when.
    hot: Option<(PartitionKey, u64)>,
    changes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Average {
    /// Spent since the last tick.
    busy_ns: u64,
    /// Share of a core.
    share: f64,
}

impl Average {
    fn tick(&mut self, elapsed_ns: f64) {
        let latest = self.busy_ns as f64 / elapsed_ns;
        self.busy_ns = 0;
        self.share += (latest - self.share) * elapsed_ns / (elapsed_ns + AVERAGED_NS);
    }
}

#[derive(Clone, Copy, Debug)]
struct Decided {
    spread: Spread,
    changed_ns: u64,
    quiet_since_ns: Option<u64>,
    /// The least uneven deal of this count, and how uneven it was.
    best: Option<(u32, f64)>,
    /// No further deal is tried.
    is_dealt: bool,
}

impl SpreadPolicy {
    /// A shard that has seen nothing.
    pub fn new(own: ShardId, shards_count: u16, options: SpreadOptions) -> Self {
        assert!(own.0 < shards_count, "a shard is one of its node's");
        Self {
            own,
            shards_count,
            options,
            ticked_ns: 0,
            whole: Average::default(),
            services: BTreeMap::new(),
            spread: BTreeMap::new(),
            hot: None,
            changes: 0,
        }
    }

    /// Notes what storing a profile took here.
    pub fn note(&mut self, partition: &PartitionKey, busy_ns: u64, inflated_bytes: u64) {
        let busy_ns = busy_ns.max(inflated_bytes * BYTE_NS_MIN);
        self.whole.busy_ns += busy_ns;
        let key = PartitionKey { split: 0, ..partition.clone() };
        if let Some(service) = self.services.get_mut(&key) {
            service.busy_ns += busy_ns;
        } else if self.services.len() < SERVICES_TRACKED_MAX {
            self.services.insert(key, Average { busy_ns, share: 0.0 });
        }
    }

    /// Lets time pass; called about once a second.
    pub fn tick(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.ticked_ns);
        if elapsed_ns == 0 {
            return;
        }
        self.ticked_ns = now_ns;
        let elapsed_ns = elapsed_ns as f64;
        self.whole.tick(elapsed_ns);
        self.services.retain(|_, service| {
            service.tick(elapsed_ns);
            service.share >= FORGOTTEN_SHARE
        });
        for (key, decided) in &mut self.spread {
            let share = self.services.get(key).map_or(0.0, |service| service.share);
            if share * f64::from(decided.spread.splits) >= self.options.quiet_share {
                decided.quiet_since_ns = None;
            } else if decided.quiet_since_ns.is_none() {
                decided.quiet_since_ns = Some(now_ns);
            }
        }
        let before = self.hot.take();
        self.hot = self.hottest().map(|key| match before {
            Some((was, since_ns)) if was == key => (key, since_ns),
            _ => (key, now_ns),
        });
    }

    /// The service that something may have to be done about. All shards' [`Self::load_of`] it go to [`Self::decide`].
    pub fn due(&self) -> Option<PartitionKey> {
        let of_spread = self.spread.iter().find(|(_, decided)| {
            self.is_quiet(decided) || !decided.is_dealt && self.is_settled(decided)
        });
        if let Some((key, _)) = of_spread {
            return Some(key.clone());
        }
        let (key, _) = self.hot.as_ref()?;
        self.may_raise(key).then(|| key.clone())
    }

    /// The service that most is spent on among those whose home this is, if its count may be raised.
    fn hottest(&self) -> Option<PartitionKey> {
        let (key, _) = self.services.iter().max_by(|(_, a), (_, b)| a.share.total_cmp(&b.share))?;
        (self.home_of(key) == self.own && self.is_hot(key)).then(|| key.clone())
    }

    /// What this shard's ingester spends, and on this service.
    pub fn load_of(&self, key: &PartitionKey) -> ShardLoad {
        let service = self.services.get(key).map_or(0.0, |service| service.share);
        ShardLoad { whole: self.whole.share, service }
    }

    /// Decides about a service whose home this is, from what the shards say of it, in order of their numbers. `Some` is to be
    /// told to all shards.
    pub fn decide(&mut self, key: &PartitionKey, loads: &[ShardLoad]) -> Option<Spread> {
        assert_eq!(loads.len(), usize::from(self.shards_count), "every shard says what it knows");
        assert_eq!(self.home_of(key), self.own, "a service's home decides about it");
        let current = self.spread_of(key);
        let raised = (2 * current.splits).min(self.shards_count.into());
        if self.may_raise(key) && self.would_help(key, current.splits..raised, loads) {
            return Some(self.set(key, Spread { splits: raised, deal: 0 }));
        }
        let decided = *self.spread.get(key)?;
        let whole: f64 = loads.iter().map(|load| load.service).sum();
        if self.is_quiet(&decided) {
            if whole < self.options.quiet_share {
                return Some(self.set(key, Spread { splits: current.splits / 2, deal: 0 }));
            }
            // Quiet here only.
            self.spread.get_mut(key).expect("it was just seen").quiet_since_ns = None;
        }
        if decided.is_dealt || !self.is_settled(&decided) {
            return None;
        }
        let of_split = |split| loads[usize::from(self.owner_of(key, split).0)].service;
        let busiest = (0..current.splits).map(of_split).fold(0.0, f64::max);
        let uneven = if whole > 0.0 { busiest * f64::from(current.splits) / whole } else { 1.0 };
        self.deal(key, uneven)
    }

    /// Tries another deal if the last one was `uneven`, until the best of [`DEALS_MAX`] is known.
    fn deal(&mut self, key: &PartitionKey, uneven: f64) -> Option<Spread> {
        let decided = self.spread.get_mut(key).expect("only a spread service is dealt");
        let Spread { splits, deal } = decided.spread;
        if decided.best.is_none_or(|(_, least)| uneven < least) {
            decided.best = Some((deal, uneven));
        }
        let (best, _) = decided.best.expect("it was just set");
        let next = if uneven > UNEVEN_MAX && deal + 1 < DEALS_MAX {
            deal + 1
        } else {
            decided.is_dealt = true;
            best
        };
        if next == deal {
            return None;
        }
        let (best, is_dealt) = (decided.best, decided.is_dealt);
        let spread = self.set(key, Spread { splits, deal: next });
        let decided = self.spread.get_mut(key).expect("it is spread as before");
        (decided.best, decided.is_dealt) = (best, is_dealt);
        Some(spread)
    }

    /// How a service is spread, by what this shard decided.
    pub fn spread_of(&self, key: &PartitionKey) -> Spread {
        self.spread.get(key).map(|decided| decided.spread).unwrap_or_default()
    }

    /// Services whose home this is and that are spread.
    pub fn services_spread(&self) -> usize {
        self.spread.len()
    }

    /// The highest split count of services whose home this is; 1 when none is spread.
    pub fn splits_max(&self) -> u32 {
        self.spread.values().map(|decided| decided.spread.splits).max().unwrap_or(1)
    }

    /// Counts and deals that were changed so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Share of a core that ingest takes here.
    pub fn ingest_share(&self) -> f64 {
        self.whole.share
    }

    fn set(&mut self, key: &PartitionKey, spread: Spread) -> Spread {
        assert!(
            0 < spread.splits && spread.splits <= self.shards_count.into(),
            "{spread:?} on {} shards",
            self.shards_count
        );
        self.changes += 1;
        if spread.splits == 1 {
            self.spread.remove(key);
            return spread;
        }
        let decided = Decided {
            spread,
            changed_ns: self.ticked_ns,
            quiet_since_ns: None,
            best: None,
            is_dealt: false,
        };
        self.spread.insert(key.clone(), decided);
        spread
    }

    /// Whether the home is loaded, mostly by this service.
    fn is_hot(&self, key: &PartitionKey) -> bool {
        let ShardLoad { whole, service } = self.load_of(key);
        whole >= self.options.loaded_share && service >= DOMINANT_PART * whole
    }

    /// Whether it has been hot for a while, and there are shards it is not spread over yet.
    fn may_raise(&self, key: &PartitionKey) -> bool {
        let is_long = |since_ns| self.ticked_ns - since_ns >= HOT_NS;
        let is_hot = self.hot.as_ref().is_some_and(|(hot, since)| hot == key && is_long(*since));
        let (has_room, splits) = match self.spread.get(key) {
            Some(decided) => (self.is_settled(decided), decided.spread.splits),
            None => (self.spread.len() < SERVICES_SPREAD_MAX, 1),
        };
        is_hot && has_room && splits < self.shards_count.into()
    }

    fn would_help(
        &self,
        key: &PartitionKey,
        added: std::ops::Range<u32>,
        loads: &[ShardLoad],
    ) -> bool {
        let count = added.len() as f64;
        let of_split = |split| loads[usize::from(self.owner_of(key, split).0)].whole;
        let mean = added.map(of_split).sum::<f64>() / count;
        mean <= RELIEF_PART * loads[usize::from(self.own.0)].whole
    }

    fn is_quiet(&self, decided: &Decided) -> bool {
        let is_long = |since| self.ticked_ns - since >= self.options.quiet_ns;
        decided.quiet_since_ns.is_some_and(is_long)
    }

    fn is_settled(&self, decided: &Decided) -> bool {
        self.ticked_ns - decided.changed_ns >= self.options.settle_ns
    }

    fn home_of(&self, key: &PartitionKey) -> ShardId {
        self.owner_of(key, 0)
    }

    fn owner_of(&self, key: &PartitionKey, split: u32) -> ShardId {
        shard_of(key.tenant.as_str(), &key.service_name, split, self.shards_count)
    }
}

#[cfg(test)]
mod tests;
