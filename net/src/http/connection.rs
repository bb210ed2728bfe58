//! One connection: HTTP/1.1 or h2c, told apart by the first bytes.
//!
//! hyper parses; this module decides how long a connection may live. No timer of hyper's is used: one sleep a connection
//! watches over everything, which costs nothing per request. A connection ends when
//! - its first head is not complete in `read_timeout` (a client that connects and says nothing, or says it slowly),
//! - no request runs and the last one was answered `idle_timeout` ago (idle clients, later heads sent slowly, answers read
//!   slowly),
//! - the server drains and its last request is answered.
//!
//! Bodies have a timeout of their own ([`super::body`]).

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Executor, Read, Write};
use hyper::service::service_fn;
use hyper_util::server::conn::auto::Builder;

use super::app::Api;
use super::router;
use super::server::{HttpConfig, Server};
use crate::runtime::{Class, Clock, Spawn};

/// Requests one h2 connection may have under way; Go's gRPC server allows as many.
const STREAMS_MAX: u32 = 100;

/// How long a connection that was told to finish may take to say so to its peer when nothing runs on it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves a connection until it ends. Run it as a task of class [`Class::Rpc`].
///
/// Above the server's limit of connections the stream is dropped at once.
pub async fn serve_connection<R, A, S>(stream: S, server: Rc<Server<R, A>>)
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
    S: Read + Write + Unpin + 'static,
{
    let Some(mut open) = server.open() else { return };
    let activity = Rc::new(Activity::new(server.rt.now_ns()));
    let service = service_fn(|request: Request<Incoming>| {
        let running = Running::begin(server.clone(), activity.clone());
        let server = server.clone();
        async move {
            let mut reply = router::answer(&server, request).await;
            reply.body_mut().keep(running);
            Ok::<_, Infallible>(reply)
        }
    });
    let mut builder = Builder::new(ShardExecutor(server.rt.clone()));
    builder.http2().max_concurrent_streams(STREAMS_MAX);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut watch = pin!(watch(&server.rt, &activity, &server.config));
    let mut farewell = pin!(None);
    poll_fn(|context| {
        // Errors are the peer's (a reset, nonsense instead of HTTP): nothing is left to tell it.
        if connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if farewell.is_none() {
            let drains = std::pin::Pin::new(&mut open.finish).poll(context).is_ready();
            if !drains && watch.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            connection.as_mut().graceful_shutdown();
            farewell.set(Some(farewell_of(&server.rt, &activity)));
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
        }
        farewell.as_mut().as_pin_mut().expect("set above").poll(context)
    })
    .await;
}

/// Completes when the connection has been without a request for too long.
async fn watch(clock: &impl Clock, activity: &Activity, config: &HttpConfig) {
    loop {
        let limit = match activity.answered.get() {
            0 => config.read_timeout,
            _ => config.idle_timeout,
        };
        match activity.quiet_for(clock.now_ns()) {
            None => clock.sleep(limit).await,
            Some(quiet) => match limit.checked_sub(quiet) {
                None | Some(Duration::ZERO) => return,
                Some(rest) => clock.sleep(rest).await,
            },
        }
    }
}

/// Completes [`FAREWELL`] after the last request was answered.
async fn farewell_of(clock: &impl Clock, activity: &Activity) {
    clock.sleep(FAREWELL).await;
    while activity.quiet_for(clock.now_ns()).is_none_or(|quiet| quiet < FAREWELL) {
        clock.sleep(FAREWELL).await;
    }
}

/// When a connection last did something.
#[derive(Debug)]
struct Activity {
    running: Cell<u32>,
    answered: Cell<u64>,
    quiet_since_ns: Cell<u64>,
}

impl Activity {
    fn new(now_ns: u64) -> Self {
        Self { running: Cell::new(0), answered: Cell::new(0), quiet_since_ns: Cell::new(now_ns) }
    }

    /// How long no request has been running; `None` while one is.
    fn quiet_for(&self, now_ns: u64) -> Option<Duration> {
        let quiet_ns = now_ns.saturating_sub(self.quiet_since_ns.get());
        (self.running.get() == 0).then(|| Duration::from_nanos(quiet_ns))
    }
}

/// A request under way; ends when dropped, whether it was answered or its client went away.
struct Running<R: Clock + Spawn + Clone + 'static, A: Api> {
    server: Rc<Server<R, A>>,
    activity: Rc<Activity>,
}

impl<R: Clock + Spawn + Clone + 'static, A: Api> Running<R, A> {
    fn begin(server: Rc<Server<R, A>>, activity: Rc<Activity>) -> Self {
        activity.running.set(activity.running.get() + 1);
        server.counters.begin_request();
        Self { server, activity }
    }
}

impl<R: Clock + Spawn + Clone + 'static, A: Api> Drop for Running<R, A> {
    fn drop(&mut self) {
        let running = self.activity.running.get().checked_sub(1);
        self.activity.running.set(running.expect("a request ends once"));
        self.activity.answered.set(self.activity.answered.get() + 1);
        self.activity.quiet_since_ns.set(self.server.rt.now_ns());
        self.server.counters.end_request();
    }
}

/// hyper's tasks (one per h2 stream) run as the connection does.
#[derive(Clone, Debug)]
struct ShardExecutor<R>(R);

impl<R: Spawn, F: Future<Output = ()> + 'static> Executor<F> for ShardExecutor<R> {
    fn execute(&self, task: F) {
        self.0.spawn(Class::Rpc, task);
    }
}
