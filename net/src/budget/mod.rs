//! One memory limit for the process, shared out to the shards in leases that follow need, and corrected by real memory.
//!
//! ```text
//! push, read ─admit─► lease of the shard ─slices─► pool of the node ◄─unaccounted─ real memory (`rss`)
//! ```
//! A shard grants within its lease without asking anyone. It takes more from the pool in slices, and gives back what it has not
//! needed for two of them. Memory is accounted by what holds it ([`Kind`]), capacities included; what nobody accounts is found
//! by looking at the process and leaves less to lease.
//!
//! Pushes are admitted up to `PUSHES_PERCENT_MAX` of the limit and reads up to all of it: what was pushed stays, so a node that
//! pushes have filled to the brim could never be read again. A recovery fills less than pushes may and more than
//! the cutter leaves, so heads are cut while it goes on, however long the logs are. Memory that is taken without being asked for (heads grow by what
//! a profile turns out to hold) may overdraw a lease; then nothing is admitted until it fits again.

mod pool;
mod rss;

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;

use engine::byte_size;
use engine::route::ShardId;
use proto::rpc::{Code, Failure, MetricSample};

use self::pool::Pool;

pub use self::rss::RssWatch;

/// Percent of the limit that pushes may fill. What they fill is held until a head is cut; reads hold theirs for a moment, and
/// a tenth is room for the parts of many.
const PUSHES_PERCENT_MAX: u64 = 90;

/// Percent of the limit that a recovery may fill: above where the cutter begins to make room, below what pushes may, which are
/// taken meanwhile.
const RECOVERY_PERCENT_MAX: u64 = 80;

/// [`Failure::reason`] of what memory has no room for.
pub const MEMORY_LIMIT: &str = "memory_limit";

/// The node's pool; clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    pool: Arc<Pool>,
}

impl Budget {
    /// A budget of `limit_bytes` for `shards_count` shards.
    pub fn new(limit_bytes: u64, shards_count: u16) -> Self {
        Self { pool: Arc::new(Pool::new(limit_bytes, shards_count)) }
    }

    /// The part of shard `own`; called once a shard.
    pub fn of_shard(&self, own: ShardId) -> ShardBudget {
        let state = State {
            budget: self.clone(),
            own,
            used: Default::default(),
            used_bytes: Cell::new(0),
            lease_bytes: Cell::new(0),
            overdrawn_bytes: Cell::new(0),
            is_cutting: Cell::new(false),
            refused: Default::default(),
            cache: OnceCell::new(),
        };
        ShardBudget { state: Rc::new(state), user: User::Reads }
    }

    /// `-memory.limit`.
    pub fn limit_bytes(&self) -> u64 {
        self.pool.limit_bytes()
    }

    /// Shards that share it.
    pub fn shards_count(&self) -> u16 {
        self.pool.shards_count()
    }

    /// Bytes accounted by all shards.
    pub fn accounted_bytes(&self) -> u64 {
        self.pool.accounted_bytes()
    }

    /// Sum of the shards' leases; never above the limit.
    pub fn leased_bytes(&self) -> u64 {
        self.pool.leased_bytes()
    }

    /// Real memory at the last look; 0 where nobody looks.
    pub fn rss_bytes(&self) -> u64 {
        self.pool.rss_bytes()
    }

    /// Real memory that nobody accounts.
    pub fn unaccounted_bytes(&self) -> u64 {
        self.pool.unaccounted_bytes()
    }

    /// Whether heads of any shard are being cut, or wait for the next try: memory will come back.
    pub fn is_cutting(&self) -> bool {
        self.pool.is_cutting()
    }

    /// Takes a look at the process's memory in.
    fn note_rss(&self, looks: &mut rss::Looks, rss_bytes: u64) {
        let unaccounted_bytes = looks.look(rss_bytes, self.pool.accounted_bytes());
        self.pool.set_real(rss_bytes, unaccounted_bytes);
    }
}

/// What holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Symbol tables of blocks, kept for later reads: given up before anything is refused.
    Cache,
    /// Blocks being encoded and written.
    Cuts,
    /// The newest data of all partitions.
    Heads,
    /// Bodies, messages between shards, uploads being converted, replies not sent yet.
    InFlight,
    /// Records not synced yet, and pieces of segments.
    Log,
    /// Dense sums and merged parts of reads.
    Queries,
    /// Room kept for what a profile or a recovery may still come to.
    Reserve,
    /// The ingester's scratch.
    Scratch,
    /// Small things that stay: numbers of partitions, rates of tenants.
    Tables,
}

impl Kind {
    /// All kinds, by name.
    pub const ALL: [Self; 9] = [
        Self::Cache,
        Self::Cuts,
        Self::Heads,
        Self::InFlight,
        Self::Log,
        Self::Queries,
        Self::Reserve,
        Self::Scratch,
        Self::Tables,
    ];

    /// Value of the label `what` in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Cuts => "cuts",
            Self::Heads => "heads",
            Self::InFlight => "in_flight",
            Self::Log => "log",
            Self::Queries => "queries",
            Self::Reserve => "reserve",
            Self::Scratch => "scratch",
            Self::Tables => "tables",
        }
    }
}

/// What a shard keeps for speed alone.
pub trait Cache: std::fmt::Debug {
    /// Heap bytes kept.
    fn bytes_held(&self) -> usize;
    /// Gives all of them up.
    fn clear(&self);
}

/// Who asks for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Pushes,
    Reads,
    Recovery,
}

impl User {
    const ALL: [Self; 3] = [Self::Pushes, Self::Reads, Self::Recovery];

    fn as_str(self) -> &'static str {
        match self {
            Self::Pushes => "pushes",
            Self::Reads => "reads",
            Self::Recovery => "recovery",
        }
    }

    fn percent_max(self) -> u64 {
        match self {
            Self::Pushes => PUSHES_PERCENT_MAX,
            Self::Recovery => RECOVERY_PERCENT_MAX,
            Self::Reads => 100,
        }
    }
}

/// One shard's part of the budget; clones share it.
#[derive(Clone, Debug)]
pub struct ShardBudget {
    state: Rc<State>,
    user: User,
}

#[derive(Debug)]
struct State {
    budget: Budget,
    own: ShardId,
    /// Bytes by [`Kind`].
    used: [Cell<u64>; Kind::ALL.len()],
    /// Their sum.
    used_bytes: Cell<u64>,
    /// What the pool has granted.
    lease_bytes: Cell<u64>,
    /// What is used beyond it, as the pool knows it.
    overdrawn_bytes: Cell<u64>,
    is_cutting: Cell<bool>,
    /// Refusals by [`User`].
    refused: [Cell<u64>; User::ALL.len()],
    /// What is kept for speed alone.
    cache: OnceCell<Box<dyn Cache>>,
}

impl ShardBudget {
    /// The same part as pushes see it: they are admitted up to `PUSHES_PERCENT_MAX` of the limit.
    #[must_use]
    pub fn for_pushes(&self) -> Self {
        Self { state: Rc::clone(&self.state), user: User::Pushes }
    }

    /// The same part as a recovery sees it.
    #[must_use]
    pub fn for_recovery(&self) -> Self {
        Self { state: Rc::clone(&self.state), user: User::Recovery }
    }

    /// Tells whether this shard's cutter is at work, or will try again.
    pub fn set_cutting(&self, is_at_work: bool) {
        if self.state.is_cutting.replace(is_at_work) != is_at_work {
            self.state.budget.pool.set_cutting(is_at_work);
        }
    }

    /// Accounts a cache from now on, and has it emptied before anything is refused. Called once a shard; [`Self::note_cache`]
    /// follows every use of it.
    pub fn keep_cache(&self, cache: impl Cache + 'static) {
        let before = self.state.cache.set(Box::new(cache));
        assert!(before.is_ok(), "a shard has one cache");
    }

    /// Tells that the cache may hold more or less.
    pub fn note_cache(&self) {
        let bytes = self.state.cache.get().map_or(0, |cache| cache.bytes_held());
        self.set(Kind::Cache, bytes as u64);
    }

    /// Refuses `more` bytes where there is no room for them now beside what is held; keeps none.
    pub fn admit(&self, more_bytes: u64) -> Result<(), Failure> {
        self.ask(more_bytes)?;
        self.state.trim();
        Ok(())
    }

    /// Accounts bytes of a kind for as long as the guard lives, if there is room for them.
    pub fn admit_and_hold(&self, kind: Kind, bytes: u64) -> Result<Held, Failure> {
        self.ask(bytes)?;
        Ok(self.hold_as(kind, bytes))
    }

    fn ask(&self, more_bytes: u64) -> Result<(), Failure> {
        if self.state.lease(more_bytes, self.user) {
            return Ok(());
        }
        let refused = &self.state.refused[self.user as usize];
        refused.set(refused.get() + 1);
        Err(self.refusal(more_bytes))
    }

    /// Whether there is room for `more` bytes now; counts as no refusal.
    pub fn has_room(&self, more_bytes: u64) -> bool {
        let has_room = self.state.lease(more_bytes, self.user);
        self.state.trim();
        has_room
    }

    fn refusal(&self, more_bytes: u64) -> Failure {
        let pool = &self.state.budget.pool;
        let part = match self.user.percent_max() {
            100 => String::new(),
            percent => format!("{percent}% of the "),
        };
        Failure::new(
            Code::ResourceExhausted,
            MEMORY_LIMIT,
            format!(
                "{part}memory limit of {} reached ({} in use, {} more asked for); retry later, or raise -memory.limit",
                byte_size::iec(pool.limit_bytes()),
                byte_size::iec(pool.accounted_bytes() + pool.unaccounted_bytes()),
                byte_size::iec(more_bytes),
            ),
        )
    }

    /// Accounts bytes in flight for as long as the guard lives (a body, a message on its way).
    #[must_use]
    pub fn hold(&self, bytes: u64) -> Held {
        self.hold_as(Kind::InFlight, bytes)
    }

    /// Accounts bytes of a kind for as long as the guard lives.
    #[must_use]
    pub fn hold_as(&self, kind: Kind, bytes: u64) -> Held {
        self.state.change(kind, |used| used + bytes);
        Held { budget: self.clone(), kind, bytes }
    }

    /// Tells what all things of a kind hold now; of a kind that is told so nothing is held by a guard.
    pub fn set(&self, kind: Kind, bytes: u64) {
        self.state.change(kind, |_| bytes);
    }

    /// What this shard accounts of a kind.
    pub fn used_bytes(&self, kind: Kind) -> u64 {
        self.state.used[kind as usize].get()
    }

    /// The process's budget.
    pub fn budget(&self) -> &Budget {
        &self.state.budget
    }

    /// The shard's samples of `/metrics`.
    pub fn samples(&self) -> Vec<MetricSample> {
        let state = &self.state;
        let sample = |name, label: Option<&str>, value: u64| {
            let shard = ("shard", state.own.0.to_string());
            let label = label.map(|what| ("what", what.to_owned()));
            let labels = [Some(shard), label].into_iter().flatten().collect();
            MetricSample { name, labels, value: value as f64 }
        };
        let kinds = Kind::ALL.map(|kind| {
            sample("pyrite_accounted_bytes", Some(kind.as_str()), self.used_bytes(kind))
        });
        let mut samples = Vec::from(kinds);
        samples.extend([
            sample("pyrite_memory_leased_bytes", None, state.lease_bytes.get()),
            sample("pyrite_memory_overdrawn_bytes", None, state.overdrawn_bytes.get()),
        ]);
        samples.extend(User::ALL.map(|user| {
            let refused = state.refused[user as usize].get();
            sample("pyrite_memory_refused_total", Some(user.as_str()), refused)
        }));
        samples
    }
}

impl State {
    /// Whether the lease covers `more` bytes, or could be made to, within what the user may have of the limit; if need be without
    /// the cache.
    fn lease(&self, more_bytes: u64, user: User) -> bool {
        self.lease_beside_cache(more_bytes, user)
            || (self.give_cache_up() && self.lease_beside_cache(more_bytes, user))
    }

    fn give_cache_up(&self) -> bool {
        let Some(cache) = self.cache.get().filter(|cache| cache.bytes_held() > 0) else {
            return false;
        };
        cache.clear();
        self.change(Kind::Cache, |_| 0);
        true
    }

    fn lease_beside_cache(&self, more_bytes: u64, user: User) -> bool {
        self.cover();
        let pool = &self.budget.pool;
        let Some(cap) = pool.cap_bytes(user.percent_max()) else { return false };
        let Some(needed) = self.used_bytes.get().checked_add(more_bytes) else { return false };
        let lease = self.lease_bytes.get();
        if needed <= lease {
            if pool.leased_bytes() <= cap {
                return true;
            }
            // Only what is not needed can make room.
            self.give_back(lease - needed);
            return pool.leased_bytes() <= cap;
        }
        let needed = needed - lease;
        let taken = pool.take(needed, needed.max(pool.slice_bytes()), cap);
        self.lease_bytes.set(lease + taken);
        taken > 0
    }

    fn change(&self, kind: Kind, to: impl FnOnce(u64) -> u64) {
        let used = &self.used[kind as usize];
        let (before, now) = (used.get(), to(used.get()));
        used.set(now);
        let used_bytes = self.used_bytes.get() - before + now;
        self.used_bytes.set(used_bytes);
        self.budget.pool.set_accounted(self.own.0 as usize, used_bytes);
        self.cover();
        self.trim();
    }

    /// Gives back what is not used, a slice less, where that is more than two.
    fn trim(&self) {
        let slice_bytes = self.budget.pool.slice_bytes();
        let spare = self.lease_bytes.get().saturating_sub(self.used_bytes.get());
        if spare > 2 * slice_bytes {
            self.give_back(spare - slice_bytes);
        }
    }

    /// Leases what is used as far as there is any, and overdraws the rest.
    fn cover(&self) {
        let (used, lease) = (self.used_bytes.get(), self.lease_bytes.get());
        let before = self.overdrawn_bytes.get();
        if used <= lease && before == 0 {
            return;
        }
        let pool = &self.budget.pool;
        let lease = lease + pool.take_what_is_left(used.saturating_sub(lease));
        self.lease_bytes.set(lease);
        let now = used.saturating_sub(lease);
        self.overdrawn_bytes.set(now);
        pool.overdraw(before, now);
    }

    fn give_back(&self, bytes: u64) {
        self.lease_bytes.set(self.lease_bytes.get() - bytes);
        self.budget.pool.give_back(bytes);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.budget.pool.give_back(self.lease_bytes.get());
        self.budget.pool.overdraw(self.overdrawn_bytes.get(), 0);
        self.budget.pool.set_accounted(self.own.0 as usize, 0);
        if self.is_cutting.get() {
            self.budget.pool.set_cutting(false);
        }
    }
}

/// Bytes accounted while it lives.
#[derive(Debug)]
pub struct Held {
    budget: ShardBudget,
    kind: Kind,
    bytes: u64,
}

impl Held {
    /// Accounts `bytes` in place of what was; more only where whoever holds them is admitted it.
    pub fn admit_to(&mut self, bytes: u64) -> Result<(), Failure> {
        if bytes > self.bytes {
            self.budget.ask(bytes - self.bytes)?;
        }
        self.set(bytes);
        Ok(())
    }

    /// Accounts `bytes` in place of what was, without asking: they are taken already.
    pub fn set(&mut self, bytes: u64) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.budget.state.change(self.kind, |used| used - before + bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.state.change(self.kind, |used| {
            used.checked_sub(self.bytes).expect("held bytes are given back once")
        });
    }
}

#[cfg(test)]
mod tests;
