//! Messages between the shards of a process: owned requests, one reply each, bounded in flight.
//!
//! One multi-producer queue per shard (lock-free, with a foreign waker, so it is the same on every runtime). The queue itself is
//! unbounded; what bounds it is credit: a shard has at most [`REQUESTS_IN_FLIGHT_MAX`] requests at each other shard, and a
//! reply exists only for a request. So no inbound pump ever waits to send, and two shards can't block each other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use engine::route::ShardId;
use futures_channel::{mpsc, oneshot};
use proto::rpc::{Code, Failure, Reply, Request};

use crate::runtime::Spawn;

/// Requests one shard may have at another shard at a time. At 60 kB a profile that is 60 MB in flight between two shards at
/// the very most; admission (`component::distributor`) bounds bytes long before.
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
    Request(Request),
    Reply(Reply),
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
    in_flight: Vec<Cell<usize>>,
    next_call: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Reply>>>,
}

impl Mesh {
    /// The end of shard `own`.
    pub fn new(own: ShardId, peers: Vec<mpsc::UnboundedSender<Envelope>>) -> Self {
        let in_flight = peers.iter().map(|_| Cell::new(0)).collect();
        Self(Rc::new(State {
            own,
            peers,
            in_flight,
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
        self.0.in_flight.iter().map(Cell::get).sum()
    }

    /// Asks a shard (this one too: the message then goes through its own inbox like any other).
    pub async fn call(&self, to: ShardId, request: Request) -> Result<Reply, Failure> {
        let in_flight = &self.0.in_flight[to.0 as usize];
        if in_flight.get() >= REQUESTS_IN_FLIGHT_MAX {
            return Err(Failure {
                code: Code::ResourceExhausted,
                reason: "mesh_full",
                message: format!(
                    "shard {} has {REQUESTS_IN_FLIGHT_MAX} requests of shard {} waiting; retry later",
                    to.0, self.0.own.0
                ),
            });
        }
        let call = self.0.next_call.get();
        self.0.next_call.set(call + 1);
        let (sender, receiver) = oneshot::channel();
        self.0.waiting.borrow_mut().insert(call, sender);
        in_flight.set(in_flight.get() + 1);
        // The credit comes back with the reply even if the caller went away meanwhile (`pump`).
        let envelope = Envelope { from: self.0.own, call, body: Body::Request(request) };
        if self.0.peers[to.0 as usize].unbounded_send(envelope).is_err() {
            self.0.waiting.borrow_mut().remove(&call);
            in_flight.set(in_flight.get() - 1);
            return Err(gone(to));
        }
        receiver.await.map_err(|_| gone(to))
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
                Body::Request(request) => serve(
                    request,
                    Responder { own: self.0.own, to: self.0.peers[from.0 as usize].clone(), call },
                ),
                Body::Reply(reply) => {
                    let in_flight = &self.0.in_flight[from.0 as usize];
                    in_flight.set(
                        in_flight
                            .get()
                            .checked_sub(1)
                            .expect("a reply answers one request of ours"),
                    );
                    if let Some(waiting) = self.0.waiting.borrow_mut().remove(&call) {
                        let _ = waiting.send(reply); // the caller may have gone away; its credit is back all the same
                    }
                }
            }
        }
    }
}

/// The right to answer one request, once.
#[derive(Debug)]
pub struct Responder {
    own: ShardId,
    to: mpsc::UnboundedSender<Envelope>,
    call: u64,
}

impl Responder {
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
    Failure {
        code: Code::Unavailable,
        reason: "shard_gone",
        message: format!("shard {} has stopped", shard.0),
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::http::turns::Turns;

    /// A full inbox was once served in one poll of milliseconds.
    #[test]
    fn a_pump_gives_way_between_the_messages_of_a_full_inbox() {
        let (peers, mut inboxes) = queues(1);
        for call in 0..100 {
            let body = Body::Request(Request::Metrics);
            peers[0].unbounded_send(Envelope { from: ShardId(0), call, body }).unwrap();
        }
        peers[0].close_channel();
        let (turns, served) = (Turns::default(), Cell::new(0));
        let mesh = Mesh::new(ShardId(0), peers);
        block_on(mesh.pump(&turns, inboxes.remove(0), |_, _| served.set(served.get() + 1)));
        assert_eq!((served.get(), turns.count()), (100, 100));
    }
}
