//! One connection: HTTP/1.1 or h2c, told apart by the first bytes.
//!
//! hyper parses; this module decides how long a connection may live. No timer of hyper's is used: one sleep a connection
//! watches over everything, which costs nothing per request. A connection ends when
//! - its first head is not complete in `read_timeout` (a client that connects and says nothing, or says it slowly),
//! - no request runs, no answer is on its way and the last one was answered `idle_timeout` ago (idle clients, later heads sent
//!   slowly),
//! - an answer has been on its way for `write_timeout` ([`super::sending`]): that ends it at once, with all that runs on it,
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
use super::sending::{Sending, Watched};
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
    let sending = Rc::new(Sending::default());
    let stream = Watched::new(stream, server.rt.clone(), Rc::clone(&sending));
    let activity = Rc::new(Activity::new(server.rt.now_ns(), sending));
    let service = service_fn(|request: Request<Incoming>| {
        let running = Running::begin(server.clone(), activity.clone());
        let server = server.clone();
        let activity = activity.clone();
        async move {
            let mut reply = router::answer(&server, request).await;
            let begin = || activity.sending.begin(server.rt.now_ns());
            reply.body_mut().keep(running, begin);
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
            match watch.as_mut().poll(context) {
                Poll::Ready(Ended::Unread) => {
                    server.counters.count_write_timeout();
                    return Poll::Ready(());
                }
                Poll::Pending if !drains => return Poll::Pending,
                Poll::Ready(Ended::Quiet) | Poll::Pending => {}
            }
            connection.as_mut().graceful_shutdown();
            farewell.set(Some(farewell_of(&server.rt, &activity, &server.config)));
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
        }
        farewell.as_mut().as_pin_mut().expect("set above").poll(context)
    })
    .await;
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// It has been without a request for too long.
    Quiet,
    /// An answer was not read in time.
    Unread,
}

/// Completes when the connection has been without a request, or an answer on its way, for too long.
async fn watch(clock: &impl Clock, activity: &Activity, config: &HttpConfig) -> Ended {
    loop {
        let limit = match activity.answered.get() {
            0 => config.read_timeout,
            _ => config.idle_timeout,
        };
        let now_ns = clock.now_ns();
        let rest = match activity.quiet_for(now_ns) {
            None => limit,
            Some(quiet) => limit.saturating_sub(quiet),
        };
        if rest.is_zero() {
            return Ended::Quiet;
        }
        // An answer that is made during the sleep has its whole time behind it.
        let unread = activity.unread_for(now_ns).unwrap_or_default();
        let unread_rest = config.write_timeout.saturating_sub(unread);
        if unread_rest.is_zero() {
            return Ended::Unread;
        }
        clock.sleep(rest.min(unread_rest)).await;
    }
}

/// Completes [`FAREWELL`] after the last answer was sent, or when one was not read in time.
async fn farewell_of(clock: &impl Clock, activity: &Activity, config: &HttpConfig) {
    loop {
        clock.sleep(FAREWELL).await;
        let now_ns = clock.now_ns();
        let is_quiet = activity.quiet_for(now_ns).is_some_and(|quiet| quiet >= FAREWELL);
        if is_quiet || activity.unread_for(now_ns).is_some_and(|age| age >= config.write_timeout) {
            return;
        }
    }
}

/// When a connection last did something.
#[derive(Debug)]
struct Activity {
    running: Cell<u32>,
    answered: Cell<u64>,
    quiet_since_ns: Cell<u64>,
    sending: Rc<Sending>,
}

impl Activity {
    fn new(now_ns: u64, sending: Rc<Sending>) -> Self {
        let (running, answered) = (Cell::new(0), Cell::new(0));
        Self { running, answered, quiet_since_ns: Cell::new(now_ns), sending }
    }

    /// How long ago the last answer was made; `None` while a request runs or an answer is on its way.
    fn quiet_for(&self, now_ns: u64) -> Option<Duration> {
        let quiet_ns = now_ns.saturating_sub(self.quiet_since_ns.get());
        let is_quiet = self.running.get() == 0 && self.sending.since_ns().is_none();
        is_quiet.then(|| Duration::from_nanos(quiet_ns))
    }

    /// How long the oldest answer has been on its way.
    fn unread_for(&self, now_ns: u64) -> Option<Duration> {
        self.sending
            .since_ns()
            .map(|since_ns| Duration::from_nanos(now_ns.saturating_sub(since_ns)))
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
