//! Places for series: each tenant may have so many series in the heads of the node; its home shard owns the number and lends
//! places to the shards that have heads of it.
//!
//! ```text
//! take ─► places held? ──yes──► pending until the profile is in its head
//!            └─no─► home shard: grant, with some more ─► recall what others hold and do not use, if that could be enough
//! ```
//! What holds
//! - The laws of [`engine::lease`]: the series of all shards are no more than the limit, but for those that nobody was asked for
//!   (replayed, or made while there was no limit). The home shard is told of these within a second or so, and nothing is granted beside them.
//! - A profile whose series are all there is never refused, and needs no message.
//! - What a holder keeps is told by a message that comes before the answer to a recall, and so in the order in which it was so.
//! - Places of series that a cut took from the heads go back within a sweep or two, and at once when they are recalled.
//!
//! A tenant takes memory here only while it has a head, or was refused within the last second or two.
//!
//! Not here: what a profile's series are (`engine::head`). The tests are those of pushes (`component::distributor`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use engine::head::{Heads, SeriesCount};
use engine::lease::{PlacesAnswer, PlacesHome, PlacesLease};
use engine::route::{ShardId, home_shard_of};
use engine::tenant::TenantId;
use proto::rpc::limits::{PlacesReply, PlacesRequest};
use proto::rpc::{Code, Failure, MetricSample, Reply, Request, Retry};

use crate::mesh::{Mesh, Responder};
use crate::overrides::TenantLimits;
use crate::runtime::{Class, Runtime};

/// [`Failure::reason`] of a profile that would make series above the limit.
pub const SERIES_LIMIT: &str = "series_limit";

/// How often a home shard recalls for one profile: places that were on their way during the first round are found by the second.
const RECALL_ROUNDS_MAX: usize = 3;

/// How often places that nobody uses are looked for, and series that nobody asked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Tenants that a sweep looks at before it gives way: some µs.
const SWEPT_AT_ONCE: usize = 64;

/// How long a refusal stands for the next ones that want as much: a tenant over its limit does not ask its home shard with every profile.
const REFUSAL_NS: u64 = 1_000_000_000;

/// When a client may try again. Places come back when heads are cut, and nobody knows here when that will be; a profile that is
/// refused has cost its decoding.
const RETRY_AFTER: Duration = Duration::from_mins(1);

/// One shard's part in the series limits of all tenants. Clones share it.
#[derive(Debug)]
pub struct Places<R: Runtime>(Rc<State<R>>);

#[derive(Debug)]
struct State<R: Runtime> {
    rt: R,
    mesh: Mesh,
    limits: TenantLimits,
    heads: Rc<RefCell<Heads>>,
    /// Of tenants whose home this shard is, and that have series on the node.
    homes: RefCell<BTreeMap<TenantId, PlacesHome>>,
    /// Of all tenants that have heads here.
    held: RefCell<BTreeMap<TenantId, Held>>,
    asks: Cell<u64>,
    recalls: Cell<u64>,
}

/// What this shard holds of one tenant.
#[derive(Debug, Default)]
struct Held {
    lease: PlacesLease,
    /// Since the last sweep.
    is_used: bool,
    /// Whether the home shard still has to be told what is held.
    is_untold: bool,
    refused: Option<Refused>,
}

/// A refusal that stands for a while.
#[derive(Clone, Copy, Debug)]
struct Refused {
    until_ns: u64,
    /// How many more there was no room for.
    new: u64,
    series: u64,
    limit: u64,
}

/// Places of a profile that is not in a head yet. Its series are in one, or will never be, when this is dropped.
#[derive(Debug)]
pub struct Taken<R: Runtime> {
    places: Places<R>,
    tenant: TenantId,
}

impl<R: Runtime> Drop for Taken<R> {
    fn drop(&mut self) {
        if let Some(held) = self.places.0.held.borrow_mut().get_mut(&self.tenant) {
            held.lease.settled();
        }
    }
}

impl<R: Runtime> Clone for Places<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Runtime> Places<R> {
    /// No tenant seen yet; starts to sweep.
    pub fn start(rt: R, mesh: Mesh, limits: TenantLimits, heads: Rc<RefCell<Heads>>) -> Self {
        let places = Self(Rc::new(State {
            rt,
            mesh,
            limits,
            heads,
            homes: RefCell::default(),
            held: RefCell::default(),
            asks: Cell::new(0),
            recalls: Cell::new(0),
        }));
        let sweeping = places.clone();
        places.0.rt.spawn(Class::Background, async move { sweeping.sweep_forever().await });
        places
    }

    /// Whether a tenant's series are to be counted before they are made.
    pub fn is_limited(&self, tenant: &TenantId) -> bool {
        self.0.limits.of(tenant.as_str()).series_max().is_some()
    }

    /// Takes places for the series of a profile, one profile at a time.
    pub async fn take(&self, tenant: &TenantId, series: SeriesCount) -> Result<Taken<R>, Failure> {
        let taken = || Taken { places: self.clone(), tenant: tenant.clone() };
        if self.take_held(tenant, series)? {
            return Ok(taken());
        }
        let reply = self.ask(tenant, series).await;
        let mut all = self.0.held.borrow_mut();
        let held = all.get_mut(tenant).expect("what is asked for stays");
        // What was not sent has told nothing.
        held.is_untold |= reply.is_err();
        held.lease.answered(match reply {
            Ok(PlacesReply::Granted { places }) => Some(places),
            _ => None,
        });
        match reply? {
            PlacesReply::Granted { .. } => {
                assert!(
                    held.lease.take(self.used(tenant), series),
                    "what was granted is enough, also when the heads were cut meanwhile"
                );
                Ok(taken())
            }
            PlacesReply::Limited { series: there, limit } => {
                let until_ns = self.0.rt.now_ns() + REFUSAL_NS;
                let refused = Refused { until_ns, new: series.new, series: there, limit };
                held.refused = Some(refused);
                Err(refused.failure())
            }
            PlacesReply::Noted => panic!("places are granted or not"),
        }
    }

    /// Takes note of series that were made without having been asked for.
    pub fn note(&self, tenant: &TenantId) {
        // The next sweep looks at it.
        let mut all = self.0.held.borrow_mut();
        if !all.contains_key(tenant) {
            all.insert(tenant.clone(), Held::default());
        }
    }

    /// Answers a shard of the node.
    pub fn serve(&self, request: PlacesRequest, responder: Responder) {
        match request {
            PlacesRequest::Ask { tenant, used, new } => {
                let ask = Ask { from: responder.from(), tenant: checked(&tenant), used, new };
                if let Some(reply) = self.grant(&ask) {
                    return responder.reply(Reply::Places(reply));
                }
                let places = self.clone();
                self.0.rt.spawn(Class::Rpc, async move {
                    let reply = places.grant_recalling(&ask).await;
                    responder.reply(Reply::Places(reply));
                });
            }
            PlacesRequest::Hold { tenant, places } => {
                self.hold(&checked(&tenant), responder.from(), places);
                responder.reply(Reply::Places(PlacesReply::Noted));
            }
            PlacesRequest::Recall { tenant } => {
                let tenant = checked(&tenant);
                let used = self.used(&tenant);
                if let Some(held) = self.0.held.borrow_mut().get_mut(&tenant) {
                    held.is_untold |= held.lease.give_up(used).is_some();
                    self.tell(&tenant, held);
                }
                responder.reply(Reply::Places(PlacesReply::Noted));
            }
        }
    }

    /// What `/metrics` tells of it.
    pub fn samples(&self) -> [MetricSample; 4] {
        let shard = self.0.mesh.own().0;
        [
            ("pyrite_head_series", self.0.heads.borrow().series_count()),
            ("pyrite_places_asks_total", self.0.asks.get()),
            ("pyrite_places_recalls_total", self.0.recalls.get()),
            ("pyrite_places_leases", self.0.held.borrow().len() as u64),
        ]
        .map(|(name, value)| MetricSample::of_shard(name, shard, value as f64))
    }

    fn used(&self, tenant: &TenantId) -> u64 {
        self.0.heads.borrow().series_of(tenant)
    }

    fn home_of(&self, tenant: &TenantId) -> ShardId {
        home_shard_of(tenant, self.0.mesh.shards_count())
    }

    /// Takes what is held, if it is enough; refuses what was refused a moment ago.
    fn take_held(&self, tenant: &TenantId, series: SeriesCount) -> Result<bool, Failure> {
        let (used, now_ns) = (self.used(tenant), self.0.rt.now_ns());
        let mut all = self.0.held.borrow_mut();
        if !all.contains_key(tenant) {
            all.insert(tenant.clone(), Held::default());
        }
        let held = all.get_mut(tenant).expect("it is there");
        held.is_used = true;
        if held.lease.take(used, series) {
            return Ok(true);
        }
        let limit = self.0.limits.of(tenant.as_str()).series_max();
        match held.refused {
            Some(refused)
                if now_ns < refused.until_ns
                    && series.new >= refused.new
                    && limit == Some(refused.limit) =>
            {
                Err(refused.failure())
            }
            _ => Ok(false),
        }
    }

    /// Asks the home shard.
    async fn ask(&self, tenant: &TenantId, series: SeriesCount) -> Result<PlacesReply, Failure> {
        let used = self.used(tenant);
        let new = series.needs(used) - used;
        if let Some(held) = self.0.held.borrow_mut().get_mut(tenant) {
            held.lease.ask(used);
            held.is_untold = false;
        }
        self.0.asks.set(self.0.asks.get() + 1);
        let request = PlacesRequest::Ask { tenant: tenant.as_str().to_owned(), used, new };
        match self.0.mesh.call(self.home_of(tenant), Request::Places(request)).await? {
            Reply::Places(reply) => Ok(reply),
            other => panic!("places are asked for and answered, not {other:?}"),
        }
    }

    /// At the home shard: the answer, or `None` where others have to be asked first.
    fn grant(&self, ask: &Ask) -> Option<PlacesReply> {
        let limit = self.0.limits.of(ask.tenant.as_str()).series_max().unwrap_or(u64::MAX);
        let mut homes = self.0.homes.borrow_mut();
        let home = homes.entry(ask.tenant.clone()).or_default();
        let answer = home.take(ask.from, ask.used, ask.new, limit);
        if home.is_empty() {
            homes.remove(&ask.tenant);
        }
        match answer {
            PlacesAnswer::Granted(places) => Some(PlacesReply::Granted { places }),
            PlacesAnswer::Limited(series) => Some(PlacesReply::Limited { series, limit }),
            PlacesAnswer::Recall => None,
        }
    }

    async fn grant_recalling(&self, ask: &Ask) -> PlacesReply {
        for _ in 0..RECALL_ROUNDS_MAX {
            self.recall(ask).await;
            if let Some(reply) = self.grant(ask) {
                return reply;
            }
        }
        let series = self.0.homes.borrow().get(&ask.tenant).map_or(0, PlacesHome::total);
        let limit = self.0.limits.of(ask.tenant.as_str()).series_max().unwrap_or(u64::MAX);
        PlacesReply::Limited { series, limit }
    }

    /// Has the other holders give up what they do not use.
    async fn recall(&self, ask: &Ask) {
        let holders: Vec<ShardId> = match self.0.homes.borrow().get(&ask.tenant) {
            Some(home) => home.holders().filter(|holder| *holder != ask.from).collect(),
            None => return,
        };
        let told: Vec<_> = holders
            .into_iter()
            .filter_map(|holder| {
                let request = PlacesRequest::Recall { tenant: ask.tenant.as_str().to_owned() };
                // A holder that takes no message keeps what it has.
                self.0.mesh.send(holder, Request::Places(request)).ok()
            })
            .collect();
        self.0.recalls.set(self.0.recalls.get() + told.len() as u64);
        for reply in told {
            // What is kept was told before it.
            let _ = reply.await;
        }
    }

    /// At the home shard: what a holder has.
    fn hold(&self, tenant: &TenantId, holder: ShardId, places: u64) {
        let mut homes = self.0.homes.borrow_mut();
        let home = homes.entry(tenant.clone()).or_default();
        home.set(holder, places);
        if home.is_empty() {
            homes.remove(tenant);
        }
    }

    /// Tells the home shard what is held, where that is news; a full mesh leaves it to the next sweep.
    fn tell(&self, tenant: &TenantId, held: &mut Held) {
        if !held.is_untold {
            return;
        }
        let places = held.lease.places();
        let request = PlacesRequest::Hold { tenant: tenant.as_str().to_owned(), places };
        let told = self.0.mesh.send(self.home_of(tenant), Request::Places(request));
        held.is_untold = told.is_err();
    }

    #[expect(clippy::infinite_loop, reason = "it ends with the shard's executor")]
    async fn sweep_forever(&self) {
        loop {
            self.0.rt.sleep(SWEEP_INTERVAL).await;
            self.sweep().await;
        }
    }

    /// Tells of series that nobody asked for, and gives back what is not used and was not since the last sweep.
    async fn sweep(&self) {
        let mut behind = None;
        loop {
            behind = self.sweep_behind(behind.as_ref());
            if behind.is_none() {
                return;
            }
            self.0.rt.yield_if_needed().await;
        }
    }

    /// Sweeps the next tenants; the last of them, unless there are no more.
    fn sweep_behind(&self, behind: Option<&TenantId>) -> Option<TenantId> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let mut all = self.0.held.borrow_mut();
        let mut gone = Vec::new();
        let mut last = None;
        let next = all.range_mut::<TenantId, _>((from, Bound::Unbounded)).take(SWEPT_AT_ONCE);
        for (count, (tenant, held)) in (1..).zip(next) {
            let used = self.used(tenant);
            let was_used = std::mem::take(&mut held.is_used);
            held.is_untold |=
                held.lease.note(used).is_some() || !was_used && held.lease.give_up(used).is_some();
            self.tell(tenant, held);
            if !was_used && !held.is_untold && held.lease.is_idle() {
                gone.push(tenant.clone());
            }
            if count == SWEPT_AT_ONCE {
                last = Some(tenant.clone());
            }
        }
        for tenant in gone {
            all.remove(&tenant);
        }
        last
    }
}

/// What a shard asks for a profile.
#[derive(Debug)]
struct Ask {
    from: ShardId,
    tenant: TenantId,
    used: u64,
    new: u64,
}

impl Refused {
    /// In Pyroscope's words.
    fn failure(&self) -> Failure {
        let Self { series, limit, .. } = self;
        let text = format!(
            "Maximum active series limit exceeded ({series}/{limit}), reduce the number of active streams (reduce labels or reduce label values), or contact your administrator to see if the limit can be increased"
        );
        Failure::new(Code::ResourceExhausted, SERIES_LIMIT, text)
            .with_retry(Retry::After(RETRY_AFTER))
    }
}

fn checked(tenant: &str) -> TenantId {
    TenantId::parse(tenant).expect("places are asked for in the name of checked tenants")
}
