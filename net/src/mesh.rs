//! Messages between the shards of a process: owned requests, one reply each, bounded in flight.
//!
//! One multi-producer queue per shard (lock-free, with a foreign waker, so it is the same on every runtime). The queue itself is
//! unbounded; what bounds it is credit: a shard has at most [`REQUESTS_IN_FLIGHT_MAX`] requests of each kind at each other shard,
//! and a reply exists only for a request. So no inbound pump ever waits to send, and two shards can't block each other.
//!
//! What bounds what
//! - Appends: credit, which clients can use up; then a push is answered 429. Credit counts messages; their bytes are accounted
//!   where they were received, until the owner answers (`component::distributor`), and bounded again in the owner's queue.
//! - Replays: recovery has one batch under way to each owner. A credit of their own keeps them from ever being refused, for a
//!   refused replay would end the process, and clients push while recovery runs.
//! - Rates, places, selects, spreads, flushes, metrics: a few for each push, question, flush and scrape under way; credits of their own, so that a node full of
//!   pushes still answers.
//! - Asking that what was replayed be published: once for each shard, when its recovery is done.
//! - Recalls of what a home shard has lent: rates and places wait for them, so they have a credit of their own, too.
//!
//! A caller that goes away frees nothing here: the request is with the other shard all the same, and its credit comes back
//! with the reply.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use engine::route::ShardId;
use futures_channel::{mpsc, oneshot};
use proto::rpc::limits::{PlacesRequest, RateRequest};
use proto::rpc::{Code, Failure, MetricSample, Reply, Request};

use crate::runtime::Spawn;

/// Requests of one kind that one shard may have at another shard at a time. At 60 kB a profile that is 60 MB in flight between
/// two shards at the very most; admission (`component::distributor`) bounds bytes long before.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1024;

/// What travels.
#[derive(Debug)]
pub struct Envelope {
    from: ShardId,
    call: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Beside it what lives as long as somebody waits for the reply; `None` where that is not told.
    Request(Request, Option<Weak<()>>),
    Reply(Reply),
}

/// What a request is, as far as credit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Append,
    Replay,
    Rate,
    Places,
    Recall,
    Select,
    Spread,
    Flush,
    Publish,
    Metrics,
}

const KINDS_COUNT: usize = Kind::Metrics as usize + 1;

/// How kinds are called in metrics, in their order.
const KIND_NAMES: [&str; KINDS_COUNT] = [
    "append", "replay", "rate", "places", "recall", "select", "spread", "flush", "publish",
    "metrics",
];

impl Kind {
    fn of(request: &Request) -> Self {
        match request {
            Request::Append(_) => Self::Append,
            Request::Replay(_) => Self::Replay,
            Request::Rate(RateRequest::Recall { .. })
            | Request::Places(PlacesRequest::Recall { .. }) => Self::Recall,
            Request::Rate(_) => Self::Rate,
            Request::Places(_) => Self::Places,
            Request::Select(_) => Self::Select,
            Request::Spread(_) => Self::Spread,
            Request::Flush => Self::Flush,
            Request::PublishReplayed => Self::Publish,
            Request::Metrics => Self::Metrics,
        }
    }
}

/// Receives what other shards send; given to [`Mesh::pump`].
#[derive(Debug)]
pub struct Inbox(mpsc::UnboundedReceiver<Envelope>);

/// Makes the queues of `shards_count` shards: each shard takes its inbox and a clone of all senders.
pub fn queues(shards_count: u16) -> (Vec<mpsc::UnboundedSender<Envelope>>, Vec<Inbox>) {
    (0..shards_count)
        .map(|_| {
            let (sender, receiver) = mpsc::unbounded();
            (sender, Inbox(receiver))
        })
        .unzip()
}

/// One shard's end of the mesh.
#[derive(Clone, Debug)]
pub struct Mesh(Rc<State>);

#[derive(Debug)]
struct State {
    own: ShardId,
    peers: Vec<mpsc::UnboundedSender<Envelope>>,
    /// Requests that wait for a reply, by shard and kind.
    in_flight: Vec<[Cell<usize>; KINDS_COUNT]>,
    /// Requests that were not sent for lack of credit, by kind.
    refused: [Cell<u64>; KINDS_COUNT],
    next_call: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, (Kind, oneshot::Sender<Reply>)>>,
}

impl Mesh {
    /// The end of shard `own`.
    pub fn new(own: ShardId, peers: Vec<mpsc::UnboundedSender<Envelope>>) -> Self {
        let in_flight = peers.iter().map(|_| Default::default()).collect();
        Self(Rc::new(State {
            own,
            peers,
            in_flight,
            refused: Default::default(),
            next_call: Cell::new(0),
            waiting: RefCell::default(),
        }))
    }

    /// This shard.
    pub fn own(&self) -> ShardId {
        self.0.own
    }

    /// Number of shards.
    pub fn shards_count(&self) -> u16 {
        self.0.peers.len() as u16
    }

    /// All shards, in order.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards_count()).map(ShardId)
    }

    /// Requests of this shard that wait for a reply.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.iter().flatten().map(Cell::get).sum()
    }

    /// What of the credit is used, and how often it was used up.
    pub fn samples(&self) -> Vec<MetricSample> {
        let mut samples = Vec::new();
        for (kind, name) in KIND_NAMES.into_iter().enumerate() {
            let labels = || vec![("shard", self.0.own.0.to_string()), ("kind", name.to_owned())];
            let in_flight: usize = self.0.in_flight.iter().map(|kinds| kinds[kind].get()).sum();
            samples.push(MetricSample {
                name: "pyrite_mesh_requests_in_flight",
                labels: labels(),
                value: in_flight as f64,
            });
            samples.push(MetricSample {
                name: "pyrite_mesh_full_total",
                labels: labels(),
                value: self.0.refused[kind].get() as f64,
            });
        }
        samples
    }

    /// Asks a shard (this one too: the message then goes through its own inbox like any other).
    ///
    /// Dropping the call tells the shard that nobody waits any more ([`Responder::is_abandoned`]).
    pub async fn call(&self, to: ShardId, request: Request) -> Result<Reply, Failure> {
        let waits = Arc::new(());
        self.send_for(to, request, Some(Arc::downgrade(&waits)))?.await.map_err(|_| gone(to))
    }

    /// Sends a request at once; the reply arrives in what is given back. An `Err` has sent nothing.
    pub fn send(&self, to: ShardId, request: Request) -> Result<oneshot::Receiver<Reply>, Failure> {
        self.send_for(to, request, None)
    }

    fn send_for(
        &self,
        to: ShardId,
        request: Request,
        asker: Option<Weak<()>>,
    ) -> Result<oneshot::Receiver<Reply>, Failure> {
        let kind = Kind::of(&request);
        let in_flight = self.in_flight_of(to, kind);
        if in_flight.get() >= REQUESTS_IN_FLIGHT_MAX {
            let refused = &self.0.refused[kind as usize];
            refused.set(refused.get() + 1);
            return Err(Failure::new(
                Code::ResourceExhausted,
                "mesh_full",
                format!(
                    "shard {} has {REQUESTS_IN_FLIGHT_MAX} requests of shard {} waiting; retry later",
                    to.0, self.0.own.0
                ),
            ));
        }
        let call = self.0.next_call.get();
        self.0.next_call.set(call + 1);
        let (sender, receiver) = oneshot::channel();
        self.0.waiting.borrow_mut().insert(call, (kind, sender));
        in_flight.set(in_flight.get() + 1);
        // The credit comes back with the reply even if the caller went away meanwhile (`pump`).
        let envelope = Envelope { from: self.0.own, call, body: Body::Request(request, asker) };
        if self.0.peers[to.0 as usize].unbounded_send(envelope).is_err() {
            self.0.waiting.borrow_mut().remove(&call);
            in_flight.set(in_flight.get() - 1);
            return Err(gone(to));
        }
        Ok(receiver)
    }

    fn in_flight_of(&self, to: ShardId, kind: Kind) -> &Cell<usize> {
        &self.0.in_flight[to.0 as usize][kind as usize]
    }

    /// The inbound pump: hands replies to their callers and each request to `serve`, which must answer through the [`Responder`].
    /// Ends when every sender is gone.
    pub async fn pump(
        &self,
        rt: &impl Spawn,
        mut inbox: Inbox,
        mut serve: impl FnMut(Request, Responder),
    ) {
        use futures_util::StreamExt;
        while let Some(Envelope { from, call, body }) = inbox.0.next().await {
            // A full queue holds thousands of messages.
            rt.yield_if_needed().await;
            match body {
                Body::Request(request, asker) => {
                    let to = self.0.peers[from.0 as usize].clone();
                    serve(request, Responder { own: self.0.own, from, to, call, asker });
                }
                Body::Reply(reply) => {
                    let waiting = self.0.waiting.borrow_mut().remove(&call);
                    let (kind, waiting) = waiting.expect("a reply answers one request of ours");
                    let in_flight = self.in_flight_of(from, kind);
                    in_flight.set(in_flight.get() - 1);
                    let _ = waiting.send(reply); // the caller may have gone away; its credit is back all the same
                }
            }
        }
    }
}

/// The right to answer one request, once.
#[derive(Debug)]
pub struct Responder {
    own: ShardId,
    from: ShardId,
    to: mpsc::UnboundedSender<Envelope>,
    call: u64,
    asker: Option<Weak<()>>,
}

impl Responder {
    /// Who asks.
    pub fn from(&self) -> ShardId {
        self.from
    }

    /// Whether nobody waits for the reply any more. It is to be sent all the same: the asker's shard counts it.
    pub fn is_abandoned(&self) -> bool {
        self.asker.as_ref().is_some_and(|asker| asker.strong_count() == 0)
    }

    /// Answers.
    pub fn reply(self, reply: Reply) {
        // A peer that is gone needs no answer: the process is stopping.
        let _ = self.to.unbounded_send(Envelope {
            from: self.own,
            call: self.call,
            body: Body::Reply(reply),
        });
    }
}

fn gone(shard: ShardId) -> Failure {
    Failure::new(Code::Unavailable, "shard_gone", format!("shard {} has stopped", shard.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use engine::tenant::TENANT_ANONYMOUS;
    use futures_executor::block_on;
    use futures_util::future::{poll_immediate, select};
    use proto::rpc::append::{AppendReply, AppendRequest, ReplayReply, ReplayRequest};
    use proto::rpc::limits::RateReply;

    use super::*;
    use crate::http::turns::Turns;

    fn append() -> Request {
        Request::Append(AppendRequest {
            tenant: TENANT_ANONYMOUS.to_owned(),
            service_name: "checkout".to_owned(),
            split: 0,
            origin: 1,
            seq: 1,
            receive_time_ms: 0,
            labels: Arc::default(),
            naming: None,
            profile: Bytes::new(),
        })
    }

    fn rate() -> Request {
        let tenant = TENANT_ANONYMOUS.to_owned();
        Request::Rate(RateRequest::Settle { tenant, bytes: 1 })
    }

    fn answer(request: &Request) -> Reply {
        match request {
            Request::Append(_) => Reply::Append(AppendReply::Stored),
            Request::Replay(_) => Reply::Replay(ReplayReply::Done { withheld: 0 }),
            Request::Rate(_) => Reply::Rate(RateReply::Noted),
            other => panic!("nobody here asks {other:?}"),
        }
    }

    /// One shard that talks to itself, and its inbox.
    fn alone() -> (Mesh, Inbox) {
        let (peers, mut inboxes) = queues(1);
        (Mesh::new(ShardId(0), peers), inboxes.remove(0))
    }

    /// Pushes used the credits of recovery up; a refused replay ended the process.
    #[test]
    fn pushes_use_up_no_credit_of_replays_rates_and_metrics() {
        let (mesh, _inbox) = alone();
        let pushes: Vec<_> =
            (0..REQUESTS_IN_FLIGHT_MAX).map(|_| mesh.send(ShardId(0), append())).collect();
        assert!(pushes.iter().all(Result::is_ok));
        let failure = mesh.send(ShardId(0), append()).unwrap_err();
        assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, "mesh_full"));
        for request in
            [Request::Replay(ReplayRequest { records: Vec::new() }), rate(), Request::Metrics]
        {
            assert!(mesh.send(ShardId(0), request.clone()).is_ok(), "{request:?}");
        }
        assert_eq!(mesh.in_flight(), REQUESTS_IN_FLIGHT_MAX + 3);
        let counted = |name, kind: &str| {
            let is_it = |sample: &&MetricSample| sample.name == name && sample.labels[1].1 == kind;
            mesh.samples().iter().find(is_it).unwrap().value as usize
        };
        assert_eq!(counted("pyrite_mesh_requests_in_flight", "append"), REQUESTS_IN_FLIGHT_MAX);
        assert_eq!(counted("pyrite_mesh_full_total", "append"), 1);
        assert_eq!(counted("pyrite_mesh_requests_in_flight", "replay"), 1);
        assert_eq!(counted("pyrite_mesh_full_total", "replay"), 0);
    }

    #[test]
    fn a_caller_that_goes_away_leaves_its_credit_to_the_reply() {
        let (mesh, inbox) = alone();
        let mut call = Box::pin(mesh.call(ShardId(0), append()));
        assert!(block_on(poll_immediate(call.as_mut())).is_none());
        drop(call);
        assert_eq!(mesh.in_flight(), 1, "the request is with the other shard all the same");
        // The next answer comes behind the one nobody waits for.
        let turns = Turns::default();
        let pumped = mesh.pump(&turns, inbox, |request, responder| {
            let reply = answer(&request);
            responder.reply(reply);
        });
        let next = mesh.call(ShardId(0), rate());
        block_on(select(Box::pin(next), Box::pin(pumped)));
        assert_eq!(mesh.in_flight(), 0);
    }

    /// A full inbox was once served in one poll of milliseconds.
    #[test]
    fn a_pump_gives_way_between_the_messages_of_a_full_inbox() {
        let (peers, mut inboxes) = queues(1);
        for call in 0..100 {
            let body = Body::Request(Request::Metrics, None);
            peers[0].unbounded_send(Envelope { from: ShardId(0), call, body }).unwrap();
        }
        peers[0].close_channel();
        let (turns, served) = (Turns::default(), Cell::new(0));
        let mesh = Mesh::new(ShardId(0), peers);
        block_on(mesh.pump(&turns, inboxes.remove(0), |_, _| served.set(served.get() + 1)));
        assert_eq!((served.get(), turns.count()), (100, 100));
    }
}
