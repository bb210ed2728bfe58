//! A shard with virtual time, a server on it, and clients.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use engine::route::ShardId;
use futures_executor::{LocalPool, LocalSpawner};
use futures_util::task::LocalSpawnExt;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use net::budget::Budget;
use net::http::{HttpConfig, Server, Tenancy, serve_connection};
use net::runtime::{Class, Clock, Spawn};

use crate::api::FakeApi;
use crate::pipe::{End, pipe};

/// Memory of the process, unless a test says less.
const MEMORY_BYTES: u64 = 1 << 30;

/// The runtime's clock and tasks on one thread.
#[derive(Clone)]
pub(crate) struct Shard(Rc<State>);

struct State {
    spawner: LocalSpawner,
    now_ns: Cell<u64>,
    next_sleep: Cell<u64>,
    sleeps: RefCell<BTreeMap<(u64, u64), Waker>>,
    spawned: RefCell<Vec<Class>>,
}

impl Clock for Shard {
    fn now_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    fn unix_ms(&self) -> i64 {
        0
    }

    async fn sleep(&self, duration: Duration) {
        let state = &self.0;
        let number = state.next_sleep.get();
        state.next_sleep.set(number + 1);
        let until = state.now_ns.get() + duration.as_nanos() as u64;
        let _forget = Forget { state, key: (until, number) };
        poll_fn(|context| {
            if state.now_ns.get() >= until {
                return Poll::Ready(());
            }
            state.sleeps.borrow_mut().insert((until, number), context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A dropped sleep no longer keeps time going.
struct Forget<'a> {
    state: &'a State,
    key: (u64, u64),
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.state.sleeps.borrow_mut().remove(&self.key);
    }
}

impl Spawn for Shard {
    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        self.0.spawned.borrow_mut().push(class);
        self.0.spawner.spawn_local(task).unwrap();
    }

    async fn yield_if_needed(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status, code and message of an error in JSON.
    pub(crate) fn error(&self) -> (u16, String, String) {
        assert_eq!(self.header("content-type"), "application/json");
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }
}

/// A server and its shard.
pub(crate) struct World {
    pool: RefCell<LocalPool>,
    pub(crate) shard: Shard,
    pub(crate) server: Rc<Server<Shard, FakeApi>>,
}

impl World {
    /// A server with multitenancy.
    pub(crate) fn new() -> Self {
        Self::with(HttpConfig { tenancy: Tenancy::Multi, ..HttpConfig::default() }, MEMORY_BYTES)
    }

    pub(crate) fn with(config: HttpConfig, memory_bytes: u64) -> Self {
        let pool = LocalPool::new();
        let shard = Shard(Rc::new(State {
            spawner: pool.spawner(),
            now_ns: Cell::new(1),
            next_sleep: Cell::new(0),
            sleeps: RefCell::default(),
            spawned: RefCell::default(),
        }));
        let budget = Budget::new(memory_bytes, 1).of_shard(ShardId(0));
        let server = Server::new(shard.clone(), FakeApi::default(), config, budget);
        Self { pool: RefCell::new(pool), shard, server }
    }

    pub(crate) fn api(&self) -> &FakeApi {
        self.server.api()
    }

    /// Classes of the tasks spawned since the last call.
    pub(crate) fn spawned(&self) -> Vec<Class> {
        std::mem::take(&mut self.shard.0.spawned.borrow_mut())
    }

    /// A connection to the server.
    pub(crate) fn connect(&self) -> End {
        let (client, server) = pipe();
        let serving = serve_connection(server, self.server.clone());
        self.shard.0.spawner.spawn_local(serving).unwrap();
        client
    }

    /// Runs a future to its end. Time passes only when nothing else can happen.
    pub(crate) fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let output = Rc::new(RefCell::new(None));
        let slot = output.clone();
        let task = async move { *slot.borrow_mut() = Some(future.await) };
        self.shard.0.spawner.spawn_local(task).unwrap();
        loop {
            self.pool.borrow_mut().run_until_stalled();
            if let Some(output) = output.borrow_mut().take() {
                return output;
            }
            assert!(self.pass_time(), "nothing can happen any more");
        }
    }

    /// Lets everything happen that needs no time.
    pub(crate) fn settle(&self) {
        self.pool.borrow_mut().run_until_stalled();
    }

    fn pass_time(&self) -> bool {
        let Some(((until, _), waker)) = self.shard.0.sleeps.borrow_mut().pop_first() else {
            return false;
        };
        self.shard.0.now_ns.set(until);
        waker.wake();
        true
    }

    /// Sends one request over a connection of its own, HTTP/1.1.
    pub(crate) fn http1(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = self.connect();
        let spawner = self.shard.0.spawner.clone();
        self.run(async move {
            let (mut sender, connection) = http1::handshake(stream).await.unwrap();
            spawner.spawn_local(async move { drop(connection.await) }).unwrap();
            whole(sender.send_request(request).await.unwrap()).await
        })
    }

    /// Sends requests over one h2c connection, all at once.
    pub(crate) fn http2(&self, requests: Vec<Request<Full<Bytes>>>) -> Vec<Answer> {
        let stream = self.connect();
        let (shard, spawner) = (self.shard.clone(), self.shard.0.spawner.clone());
        self.run(async move {
            let executor = ClientTasks(shard);
            let (sender, connection) = http2::handshake(executor, stream).await.unwrap();
            spawner.spawn_local(async move { drop(connection.await) }).unwrap();
            let answers = requests.into_iter().map(|request| {
                let mut sender = sender.clone();
                async move { whole(sender.send_request(request).await.unwrap()).await }
            });
            futures_util::future::join_all(answers).await
        })
    }

    /// Sends one request over h2c; the answer's body is still to come.
    pub(crate) fn http2_stream(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        let stream = self.connect();
        let (shard, spawner) = (self.shard.clone(), self.shard.0.spawner.clone());
        self.run(async move {
            let executor = ClientTasks(shard);
            let (mut sender, connection) = http2::handshake(executor, stream).await.unwrap();
            spawner.spawn_local(async move { drop(connection.await) }).unwrap();
            sender.send_request(request).await.unwrap()
        })
    }

    /// Sends bytes as they are; what comes back until the server closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let bytes = bytes.to_vec();
        self.run(async move {
            write_all(&mut stream, &bytes).await;
            read_to_end(&mut stream).await
        })
    }
}

#[derive(Clone)]
struct ClientTasks(Shard);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for ClientTasks {
    fn execute(&self, task: F) {
        self.0.0.spawner.spawn_local(task).unwrap();
    }
}

async fn whole(response: http::Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Answer { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers }
}

pub(crate) async fn write_all(stream: &mut End, mut bytes: &[u8]) {
    use hyper::rt::Write;
    use std::pin::Pin;
    while !bytes.is_empty() {
        let count = poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes)).await;
        // The server may close before it has read everything.
        let Ok(count) = count else { return };
        bytes = &bytes[count..];
    }
}

pub(crate) async fn read_some(stream: &mut End) -> Vec<u8> {
    use hyper::rt::{Read, ReadBuf};
    use std::pin::Pin;
    let mut space = [0; 4096];
    let mut buffer = ReadBuf::new(&mut space);
    poll_fn(|context| Pin::new(&mut *stream).poll_read(context, buffer.unfilled())).await.unwrap();
    buffer.filled().to_vec()
}

pub(crate) async fn read_to_end(stream: &mut End) -> String {
    let mut bytes = Vec::new();
    loop {
        let some = read_some(stream).await;
        if some.is_empty() {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        bytes.extend(some);
    }
}

/// A request with headers.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "pyrite");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// A call with a JSON body in tenant `t`.
pub(crate) fn json_call(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request("POST", path, &[("content-type", "application/json"), ("x-scope-orgid", "t")], body)
}

/// `gzip -1`.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Undoes gzip.
pub(crate) fn gunzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut inflated = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut inflated).unwrap();
    inflated
}
