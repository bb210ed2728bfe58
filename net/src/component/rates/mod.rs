//! Ingestion rates: each tenant has one for the whole node, owned by its home shard and lent to the others in slices.
//!
//! ```text
//! charge ─► slice held? ──yes──► granted, without a message
//!              └─no─► home shard: take, and lend the next slice ─► recall what others hold, if that could be enough
//! ```
//! What holds
//! - The laws of [`engine::lease`], whatever becomes of a client: who asks for tokens, lends or recalls them is a task of its own.
//! - An ask waits for recalls, and a recall for nothing.
//! - A slice that nobody used between two sweeps goes back.
//!
//! Not here: what a push costs and what its refusal says (`component::distributor`).

mod held;
mod home;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use engine::lease::TokenAnswer;
use engine::route::{ShardId, home_shard_of};
use engine::tenant::TenantId;
use futures_channel::oneshot;
use proto::rpc::limits::{RateReply, RateRequest, TokenReport};
use proto::rpc::{Code, Failure, MetricSample, Reply, Request};

use self::held::Held;
use self::home::{Ask, Homes};
use crate::mesh::{Mesh, Responder};
use crate::overrides::TenantLimits;
use crate::runtime::{Class, Runtime};

/// How often a home shard recalls for one push: what is lent between two rounds went to pushes that were granted, and a slice
/// that was on its way during the first is found by the second.
const RECALL_ROUNDS_MAX: usize = 3;

/// How often slices that nobody uses are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a push may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// The tokens are taken.
    Granted,
    /// Over the rate.
    Limited {
        /// When the tokens will be there if nobody takes any, ns from now; `None`: never, for they are more than the burst.
        wait_ns: Option<u64>,
    },
}

/// One shard's part in the rates of all tenants: their home, or a holder of slices. Clones share it.
#[derive(Debug)]
pub struct Rates<R: Runtime>(Rc<State<R>>);

#[derive(Debug)]
struct State<R: Runtime> {
    rt: R,
    mesh: Mesh,
    limits: TenantLimits,
    /// Of tenants whose home this shard is.
    homes: RefCell<Homes>,
    /// Of the other tenants.
    held: RefCell<Held>,
    asks: Cell<u64>,
    recalls: Cell<u64>,
}

impl<R: Runtime> Clone for Rates<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Runtime> Rates<R> {
    /// No tenant seen yet; starts to sweep.
    pub fn start(rt: R, mesh: Mesh, limits: TenantLimits) -> Self {
        let rates = Self(Rc::new(State {
            rt,
            mesh,
            homes: RefCell::new(Homes::new(limits.clone())),
            limits,
            held: RefCell::default(),
            asks: Cell::new(0),
            recalls: Cell::new(0),
        }));
        let sweeping = rates.clone();
        rates.0.rt.spawn(Class::Background, async move { sweeping.sweep_forever().await });
        rates
    }

    /// Takes `bytes` of the tenant's rate. Whoever gives the wait up loses the tokens it would have got, and no others.
    pub async fn charge(&self, tenant: &TenantId, bytes: u64) -> Result<Charge, Failure> {
        if home::rate_of(&self.0.limits, tenant.as_str()).is_none() {
            return Ok(Charge::Granted);
        }
        let home = self.home_of(tenant);
        let reply = if home == self.0.mesh.own() {
            self.take_at_home(tenant, bytes).await
        } else if self.0.held.borrow_mut().take(tenant.as_str(), bytes) {
            return Ok(Charge::Granted);
        } else {
            self.ask(home, tenant, bytes)?.await
        };
        match reply {
            Ok(RateReply::Granted { .. }) => Ok(Charge::Granted),
            Ok(RateReply::Limited { wait_ns }) => Ok(Charge::Limited { wait_ns }),
            Ok(other) => panic!("tokens are granted or not: {other:?}"),
            Err(oneshot::Canceled) => {
                Err(Failure::new(Code::Unavailable, "shard_gone", "the node is stopping"))
            }
        }
    }

    /// Takes `bytes` that are due already, whether they are there or not. A full mesh loses them: the tenant was charged its
    /// claim already.
    pub fn settle(&self, tenant: &TenantId, bytes: u64) {
        let home = self.home_of(tenant);
        if home == self.0.mesh.own() {
            let now_ns = self.0.rt.now_ns();
            return self.0.homes.borrow_mut().settle(tenant.as_str(), bytes, now_ns);
        }
        if self.0.held.borrow_mut().take(tenant.as_str(), bytes) {
            return;
        }
        let tenant = tenant.as_str().to_owned();
        // Nobody waits for the answer.
        let _ = self.0.mesh.send(home, Request::Rate(RateRequest::Settle { tenant, bytes }));
    }

    /// Answers a shard of the node.
    pub fn serve(&self, request: RateRequest, responder: Responder) {
        let (from, now_ns) = (responder.from(), self.0.rt.now_ns());
        let reply = match request {
            RateRequest::Take { tenant, bytes, report, takes_lease } => {
                let ask = Ask { from, tenant, bytes, report, takes_lease };
                return self.take(ask, |reply| responder.reply(Reply::Rate(reply)));
            }
            RateRequest::Settle { tenant, bytes } => {
                self.0.homes.borrow_mut().settle(&tenant, bytes, now_ns);
                RateReply::Noted
            }
            RateRequest::GiveBack { tenant, report } => {
                self.0.homes.borrow_mut().report(&tenant, from, report, now_ns);
                RateReply::Noted
            }
            RateRequest::Recall { tenant } => {
                RateReply::Recalled(self.0.held.borrow_mut().recall(&tenant))
            }
        };
        responder.reply(Reply::Rate(reply));
    }

    /// What `/metrics` tells of it.
    pub fn samples(&self) -> [MetricSample; 3] {
        let shard = self.0.mesh.own().0;
        [
            ("pyrite_rate_asks_total", self.0.asks.get()),
            ("pyrite_rate_recalls_total", self.0.recalls.get()),
            ("pyrite_rate_leases", self.0.held.borrow().len() as u64),
        ]
        .map(|(name, value)| MetricSample::of_shard(name, shard, value as f64))
    }

    fn home_of(&self, tenant: &TenantId) -> ShardId {
        home_shard_of(tenant, self.0.mesh.shards_count())
    }

    /// At the home shard itself: no message, and nothing to lend.
    async fn take_at_home(
        &self,
        tenant: &TenantId,
        bytes: u64,
    ) -> Result<RateReply, oneshot::Canceled> {
        let ask = Ask {
            from: self.0.mesh.own(),
            tenant: tenant.as_str().to_owned(),
            bytes,
            report: TokenReport::default(),
            takes_lease: false,
        };
        let (sender, reply) = oneshot::channel();
        self.take(ask, |reply| {
            let _ = sender.send(reply); // the client may have gone away
        });
        reply.await
    }

    /// Asks the home shard. The slice that comes with the answer is kept though the client may be gone.
    fn ask(
        &self,
        home: ShardId,
        tenant: &TenantId,
        bytes: u64,
    ) -> Result<oneshot::Receiver<RateReply>, Failure> {
        let tenant = tenant.as_str().to_owned();
        let (report, takes_lease) = self.0.held.borrow_mut().begin_ask(&tenant);
        let request = RateRequest::Take { tenant: tenant.clone(), bytes, report, takes_lease };
        let reply = self.0.mesh.send(home, Request::Rate(request)).inspect_err(|_| {
            self.0.held.borrow_mut().undo_ask(&tenant, report, takes_lease);
        })?;
        self.0.asks.set(self.0.asks.get() + 1);
        let (sender, answered) = oneshot::channel();
        let rates = self.clone();
        self.0.rt.spawn(Class::Rpc, async move {
            // A shard that is gone holds nothing any more that could be lost: the process is stopping.
            let Ok(reply) = reply.await else { return };
            let Reply::Rate(reply) = reply else {
                panic!("a rate request is answered by a rate's reply, not by {reply:?}")
            };
            if takes_lease {
                let lease = if let RateReply::Granted { lease } = reply { lease } else { 0 };
                rates.0.held.borrow_mut().end_ask(&tenant, lease);
            }
            let _ = sender.send(reply); // the client may have gone away
        });
        Ok(answered)
    }

    /// At the home shard: answers at once, or when what others hold has been recalled.
    fn take(&self, mut ask: Ask, answer: impl FnOnce(RateReply) + 'static) {
        let taken = self.0.homes.borrow_mut().take(&mut ask, self.0.rt.now_ns());
        if let Some(reply) = reply_to(taken) {
            return answer(reply);
        }
        let rates = self.clone();
        self.0.rt.spawn(Class::Rpc, async move { answer(rates.take_recalling(ask).await) });
    }

    async fn take_recalling(&self, mut ask: Ask) -> RateReply {
        for _ in 0..RECALL_ROUNDS_MAX {
            self.recall(&ask.tenant).await;
            let taken = self.0.homes.borrow_mut().take(&mut ask, self.0.rt.now_ns());
            if let Some(reply) = reply_to(taken) {
                return reply;
            }
        }
        // Tokens are there, and others were faster each time.
        RateReply::Limited { wait_ns: Some(0) }
    }

    /// Has the holders give back what they do not use.
    async fn recall(&self, tenant: &str) {
        let holders = self.0.homes.borrow().holders(tenant);
        let recalled: Vec<_> = holders
            .into_iter()
            .filter_map(|holder| {
                let request = Request::Rate(RateRequest::Recall { tenant: tenant.to_owned() });
                // A holder that takes no message keeps what it has.
                Some((holder, self.0.mesh.send(holder, request).ok()?))
            })
            .collect();
        self.0.recalls.set(self.0.recalls.get() + recalled.len() as u64);
        for (holder, reply) in recalled {
            let Ok(reply) = reply.await else { continue };
            let Reply::Rate(RateReply::Recalled(report)) = reply else {
                panic!("a recall is answered by what is given back, not by {reply:?}")
            };
            let now_ns = self.0.rt.now_ns();
            self.0.homes.borrow_mut().report(tenant, holder, report, now_ns);
        }
    }

    #[expect(clippy::infinite_loop, reason = "it ends with the shard's executor")]
    async fn sweep_forever(&self) {
        loop {
            self.0.rt.sleep(SWEEP_INTERVAL).await;
            self.sweep().await;
        }
    }

    /// Gives back what was not used since the last sweep.
    async fn sweep(&self) {
        let mut behind = None;
        loop {
            let (idle, last) = self.0.held.borrow_mut().idle_behind(behind.as_deref());
            for tenant in idle {
                self.give_back(&tenant);
            }
            if last.is_none() {
                return;
            }
            behind = last;
            self.0.rt.yield_if_needed().await;
        }
    }

    fn give_back(&self, tenant: &str) {
        let report = self.0.held.borrow_mut().recall(tenant);
        if report != TokenReport::default() {
            let id = TenantId::parse(tenant).expect("tokens are held of checked tenants");
            let request = RateRequest::GiveBack { tenant: tenant.to_owned(), report };
            if self.0.mesh.send(self.home_of(&id), Request::Rate(request)).is_err() {
                // The next sweep tries again.
                return self.0.held.borrow_mut().undo_recall(tenant, report);
            }
        }
        self.0.held.borrow_mut().forget(tenant);
    }
}

/// `None` where others have to be asked first.
fn reply_to(answer: TokenAnswer) -> Option<RateReply> {
    match answer {
        TokenAnswer::Granted { lease } => Some(RateReply::Granted { lease }),
        TokenAnswer::Limited { wait_ns } => Some(RateReply::Limited { wait_ns }),
        TokenAnswer::Recall => None,
    }
}

#[cfg(test)]
mod tests;
