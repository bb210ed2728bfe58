//! gRPC's health checking: `/ready` for load balancers and orchestrators that speak gRPC.
//!
//! As in Pyroscope the name of the service is not looked at: a process serves all of its services or none. Pyroscope has no
//! `Watch` ("unimplemented"); here it is the state now, and again whenever it changes, for as long as [`WATCH_TIME`].

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::mpsc;
use http::Request;
use hyper::body::Incoming;
use proto::health::health_check_response::ServingStatus;
use proto::health::{HealthCheckRequest, HealthCheckResponse};
use proto::rpc::{Code, Failure};

use super::{body_failure, rpc, unavailable};
use crate::http::app::Api;
use crate::http::body;
use crate::http::grpc;
use crate::http::protocol::{Form, Protocol};
use crate::http::reply::{self, Reply, StreamFrame};
use crate::http::server::Server;
use crate::runtime::{Class, Clock, Spawn};

/// Watches of one shard; more are refused. A balancer keeps one for each of its own processes.
const WATCHES_MAX: usize = 64;

/// How often a watch looks. A change is told so late.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a watch lasts, so that one whose client is gone without a word ends at some time.
const WATCH_TIME: Duration = Duration::from_hours(1);

/// Changes that a client may leave unread; after that its watch ends.
const UNREAD_MAX: usize = 8;

/// Answers `Check`.
pub(in crate::http) async fn check<R, A>(
    server: &Rc<Server<R, A>>,
    request: Request<Incoming>,
) -> Reply
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let form = match rpc::form_of(&request) {
        Ok(form) => form,
        Err(formless) => return formless.reply(),
    };
    let (head, body) = request.into_parts();
    match asked(server, form, &head.headers, body).await {
        Ok(()) => {
            let message = form.codec.encode(&response(status_of(server)));
            form.success(&server.rt, &server.budget, &head.headers, message).await
        }
        Err(failure) => form.failure(&failure),
    }
}

/// Answers `Watch`.
pub(in crate::http) async fn watch<R, A>(
    server: &Rc<Server<R, A>>,
    request: Request<Incoming>,
) -> Reply
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let form = match rpc::form_of(&request) {
        // Connect has content types of its own for streams.
        Ok(form) if form.protocol == Protocol::Connect => return reply::unknown_content_type(),
        Ok(form) => form,
        Err(formless) => return formless.reply(),
    };
    let (head, body) = request.into_parts();
    if let Err(failure) = asked(server, form, &head.headers, body).await {
        return form.failure(&failure);
    }
    let Some(watch) = Watch::begin(server) else {
        return form.failure(&Failure::new(
            Code::ResourceExhausted,
            "",
            format!("{WATCHES_MAX} watches are open already; use Check"),
        ));
    };
    let (sender, frames) = mpsc::channel(UNREAD_MAX);
    server.rt.spawn(Class::Rpc, watch.run(form, sender));
    grpc::stream(form, frames)
}

/// Reads the request, which has nothing that matters.
async fn asked<R, A>(
    server: &Rc<Server<R, A>>,
    form: Form,
    headers: &http::HeaderMap,
    body: Incoming,
) -> Result<(), Failure>
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    // Clients end a watch themselves when their time is over.
    form.timeout(headers)?;
    let limits = server.query_body_limits();
    let mut opener = form.opener(headers, limits.bytes_max)?;
    let received = body::read_message(&server.rt, body, &limits, &mut opener).await;
    let (received, encoding) = (received.map_err(body_failure)?, opener.encoding()?);
    let message = rpc::decoded(&server.rt, encoding, received, limits).await?;
    let bytes: Bytes = message.join(&server.rt).await?.bytes;
    form.codec.decode::<HealthCheckRequest>(bytes).map(drop)
}

fn status_of<R, A: Api>(server: &Server<R, A>) -> ServingStatus {
    match server.api.readiness() {
        Ok(()) => ServingStatus::Serving,
        Err(_) => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// One of the open watches.
struct Watch<R: Clock + Spawn + Clone + 'static, A: Api>(Rc<Server<R, A>>);

impl<R: Clock + Spawn + Clone + 'static, A: Api> Watch<R, A> {
    fn begin(server: &Rc<Server<R, A>>) -> Option<Self> {
        let open = server.counters.health_watches();
        if open >= WATCHES_MAX {
            return None;
        }
        server.counters.set_health_watches(open + 1);
        Some(Self(server.clone()))
    }

    /// Tells changes until the client goes, the server drains or the time is over.
    async fn run(self, form: Form, mut sender: mpsc::Sender<StreamFrame>) {
        let Self(server) = &self;
        let begun_ns = server.rt.now_ns();
        let mut told = None;
        while !sender.is_closed() {
            let status = status_of(server);
            let mut unread = Ok(());
            if told != Some(status) {
                let message = form.codec.encode(&response(status)).concat();
                unread = sender.try_send(grpc::stream_message(form, &message));
                told = Some(status);
            }
            let watched = Duration::from_nanos(server.rt.now_ns().saturating_sub(begun_ns));
            let over = match () {
                () if unread.is_err() => "changes were not read",
                () if server.is_draining() => "the server is stopping",
                () if watched >= WATCH_TIME => "watch again",
                () => {
                    server.rt.sleep(WATCH_INTERVAL).await;
                    continue;
                }
            };
            // A client that reads nothing is not told why, either.
            let _ = sender.try_send(grpc::stream_end(form, &unavailable(over.to_owned())));
            return;
        }
    }
}

impl<R: Clock + Spawn + Clone + 'static, A: Api> Drop for Watch<R, A> {
    fn drop(&mut self) {
        let others = self.0.counters.health_watches().checked_sub(1);
        self.0.counters.set_health_watches(others.expect("a watch ends once"));
    }
}
