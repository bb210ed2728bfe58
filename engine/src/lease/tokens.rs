//! Tokens of a rate: bytes that a tenant may push. Lent tokens are spent for good; the bucket refills with time.
//!
//! Law: over any time the node grants at most burst + rate × time, whatever the number of shards. The bucket holds at most the
//! burst less what is lent, so that bucket and slices together never exceed the burst.

use proto::rpc::limits::TokenReport;

use crate::route::ShardId;
use crate::token_bucket::{Rate, TokenBucket};

/// Part of the burst that one holder may have: large enough that a busy shard asks once for several pushes, small enough that a
/// few holders leave the home shard room to serve whoever comes.
const SLICE_PARTS: f64 = 8.0;

/// Part of the burst that the home shard keeps: below it nothing is lent, and every push asks.
const KEPT_PARTS: f64 = 2.0;

/// Tokens lent for one that a holder used since its last report: doubling finds a steady need in a few asks.
const SLICE_GROWTH: u64 = 2;

/// One tenant's tokens at its home shard.
#[derive(Clone, Debug)]
pub struct TokenHome {
    bucket: TokenBucket,
    /// What each holder may still have; at least what it has.
    lent: Vec<(ShardId, u64)>,
}

/// What the home shard says to a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// The tokens are taken; beside them so many are lent.
    Granted {
        /// For the holder's [`TokenLease::grant`].
        lease: u64,
    },
    /// With what [`TokenHome::holders`] have it might be enough: recall that, report it, and ask again.
    Recall,
    /// They are not there.
    Limited {
        /// When they will be, ns from now, if nobody takes any; `None`: more than the burst, so never.
        wait_ns: Option<u64>,
    },
}

impl TokenHome {
    /// A full bucket, nothing lent.
    pub fn full(rate: Rate, now_ns: u64) -> Self {
        Self { bucket: TokenBucket::full(rate, now_ns), lent: Vec::new() }
    }

    /// Takes tokens for a push of shard `from`, and lends it some more if it `takes_lease` and there is plenty.
    pub fn take(
        &mut self,
        (from, report): (ShardId, TokenReport),
        bytes: u64,
        takes_lease: bool,
        rate: Rate,
        now_ns: u64,
    ) -> TokenAnswer {
        self.report(from, report, rate, now_ns);
        let room = self.room(rate);
        if !self.bucket.take(bytes, room, now_ns) {
            let level = self.bucket.level(room, now_ns);
            if level + self.lent_total() as f64 >= bytes as f64 {
                return TokenAnswer::Recall;
            }
            // The whole burst: what is lent comes back.
            return TokenAnswer::Limited { wait_ns: self.bucket.wait_ns(bytes, rate, now_ns) };
        }
        let lease = if takes_lease {
            self.slice(report.spent.saturating_add(bytes), rate, now_ns)
        } else {
            0
        };
        if lease > 0 {
            let taken = self.bucket.take(lease, room, now_ns);
            assert!(taken, "a slice is less than what the home shard keeps");
            match self.lent.iter_mut().find(|(holder, _)| *holder == from) {
                Some((_, lent)) => *lent += lease,
                None => self.lent.push((from, lease)),
            }
        }
        TokenAnswer::Granted { lease }
    }

    /// Takes tokens whether they are there or not.
    pub fn settle(&mut self, bytes: u64, rate: Rate, now_ns: u64) {
        self.bucket.settle(bytes, self.room(rate), now_ns);
    }

    /// Notes what became of tokens that a holder had.
    pub fn report(&mut self, from: ShardId, report: TokenReport, rate: Rate, now_ns: u64) {
        // Time that has passed is credited under what was lent during it.
        self.bucket.level(self.room(rate), now_ns);
        let TokenReport { spent, returned } = report;
        if spent + returned == 0 {
            return;
        }
        let position = self.lent.iter().position(|(holder, _)| *holder == from);
        let position = position.expect("a holder reports what it was lent");
        let lent = &mut self.lent[position].1;
        *lent = lent.checked_sub(spent + returned).expect("a holder reports each token once");
        if *lent == 0 {
            self.lent.swap_remove(position);
        }
        self.bucket.put_back(returned, self.room(rate), now_ns);
    }

    /// Who may still have tokens.
    pub fn holders(&self) -> impl Iterator<Item = ShardId> {
        self.lent.iter().map(|(holder, _)| *holder)
    }

    /// What holders may still have.
    pub fn lent_total(&self) -> u64 {
        self.lent.iter().map(|(_, lent)| lent).sum()
    }

    /// Whether nothing would be lost by forgetting it.
    pub fn is_full(&mut self, rate: Rate, now_ns: u64) -> bool {
        self.lent.is_empty() && self.bucket.is_full(rate, now_ns)
    }

    /// The rate with what is lent left out of its burst.
    fn room(&self, rate: Rate) -> Rate {
        Rate { burst: (rate.burst - self.lent_total() as f64).max(0.0), ..rate }
    }

    fn slice(&mut self, used: u64, rate: Rate, now_ns: u64) -> u64 {
        let spare = self.bucket.level(self.room(rate), now_ns) - rate.burst / KEPT_PARTS;
        let most = (rate.burst / SLICE_PARTS).min(spare).max(0.0) as u64;
        used.saturating_mul(SLICE_GROWTH).min(most)
    }
}

/// One tenant's tokens at a shard that holds some.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenLease {
    tokens: u64,
    spent: u64,
}

impl TokenLease {
    /// Takes tokens if so many are held.
    pub fn take(&mut self, bytes: u64) -> bool {
        let enough = self.tokens >= bytes;
        if enough {
            self.tokens -= bytes;
            self.spent += bytes;
        }
        enough
    }

    /// Adds what the home shard lent.
    pub fn grant(&mut self, tokens: u64) {
        self.tokens += tokens;
    }

    /// Gives everything back: what the home shard is to be told. A report that was not sent is to be [`TokenLease::undone`].
    pub fn report(&mut self) -> TokenReport {
        let Self { tokens, spent } = std::mem::take(self);
        TokenReport { spent, returned: tokens }
    }

    /// Takes a report back.
    pub fn undone(&mut self, report: TokenReport) {
        self.spent += report.spent;
        self.tokens += report.returned;
    }

    /// Whether the home shard believes it to hold nothing.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0 && self.spent == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const RATE: Rate = Rate { per_second: 1000.0, burst: 800.0 };
    const SHARDS: usize = 3;
    const NOTHING: TokenReport = TokenReport { spent: 0, returned: 0 };

    /// A node of several shards whose messages to the home shard, and answers, wait in queues for as long as the test likes.
    struct Node {
        home: TokenHome,
        holders: [TokenLease; SHARDS],
        /// Asks (bytes and report) and recalls' reports on their way to the home shard, in order, as the mesh keeps it.
        to_home: [VecDeque<(TokenReport, Option<u64>)>; SHARDS],
        /// Slices on their way back.
        to_holder: [VecDeque<u64>; SHARDS],
        now_ns: u64,
        granted: u64,
        settled: u64,
    }

    impl Node {
        fn new() -> Self {
            Self {
                home: TokenHome::full(RATE, 0),
                holders: [TokenLease::default(); SHARDS],
                to_home: Default::default(),
                to_holder: Default::default(),
                now_ns: 0,
                granted: 0,
                settled: 0,
            }
        }

        fn step(&mut self, (kind, shard, amount): (u8, u8, u16)) {
            let shard = usize::from(shard) % SHARDS;
            match kind % 6 {
                // A push: from the slice, or asked for.
                0 | 1 => {
                    let bytes = u64::from(amount) % 300;
                    if self.holders[shard].take(bytes) {
                        self.granted += bytes;
                    } else {
                        let report = self.holders[shard].report();
                        self.to_home[shard].push_back((report, Some(bytes)));
                    }
                }
                2 => {
                    let Some((report, bytes)) = self.to_home[shard].pop_front() else { return };
                    let from = ShardId(shard as u16);
                    let Some(bytes) = bytes else {
                        return self.home.report(from, report, RATE, self.now_ns);
                    };
                    match self.home.take((from, report), bytes, true, RATE, self.now_ns) {
                        TokenAnswer::Granted { lease } => {
                            self.granted += bytes;
                            self.to_holder[shard].push_back(lease);
                        }
                        TokenAnswer::Recall => {
                            for holder in self.home.holders() {
                                let report = self.holders[usize::from(holder.0)].report();
                                self.to_home[usize::from(holder.0)].push_back((report, None));
                            }
                        }
                        TokenAnswer::Limited { .. } => {}
                    }
                }
                3 => {
                    if let Some(lease) = self.to_holder[shard].pop_front() {
                        self.holders[shard].grant(lease);
                    }
                }
                4 => self.now_ns += u64::from(amount) * 20_000,
                _ => {
                    let bytes = u64::from(amount) % 50;
                    self.home.settle(bytes, RATE, self.now_ns);
                    self.settled += bytes;
                }
            }
        }

        /// The most that may have been granted since the start.
        fn most(&self) -> f64 {
            RATE.burst + RATE.per_second * self.now_ns as f64 / 1e9
        }
    }

    #[test]
    fn a_node_never_grants_more_than_burst_and_rate_whatever_its_messages_do() {
        bolero::check!().with_type::<Vec<(u8, u8, u16)>>().for_each(|steps| {
            let mut node = Node::new();
            let mut windows: Vec<(u64, u64)> = vec![(0, 0)];
            for step in steps {
                node.step(*step);
                // Over any window, not only from the start.
                windows.push((node.now_ns, node.granted));
                for (since_ns, granted_before) in &windows {
                    let seconds = (node.now_ns - since_ns) as f64 / 1e9;
                    let most = RATE.burst + RATE.per_second * seconds + 0.001;
                    let granted = (node.granted - granted_before) as f64;
                    assert!(granted <= most, "{granted} granted of {most} in {seconds} s");
                }
                let held: u64 = node.holders.iter().map(|holder| holder.tokens).sum();
                assert!(held <= node.home.lent_total(), "the home shard knows what is held");
            }
            assert!((node.granted + node.settled) as f64 <= node.most() + node.settled as f64);
        });
    }

    #[test]
    fn most_pushes_of_a_steady_shard_need_no_message() {
        let rate = Rate { per_second: 1e6, burst: 1e6 };
        let mut home = TokenHome::full(rate, 0);
        let mut lease = TokenLease::default();
        let mut asks = 0;
        for push in 0..1000_u64 {
            if lease.take(500) {
                continue;
            }
            asks += 1;
            let report = lease.report();
            match home.take((ShardId(0), report), 500, true, rate, push * 1_000_000) {
                TokenAnswer::Granted { lease: slice } => lease.grant(slice),
                other => panic!("half of the rate is granted: {other:?}"),
            }
        }
        assert!(asks < 20, "{asks} of 1000 pushes asked");
    }

    #[test]
    fn what_an_idle_shard_holds_is_recalled_before_another_is_refused() {
        let mut home = TokenHome::full(RATE, 0);
        let (idle, busy) = (ShardId(0), ShardId(1));
        let mut held = TokenLease::default();
        match home.take((idle, NOTHING), 100, true, RATE, 0) {
            TokenAnswer::Granted { lease } => held.grant(lease),
            other => panic!("{other:?}"),
        }
        assert_eq!(home.lent_total(), 100, "an eighth of the burst");
        assert_eq!(home.take((busy, NOTHING), 650, true, RATE, 0), TokenAnswer::Recall);
        assert_eq!(home.holders().collect::<Vec<_>>(), [idle]);
        home.report(idle, held.report(), RATE, 0);
        let granted = home.take((busy, NOTHING), 650, true, RATE, 0);
        assert_eq!(granted, TokenAnswer::Granted { lease: 0 }, "near the limit nothing is lent");
        let limited = home.take((busy, NOTHING), 100, true, RATE, 0);
        assert_eq!(limited, TokenAnswer::Limited { wait_ns: Some(50_000_000) });
        let never = home.take((busy, NOTHING), 801, true, RATE, 0);
        assert_eq!(never, TokenAnswer::Limited { wait_ns: None });
    }

    /// A burst that was made smaller while slices of the larger one were out.
    #[test]
    fn a_smaller_burst_holds_although_more_was_lent() {
        let mut home = TokenHome::full(RATE, 0);
        assert_eq!(
            home.take((ShardId(0), NOTHING), 100, true, RATE, 0),
            TokenAnswer::Granted { lease: 100 }
        );
        let small = Rate { per_second: 10.0, burst: 50.0 };
        assert_eq!(home.take((ShardId(1), NOTHING), 10, true, small, 0), TokenAnswer::Recall);
        home.report(ShardId(0), TokenReport { spent: 0, returned: 100 }, small, 0);
        assert_eq!(
            home.take((ShardId(1), NOTHING), 51, true, small, 0),
            TokenAnswer::Limited { wait_ns: None }
        );
        assert_eq!(
            home.take((ShardId(1), NOTHING), 50, false, small, 0),
            TokenAnswer::Granted { lease: 0 }
        );
    }
}
