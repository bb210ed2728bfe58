//! What only the log holds: from which segment on each tenant's heads still need it, and since when.
//!
//! ```text
//! append ─► held (until its rows are in a head) ─► live heads of its tenant ─freeze─► frozen heads ─publish─► nothing
//! ```
//! The least segment of all of them pins the log; what is before it can go. Records that a recovery put back pin no segment of
//! this log, but count for its age: only a log holds them too.

use std::collections::BTreeMap;

use engine::head::FrozenId;
use engine::tenant::TenantId;

/// Stands for the segment of a record that is in none of this log.
const NO_SEGMENT: u64 = u64::MAX;

/// The oldest of some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pin {
    /// Least segment that has one.
    segment: u64,
    /// Least receive time, Unix milliseconds.
    receive_ms: i64,
    /// Whether some are of earlier runs.
    is_put_back: bool,
}

impl Pin {
    fn and(self, other: Self) -> Self {
        Self {
            segment: self.segment.min(other.segment),
            receive_ms: self.receive_ms.min(other.receive_ms),
            is_put_back: self.is_put_back || other.is_put_back,
        }
    }
}

/// Who needs which part of a log.
#[derive(Debug, Default)]
pub(super) struct Pins {
    /// Records in no head yet, by segment.
    held: BTreeMap<u64, usize>,
    live: BTreeMap<TenantId, Pin>,
    frozen: BTreeMap<FrozenId, Pin>,
    #[cfg(feature = "planted-bugs")]
    bug: Option<engine::planted::Bug>,
}

impl Pins {
    #[cfg(feature = "planted-bugs")]
    pub(super) fn plant(&mut self, bug: Option<engine::planted::Bug>) {
        self.bug = bug;
    }

    /// A record was accepted, and is in no head yet.
    pub(super) fn hold(&mut self, segment: u64) {
        *self.held.entry(segment).or_default() += 1;
    }

    /// The rows of such a record are in a live head of the tenant.
    pub(super) fn apply(&mut self, segment: u64, tenant: &TenantId, receive_ms: i64) {
        let held = self.held.get_mut(&segment).expect("a record is held until it is in a head");
        *held -= 1;
        if *held == 0 {
            self.held.remove(&segment);
        }
        self.pin(tenant, Pin { segment, receive_ms, is_put_back: false });
    }

    /// A live head of the tenant has the rows of a record of an earlier run.
    pub(super) fn put_back(&mut self, tenant: &TenantId, receive_ms: i64) {
        self.pin(tenant, Pin { segment: NO_SEGMENT, receive_ms, is_put_back: true });
    }

    fn pin(&mut self, tenant: &TenantId, pin: Pin) {
        match self.live.get_mut(tenant) {
            Some(known) => *known = known.and(pin),
            None => drop(self.live.insert(tenant.clone(), pin)),
        }
    }

    /// All heads of the tenant were frozen.
    pub(super) fn freeze(&mut self, tenant: &TenantId, id: FrozenId) {
        if let Some(pin) = self.live.remove(tenant) {
            self.frozen.insert(id, pin);
        }
    }

    /// What was frozen is in a block, whose every name is durable.
    pub(super) fn publish(&mut self, id: FrozenId) {
        self.frozen.remove(&id);
    }

    /// The least segment that somebody needs.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        let held = self.held.keys().next().copied();
        let live = self.live.values().map(|pin| pin.segment);
        let segments = live.chain(self.frozen_segments()).chain(held);
        segments.min().filter(|segment| *segment != NO_SEGMENT)
    }

    #[cfg(not(feature = "planted-bugs"))]
    fn frozen_segments(&self) -> impl Iterator<Item = u64> {
        self.frozen.values().map(|pin| pin.segment)
    }

    /// With the bug `truncate_log_early` frozen heads are thought to be in a block already.
    #[cfg(feature = "planted-bugs")]
    fn frozen_segments(&self) -> impl Iterator<Item = u64> {
        let forgets = self.bug == Some(engine::planted::Bug::TruncateLogEarly);
        self.frozen.values().filter(move |_| !forgets).map(|pin| pin.segment)
    }

    /// Whether heads, live or frozen, have records of earlier runs that no block has.
    pub(super) fn has_put_back(&self) -> bool {
        self.live.values().chain(self.frozen.values()).any(|pin| pin.is_put_back)
    }

    /// A tenant whose live heads have such records.
    pub(super) fn tenant_put_back(&self) -> Option<&TenantId> {
        self.live.iter().find(|(_, pin)| pin.is_put_back).map(|(tenant, _)| tenant)
    }

    /// Receive time of the oldest record that only logs hold.
    pub(super) fn oldest_receive_ms(&self) -> Option<i64> {
        self.live.values().chain(self.frozen.values()).map(|pin| pin.receive_ms).min()
    }

    /// The tenant whose live heads need the oldest segment of all before `segment`.
    pub(super) fn tenant_before(&self, segment: u64) -> Option<&TenantId> {
        let before = self.live.iter().filter(|(_, pin)| pin.segment < segment);
        before.min_by_key(|(_, pin)| pin.segment).map(|(tenant, _)| tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn a_segment_is_needed_from_its_first_record_on_until_all_of_it_is_in_blocks() {
        let (quiet, busy) = (tenant("quiet"), tenant("busy"));
        let mut pins = Pins::default();
        pins.hold(1);
        assert_eq!(pins.oldest_segment(), Some(1), "in no head yet");
        pins.apply(1, &quiet, 100);
        for segment in [1, 2, 3] {
            pins.hold(segment);
            pins.apply(segment, &busy, 100 + segment as i64);
        }
        pins.freeze(&busy, FrozenId(1));
        assert_eq!(pins.oldest_segment(), Some(1));
        assert_eq!(pins.tenant_before(3), Some(&quiet), "what is frozen is being cut already");
        pins.freeze(&quiet, FrozenId(2));
        pins.hold(3);
        pins.publish(FrozenId(2));
        assert_eq!(pins.oldest_segment(), Some(1), "the other block is not published");
        pins.publish(FrozenId(1));
        assert_eq!(pins.oldest_segment(), Some(3));
        pins.apply(3, &busy, 200);
        assert_eq!(pins.tenant_before(3), None, "a cut would release nothing");
    }

    /// The age counted from the first commit of this run, whatever earlier runs had left in their logs; and it never fell.
    #[test]
    fn the_age_is_that_of_the_oldest_record_that_no_block_has() {
        let (a, b) = (tenant("a"), tenant("b"));
        let mut pins = Pins::default();
        pins.hold(1);
        pins.apply(1, &a, 9_000);
        pins.put_back(&b, 1_000);
        assert_eq!(pins.oldest_receive_ms(), Some(1_000));
        assert_eq!((pins.tenant_put_back(), pins.has_put_back()), (Some(&b), true));
        pins.freeze(&b, FrozenId(1));
        assert_eq!(pins.oldest_receive_ms(), Some(1_000));
        assert_eq!((pins.tenant_put_back(), pins.has_put_back()), (None, true));
        pins.publish(FrozenId(1));
        assert!(!pins.has_put_back());
        assert_eq!((pins.oldest_receive_ms(), pins.oldest_segment()), (Some(9_000), Some(1)));
        pins.freeze(&a, FrozenId(2));
        pins.publish(FrozenId(2));
        assert_eq!((pins.oldest_receive_ms(), pins.oldest_segment()), (None, None));
    }
}
