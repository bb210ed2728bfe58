//! Places for series: how many a tenant may have in the heads of a node. A place is used until its series is gone.
//!
//! Law: the places that holders have add up to no more than the limit, unless series are there without having been asked for
//! (replayed, made while there was no limit, or the limit was lowered): those are counted and nothing new is granted beside them.
//!
//! A holder may tell of its places at any time but while its ask is under way, and what it tells must reach the home shard
//! in the order in which it was told: the last word is what counts.

use crate::head::SeriesCount;
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

    /// Notes what a holder has.
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

/// One tenant's places at a shard that has heads of it, which appends one profile at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlacesLease {
    places: u64,
    /// Series of a profile that has its places and is not in a head yet.
    pending: SeriesCount,
    /// Whether an ask is under way: its answer may be on its way already.
    is_asking: bool,
}

impl PlacesLease {
    /// Takes places for the series of a profile, if they are held, beside the `used` ones; they are pending until
    /// [`PlacesLease::settled`]. Series that are there already need none that could be refused.
    pub fn take(&mut self, used: u64, series: SeriesCount) -> bool {
        assert!(self.pending == SeriesCount::default(), "a shard appends one profile at a time");
        let enough = series.new == 0 || series.needs(used) <= self.places;
        if enough {
            self.pending = series;
        }
        enough
    }

    /// An ask is sent; the home shard is told that just the `used` places are held.
    pub fn ask(&mut self, used: u64) {
        assert!(!self.is_asking, "a shard asks for one profile at a time");
        self.is_asking = true;
        self.places = used;
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
    pub fn settled(&mut self) {
        self.pending = SeriesCount::default();
    }

    /// Gives up places that are not used; what is kept, which the home shard is to be told, or `None` where there are none.
    pub fn give_up(&mut self, used: u64) -> Option<u64> {
        let needed = self.pending.needs(used);
        let gives = !self.is_asking && needed < self.places;
        gives.then(|| {
            self.places = needed;
            needed
        })
    }

    /// Takes note of series that came without having been asked for; what the home shard is to be told, if it is news.
    pub fn note(&mut self, used: u64) -> Option<u64> {
        let is_news = !self.is_asking && used > self.places;
        is_news.then(|| {
            self.places = used;
            used
        })
    }

    /// Whether it has places, or might get some.
    pub fn is_idle(&self) -> bool {
        self.places == 0 && !self.is_asking && self.pending == SeriesCount::default()
    }

    /// Places that this shard has.
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
        Hold(u64),
        Answer(Option<u64>),
        Recall,
    }

    #[derive(Default)]
    struct Holder {
        lease: PlacesLease,
        used: u64,
        /// The profile at hand, and whether an ask for it is under way.
        at_hand: Option<(SeriesCount, bool)>,
        to_home: VecDeque<Message>,
        from_home: VecDeque<Message>,
    }

    impl Holder {
        /// A profile of which all but `new` series are in the heads.
        fn begin(&mut self, new: u64, known: u64) {
            let series = SeriesCount { new, all: new + known.min(self.used) };
            let is_asking = !self.lease.take(self.used, series);
            if is_asking {
                let new = series.needs(self.used) - self.used;
                self.lease.ask(self.used);
                self.to_home.push_back(Message::Ask { used: self.used, new });
            }
            self.at_hand = Some((series, is_asking));
        }

        fn answered(&mut self, places: Option<u64>) {
            self.lease.answered(places);
            let (series, _) = self.at_hand.take().unwrap();
            if places.is_some() {
                assert!(self.lease.take(self.used, series), "what was granted is enough");
                self.at_hand = Some((series, false));
            }
        }

        fn append(&mut self) {
            if let Some((series, false)) = self.at_hand {
                // After a cut all of them are made in the fresh head.
                self.used = series.needs(self.used);
                self.lease.settled();
                self.at_hand = None;
            }
        }

        fn tell(&mut self, kept: Option<u64>) {
            self.to_home.extend(kept.map(Message::Hold));
        }
    }

    #[derive(Default)]
    struct Node {
        home: PlacesHome,
        holders: [Holder; SHARDS],
    }

    impl Node {
        fn step(&mut self, (kind, shard, amount): (u8, u8, u8)) {
            let at = usize::from(shard) % SHARDS;
            let from = ShardId(at as u16);
            let holder = &mut self.holders[at];
            match kind % 6 {
                0 if holder.at_hand.is_none() => {
                    holder.begin(u64::from(amount) % 20, u64::from(amount) / 20);
                }
                1 => match holder.to_home.pop_front() {
                    Some(Message::Ask { used, new }) => {
                        let answer = match self.home.take(from, used, new, LIMIT) {
                            PlacesAnswer::Granted(places) => Some(places),
                            PlacesAnswer::Recall => {
                                for other in self.home.holders().filter(|other| *other != from) {
                                    let queue = &mut self.holders[usize::from(other.0)].from_home;
                                    queue.push_back(Message::Recall);
                                }
                                None
                            }
                            PlacesAnswer::Limited(_) => None,
                        };
                        self.holders[at].from_home.push_back(Message::Answer(answer));
                    }
                    Some(Message::Hold(places)) => self.home.set(from, places),
                    _ => {}
                },
                2 => match holder.from_home.pop_front() {
                    Some(Message::Answer(places)) => holder.answered(places),
                    Some(Message::Recall) => {
                        let kept = holder.lease.give_up(holder.used);
                        holder.tell(kept);
                    }
                    _ => {}
                },
                3 => holder.append(),
                // The heads are cut.
                4 => holder.used = 0,
                _ => {
                    let kept = holder.lease.give_up(holder.used);
                    holder.tell(kept);
                }
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
        assert!(lease.take(150, SeriesCount { new: 0, all: 9 }), "what is there may go on");
        assert_eq!(home.take(ShardId(0), 99, 1, LIMIT), PlacesAnswer::Granted(100));
    }

    /// The series of the profile at hand were in the heads when it came, and are new in the fresh ones.
    #[test]
    fn a_cut_amid_an_append_leaves_the_profile_its_places() {
        let mut lease = PlacesLease::default();
        lease.ask(0);
        lease.answered(Some(50));
        assert!(lease.take(40, SeriesCount { new: 2, all: 12 }));
        assert_eq!(lease.give_up(0), Some(12), "all of them are made anew");
        lease.settled();
        assert_eq!(lease.give_up(12), None);
    }
}
