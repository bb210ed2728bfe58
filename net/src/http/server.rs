//! The HTTP server of one shard: its settings and what its connections share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot;

use super::app::Api;
use super::body::BodyLimits;
use super::counters::HttpCounters;
use super::tenant_header::Tenancy;
use crate::budget::ShardBudget;
use crate::config::Pages;
use crate::runtime::{Clock, Spawn};

/// Body of a query at most, bytes. Queries are selectors and ids; the widest seen is a few kB. It is decoded in one go: a body
/// of this size that is nothing but short texts takes 2 ms as JSON.
const QUERY_BODY_BYTES_MAX: usize = 256 << 10;

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `-auth.multitenancy-enabled`.
    pub tenancy: Tenancy,
    /// `-server.http-read-timeout`: a connection's first head is complete after this long, and a body this long after its head.
    pub read_timeout: Duration,
    /// `-server.http-idle-timeout`: a connection without a request is closed after this long since the last one was answered.
    pub idle_timeout: Duration,
    /// `-server.http-write-timeout`: a connection ends when an answer has been on its way for this long.
    pub write_timeout: Duration,
    /// `-server.path-prefix` without a slash at its end: all routes are below it. Empty: none.
    pub path_prefix: String,
    /// `-server.http-conn-limit` of one shard: connections beyond it are closed at once. A connection's buffers are about
    /// 20 kB, and up to 1 MiB while a large body is on its way.
    pub connections_max: usize,
    /// What `/api/v1/status/config` answers.
    pub config_pages: Pages,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            tenancy: Tenancy::Single,
            read_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_secs(30),
            path_prefix: String::new(),
            connections_max: 8192,
            config_pages: Pages::default(),
        }
    }
}

/// One shard's HTTP server. Connections are handed to it with [`super::serve_connection`]; stopping is [`Server::drain`], then
/// [`Server::drained`].
pub struct Server<R, A> {
    pub(super) rt: R,
    pub(super) api: A,
    pub(super) config: HttpConfig,
    pub(super) budget: ShardBudget,
    pub(super) counters: HttpCounters,
    connections: Connections,
}

impl<R, A> fmt::Debug for Server<R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Open connections; each has a channel that tells it to finish.
#[derive(Debug, Default)]
struct Connections {
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, Option<oneshot::Sender<()>>>>,
    draining: Cell<bool>,
    all_closed: RefCell<Option<Waker>>,
}

impl<R: Clock + Spawn + Clone + 'static, A: Api> Server<R, A> {
    /// A server without connections. Bodies are accounted in `budget`.
    pub fn new(rt: R, api: A, config: HttpConfig, budget: ShardBudget) -> Rc<Self> {
        let (counters, connections) = (HttpCounters::default(), Connections::default());
        Rc::new(Self { rt, api, config, budget, counters, connections })
    }

    /// What the routes call.
    pub fn api(&self) -> &A {
        &self.api
    }

    /// Counters of this shard's server.
    pub fn counters(&self) -> &HttpCounters {
        &self.counters
    }

    /// Connections open now.
    pub fn connections_count(&self) -> usize {
        self.connections.open.borrow().len()
    }

    /// Tells every connection, and those that are still handed in, to finish: requests under way are answered, idle
    /// connections close.
    pub fn drain(&self) {
        self.connections.draining.set(true);
        for finish in self.connections.open.borrow_mut().values_mut() {
            // Dropping the sender is what the connection sees; the entry stays until the connection is closed.
            finish.take();
        }
    }

    /// Whether connections were told to finish.
    pub(super) fn is_draining(&self) -> bool {
        self.connections.draining.get()
    }

    /// Completes when no connection is open.
    pub async fn drained(&self) {
        poll_fn(|context| {
            if self.connections_count() == 0 {
                return Poll::Ready(());
            }
            *self.connections.all_closed.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Takes a connection in; `None` above the limit.
    pub(super) fn open(self: &Rc<Self>) -> Option<OpenConnection<R, A>> {
        if self.connections_count() >= self.config.connections_max {
            self.counters.count_refused_connection();
            return None;
        }
        self.counters.count_connection();
        let number = self.connections.next.get();
        self.connections.next.set(number + 1);
        let (sender, finish) = oneshot::channel();
        let sender = Some(sender).filter(|_| !self.connections.draining.get());
        self.connections.open.borrow_mut().insert(number, sender);
        Some(OpenConnection { server: self.clone(), number, finish })
    }

    /// Bounds of a push's body of so many bytes at most.
    pub(super) fn push_body_limits(&self, bytes_max: u64) -> BodyLimits {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        self.body_limits(bytes_max, self.budget.for_pushes())
    }

    /// Bounds of a query's body.
    pub(super) fn query_body_limits(&self) -> BodyLimits {
        self.body_limits(QUERY_BODY_BYTES_MAX, self.budget.clone())
    }

    fn body_limits(&self, bytes_max: usize, budget: ShardBudget) -> BodyLimits {
        BodyLimits { bytes_max, timeout: self.config.read_timeout, budget }
    }
}

/// A connection's place among the open ones.
pub(super) struct OpenConnection<R, A> {
    server: Rc<Server<R, A>>,
    number: u64,
    /// Resolves (as cancelled) when the server drains.
    pub(super) finish: oneshot::Receiver<()>,
}

impl<R, A> Drop for OpenConnection<R, A> {
    fn drop(&mut self) {
        let connections = &self.server.connections;
        let mut open = connections.open.borrow_mut();
        open.remove(&self.number);
        if open.is_empty()
            && let Some(waker) = connections.all_closed.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
