//! Streams between nodes: delays, bounded buffers, cuts, and resets when a node crashes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::core::{Core, NodeId};
use crate::runtime::{Conn, Listener};

/// Bytes one direction holds, on the way and unread, before its writer waits.
const STREAM_BYTES_MAX: usize = 64 << 10;
/// Bytes that travel as one.
const CHUNK_BYTES_MAX: usize = 16 << 10;
/// Connections that wait to be accepted.
const BACKLOG_MAX: usize = 128;
/// Delay of a chunk, nanoseconds.
const DELAY_NS: (u64, u64) = (10_000, 500_000);
/// How long a connect to the other side of a cut takes to fail.
pub(super) const CONNECT_TIMEOUT_NS: u64 = 1_000_000_000;
/// First port given to a listener that asks for any.
const PORT_FIRST: u16 = 20_000;

#[derive(Default)]
pub(super) struct Network {
    listeners: BTreeMap<SocketAddr, Vec<Rc<Accepting>>>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    streams: Vec<std::rc::Weak<Stream>>,
    ports_given: u16,
}

/// A listening socket's queue.
struct Accepting {
    node: NodeId,
    waiting: RefCell<VecDeque<SimConn>>,
    waker: RefCell<Option<Waker>>,
}

/// One direction of a connection.
struct Stream {
    from: NodeId,
    to: NodeId,
    arrived: RefCell<VecDeque<u8>>,
    on_the_way: Cell<usize>,
    last_arrival_ns: Cell<u64>,
    end: Cell<End>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Open,
    /// The writer has closed and its last byte has arrived.
    Closed,
    /// The reader has gone away: nobody will read.
    Unread,
    Reset,
}

impl Stream {
    fn new(from: NodeId, to: NodeId) -> Rc<Self> {
        Rc::new(Self {
            from,
            to,
            arrived: RefCell::default(),
            on_the_way: Cell::new(0),
            last_arrival_ns: Cell::new(0),
            end: Cell::new(End::Open),
            reader: RefCell::new(None),
            writer: RefCell::new(None),
        })
    }

    fn finish(&self, end: End) {
        if self.end.get() == End::Open {
            self.end.set(end);
        }
        self.wake();
    }

    fn wake(&self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One end of a simulated connection.
pub struct SimConn {
    core: Rc<Core>,
    node: NodeId,
    incoming: Rc<Stream>,
    outgoing: Rc<Stream>,
}

impl std::fmt::Debug for SimConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimConn(node {} to node {})", self.node.0, self.outgoing.to.0)
    }
}

impl Drop for SimConn {
    fn drop(&mut self) {
        if self.core.is_crashing(self.node) {
            self.outgoing.finish(End::Reset);
            self.incoming.finish(End::Reset);
            return;
        }
        self.incoming.finish(End::Unread);
        // The end travels behind the bytes.
        let outgoing = Rc::clone(&self.outgoing);
        let at = arrival(&self.core, &outgoing);
        self.core.at(outgoing.to, at, move |_| outgoing.finish(End::Closed));
    }
}

/// When something sent now arrives: never before what was sent earlier.
fn arrival(core: &Core, stream: &Stream) -> u64 {
    let at = core.now_ns() + core.random.between(DELAY_NS.0, DELAY_NS.1);
    let at = at.max(stream.last_arrival_ns.get());
    stream.last_arrival_ns.set(at);
    at
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "simulated connection was reset")
}

impl Conn for SimConn {
    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let stream = &self.incoming;
        poll_fn(|context| {
            let mut arrived = stream.arrived.borrow_mut();
            if stream.end.get() == End::Reset {
                return Poll::Ready(Err(reset()));
            }
            if arrived.is_empty() {
                if stream.end.get() != End::Open {
                    return Poll::Ready(Ok(0));
                }
                *stream.reader.borrow_mut() = Some(context.waker().clone());
                return Poll::Pending;
            }
            let len = into.len().min(arrived.len());
            for (to, from) in into.iter_mut().zip(arrived.drain(..len)) {
                *to = from;
            }
            let writer = stream.writer.take();
            if let Some(writer) = writer {
                writer.wake();
            }
            Poll::Ready(Ok(len))
        })
        .await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK_BYTES_MAX) {
            let stream = &self.outgoing;
            poll_fn(|context| {
                if stream.end.get() != End::Open {
                    return Poll::Ready(Err(reset()));
                }
                let held = stream.on_the_way.get() + stream.arrived.borrow().len();
                if held + chunk.len() > STREAM_BYTES_MAX {
                    *stream.writer.borrow_mut() = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Ok(()))
            })
            .await?;
            stream.on_the_way.set(stream.on_the_way.get() + chunk.len());
            let (stream, chunk) = (Rc::clone(stream), chunk.to_vec());
            let at = arrival(&self.core, &stream);
            self.core.at(stream.to, at, move |core| {
                core.note(chunk.len() as u64);
                stream.on_the_way.set(stream.on_the_way.get() - chunk.len());
                stream.arrived.borrow_mut().extend(chunk);
                stream.wake();
            });
        }
        Ok(())
    }
}

/// A simulated listening socket.
pub struct SimListener {
    core: Rc<Core>,
    address: SocketAddr,
    accepting: Rc<Accepting>,
}

impl std::fmt::Debug for SimListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimListener({})", self.address)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut network = self.core.network.borrow_mut();
        if let Some(listeners) = network.listeners.get_mut(&self.address) {
            listeners.retain(|listener| !Rc::ptr_eq(listener, &self.accepting));
        }
        drop(network);
        drop(self.accepting.waiting.take());
    }
}

impl Listener for SimListener {
    type Conn = SimConn;

    async fn accept(&self) -> io::Result<SimConn> {
        poll_fn(|context| {
            if let Some(conn) = self.accepting.waiting.borrow_mut().pop_front() {
                return Poll::Ready(Ok(conn));
            }
            *self.accepting.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Address of a node.
pub(super) fn ip_of(node: NodeId) -> IpAddr {
    let [high, low] = node.0.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 1, high, low))
}

/// The address as the network knows it: unspecified and loopback mean the node itself.
fn resolve(node: NodeId, address: SocketAddr) -> SocketAddr {
    let ip = address.ip();
    let own = ip.is_unspecified() || ip.is_loopback();
    SocketAddr::new(if own { ip_of(node) } else { ip }, address.port())
}

pub(super) fn listen(core: &Rc<Core>, node: NodeId, on: SocketAddr) -> SimListener {
    let accepting =
        Rc::new(Accepting { node, waiting: RefCell::default(), waker: RefCell::new(None) });
    let mut network = core.network.borrow_mut();
    let mut address = resolve(node, on);
    if address.port() == 0 {
        address.set_port(PORT_FIRST + network.ports_given);
        network.ports_given += 1;
    }
    network.listeners.entry(address).or_default().push(Rc::clone(&accepting));
    drop(network);
    SimListener { core: Rc::clone(core), address, accepting }
}

/// Connects at once; `None` on the other side of a cut, where only a timeout tells.
pub(super) fn connect(
    core: &Rc<Core>,
    node: NodeId,
    to: SocketAddr,
) -> Option<io::Result<SimConn>> {
    let address = resolve(node, to);
    let network = &mut *core.network.borrow_mut();
    let listeners = network.listeners.get(&address).map_or(&[][..], Vec::as_slice);
    let refused = || Some(Err(io::Error::from(io::ErrorKind::ConnectionRefused)));
    if listeners.is_empty() {
        return refused();
    }
    let accepting = &listeners[core.random.below(listeners.len() as u64) as usize];
    let peer = accepting.node;
    if network.cuts.contains(&(node, peer)) {
        return None;
    }
    if accepting.waiting.borrow().len() >= BACKLOG_MAX {
        return refused();
    }
    let (there, back) = (Stream::new(node, peer), Stream::new(peer, node));
    network.streams.retain(|stream| stream.strong_count() > 0);
    network.streams.extend([Rc::downgrade(&there), Rc::downgrade(&back)]);
    accepting.waiting.borrow_mut().push_back(SimConn {
        core: Rc::clone(core),
        node: peer,
        incoming: Rc::clone(&there),
        outgoing: Rc::clone(&back),
    });
    let waker = accepting.waker.take();
    if let Some(waker) = waker {
        waker.wake();
    }
    Some(Ok(SimConn { core: Rc::clone(core), node, incoming: back, outgoing: there }))
}

/// Cuts two nodes from each other: their connections are reset, new ones time out.
pub(super) fn cut(core: &Core, a: NodeId, b: NodeId) {
    let streams = {
        let mut network = core.network.borrow_mut();
        network.cuts.extend([(a, b), (b, a)]);
        network.streams.clone()
    };
    for stream in streams.iter().filter_map(std::rc::Weak::upgrade) {
        if [(a, b), (b, a)].contains(&(stream.from, stream.to)) {
            stream.finish(End::Reset);
        }
    }
}

/// Undoes [`cut`] for new connections.
pub(super) fn heal(core: &Core, a: NodeId, b: NodeId) {
    let mut network = core.network.borrow_mut();
    network.cuts.remove(&(a, b));
    network.cuts.remove(&(b, a));
}
