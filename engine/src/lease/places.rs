//! Places for series: how many a tenant may have in the heads of a node. A place is used until its series is gone.
//!
//! Law: the places that holders have add up to no more than the limit, unless series are there without having been asked for
//! (replayed, or the limit was lowered): those are counted and nothing new is granted beside them.

use crate::route::ShardId;

/// Part of what is left that one ask is given beside what it needs: shards that make series at the same time find room for
/// several asks each, and the last places are given one by one.
const SLICE_PARTS: u64 = 8;

/// Most places lent beside those needed: idle ones are recalled, which costs a message each time.
const SLICE_MAX: u64 = 1024;

/// One tenant's places at its home shard.
#[derive(Clone, Debug, Default)]
pub struct PlacesHome {
    /// What each holder has: at least what it believes to have.
    lent: Vec<(ShardId, u64)>,
}

/// What the home shard says to new series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacesAnswer {
    /// The holder has so many places now, used ones among them.
    Granted(u64),
    /// With what others have and do not use it might be enough: recall that, note it, and ask again.
    Recall,
    /// So many series are there.
    Limited(u64),
}

impl PlacesHome {
    /// Room for `new` series beside the `used` ones that shard `from` has.
    pub fn take(&mut self, from: ShardId, used: u64, new: u64, limit: u64) -> PlacesAnswer {
        self.set(from, used);
        let total = self.total();
        let left = limit.saturating_sub(total);
        if new > left {
            let others = self.lent.iter().any(|(holder, lent)| *holder != from && *lent > 0);
            return if others { PlacesAnswer::Recall } else { PlacesAnswer::Limited(total) };
        }
        let slice = ((left - new) / SLICE_PARTS).min(SLICE_MAX);
        let places = used + new + slice;
        self.set(from, places);
        PlacesAnswer::Granted(places)
    }

    /// Notes what a holder has, who answered a recall or tells of series that nobody asked for.
    pub fn set(&mut self, holder: ShardId, places: u64) {
        match self.lent.iter().position(|(other, _)| *other == holder) {
            Some(position) if places == 0 => {
                self.lent.swap_remove(position);
            }
            Some(position) => self.lent[position].1 = places,
            None if places == 0 => {}
            None => self.lent.push((holder, places)),
        }
    }

    /// Who has places.
    pub fn holders(&self) -> impl Iterator<Item = ShardId> {
        self.lent.iter().map(|(holder, _)| *holder)
    }

    /// Places that are lent.
    pub fn total(&self) -> u64 {
        self.lent.iter().map(|(_, lent)| lent).sum()
    }

    /// Whether nothing would be lost by forgetting it.
    pub fn is_empty(&self) -> bool {
        self.lent.is_empty()
    }
}

/// One tenant's places at a shard that has heads of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlacesLease {
    places: u64,
    /// Series that were granted a place and are not in a head yet.
    pending: u64,
    /// Whether an ask is under way: its answer may be on its way already.
    is_asking: bool,
}

impl PlacesLease {
    /// Takes places for `new` series beside the `used` ones, if they are held; they are pending until [`PlacesLease::settled`].
    pub fn take(&mut self, used: u64, new: u64) -> bool {
        let enough = used + self.pending + new <= self.places;
        if enough {
            self.pending += new;
        }
        enough
    }

    /// An ask is sent: what it is to say of used places.
    pub fn ask(&mut self, used: u64) -> u64 {
        assert!(!self.is_asking, "a shard asks for one profile at a time");
        self.is_asking = true;
        // The answer counts from what the ask tells.
        self.places = used + self.pending;
        self.places
    }

    /// The ask was answered: with all places it has now, or with none beside what it told.
    pub fn answered(&mut self, places: Option<u64>) {
        assert!(self.is_asking, "an ask has one answer");
        self.is_asking = false;
        if let Some(places) = places {
            self.places = places;
        }
    }

    /// The series that were pending are in a head, or will never be.
    pub fn settled(&mut self, new: u64) {
        self.pending = self.pending.checked_sub(new).expect("a pending series is settled once");
    }

    /// Gives up what is not used; what is kept, or `None` while an ask is under way.
    pub fn recall(&mut self, used: u64) -> Option<u64> {
        if self.is_asking {
            return None;
        }
        self.places = used + self.pending;
        Some(self.places)
    }

    /// Takes note of `used` series that came without having been asked for; what the home shard is to be told, if it is news.
    pub fn note(&mut self, used: u64) -> Option<u64> {
        if self.is_asking || used + self.pending <= self.places {
            return None;
        }
        self.places = used + self.pending;
        Some(self.places)
    }

    /// Whether it has places that nothing uses, and nothing is under way.
    pub fn is_idle(&self, used: u64) -> bool {
        !self.is_asking && self.pending == 0 && used == 0
    }

    /// Whether this shard has places.
    pub fn places(&self) -> u64 {
        self.places
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const LIMIT: u64 = 100;
    const SHARDS: usize = 3;

    /// What travels between a holder and the home shard; each way keeps its order, as the mesh does.
    enum Message {
        Ask { used: u64, new: u64 },
        Kept(Option<u64>),
        Answer(Option<u64>),
        Recall,
    }

    #[derive(Default)]
    struct Holder {
        lease: PlacesLease,
        used: u64,
        /// Series of the ask under way.
        asked: u64,
        to_home: VecDeque<Message>,
        from_home: VecDeque<Message>,
    }

    #[derive(Default)]
    struct Node {
        home: PlacesHome,
        holders: [Holder; SHARDS],
    }

    impl Node {
        fn step(&mut self, (kind, shard, amount): (u8, u8, u8)) {
            let at = usize::from(shard) % SHARDS;
            let holder = &mut self.holders[at];
            match kind % 4 {
                0 if holder.asked == 0 => {
                    let new = u64::from(amount) % 20;
                    if holder.lease.take(holder.used, new) {
                        holder.used += new;
                        holder.lease.settled(new);
                    } else {
                        let used = holder.lease.ask(holder.used);
                        holder.asked = new;
                        holder.to_home.push_back(Message::Ask { used, new });
                    }
                }
                1 => match holder.to_home.pop_front() {
                    Some(Message::Ask { used, new }) => {
                        let answer = match self.home.take(ShardId(at as u16), used, new, LIMIT) {
                            PlacesAnswer::Granted(places) => Some(places),
                            PlacesAnswer::Recall => {
                                let holders: Vec<_> = self.home.holders().collect();
                                for other in holders.iter().filter(|other| other.0 != at as u16) {
                                    let queue = &mut self.holders[usize::from(other.0)].from_home;
                                    queue.push_back(Message::Recall);
                                }
                                None
                            }
                            PlacesAnswer::Limited(_) => None,
                        };
                        self.holders[at].from_home.push_back(Message::Answer(answer));
                    }
                    Some(Message::Kept(Some(kept))) => self.home.set(ShardId(at as u16), kept),
                    _ => {}
                },
                2 => match holder.from_home.pop_front() {
                    Some(Message::Answer(places)) => {
                        holder.lease.answered(places);
                        let new = std::mem::take(&mut holder.asked);
                        if places.is_some() && holder.lease.take(holder.used, new) {
                            holder.used += new;
                            holder.lease.settled(new);
                        }
                    }
                    Some(Message::Recall) => {
                        let kept = holder.lease.recall(holder.used);
                        holder.to_home.push_back(Message::Kept(kept));
                    }
                    _ => {}
                },
                // A head is cut; its series are gone.
                _ => holder.used -= u64::from(amount) % (holder.used + 1),
            }
        }
    }

    #[test]
    fn a_node_never_has_more_series_than_the_limit_whatever_its_messages_do() {
        bolero::check!().with_type::<Vec<(u8, u8, u8)>>().for_each(|steps| {
            let mut node = Node::default();
            for step in steps {
                node.step(*step);
                let used: u64 = node.holders.iter().map(|holder| holder.used).sum();
                let places: u64 = node.holders.iter().map(|holder| holder.lease.places()).sum();
                assert!(used <= LIMIT, "{used} series");
                assert!(places <= LIMIT, "{places} places");
                assert!(node.home.total() <= LIMIT, "{} lent", node.home.total());
            }
        });
    }

    #[test]
    fn what_others_do_not_use_is_recalled_before_a_series_is_refused() {
        let mut home = PlacesHome::default();
        assert_eq!(home.take(ShardId(0), 0, 4, LIMIT), PlacesAnswer::Granted(16));
        assert_eq!(home.take(ShardId(1), 0, 85, LIMIT), PlacesAnswer::Recall);
        home.set(ShardId(0), 4);
        assert_eq!(home.take(ShardId(1), 0, 85, LIMIT), PlacesAnswer::Granted(86));
        assert_eq!(home.take(ShardId(1), 86, 11, LIMIT), PlacesAnswer::Recall);
        assert_eq!(home.take(ShardId(0), 0, 1, LIMIT), PlacesAnswer::Granted(2), "a head was cut");
    }

    #[test]
    fn replayed_series_are_counted_and_nothing_is_granted_beside_them() {
        let mut home = PlacesHome::default();
        let mut lease = PlacesLease::default();
        assert_eq!(lease.note(150), Some(150), "the home shard is told");
        assert_eq!(lease.note(150), None, "once");
        home.set(ShardId(0), 150);
        assert_eq!(home.take(ShardId(0), 150, 1, LIMIT), PlacesAnswer::Limited(150));
        assert_eq!(home.take(ShardId(0), 99, 1, LIMIT), PlacesAnswer::Granted(100));
    }
}
