//! The routes, one file a kind; each turns a request into calls of [`super::Api`] and their outcome into a reply.
//!
//! The connection's task (class `Rpc`) reads the body, and hands short pushes on; everything else runs as a task of the class of the
//! work and ends with the connection, so a client that goes away frees what it asked for.

pub(super) mod health;
pub(super) mod ingest;
pub(super) mod render;
pub(super) mod rpc;
pub(super) mod status;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use futures_channel::oneshot;
use proto::rpc::{Code, Failure, Retry};

use super::app::Api;
use super::body::BodyError;
use super::gzip::InflateError;
use super::reply;
use super::rope::RopeError;
use super::server::Server;
use crate::runtime::{Class, Spawn};

/// Text of a body over its limit; the second half is what Go's HTTP library says.
const BODY_TOO_LARGE: &str = "request body too large: http: request body too large";

/// Runs work as a task of its class; dropping the future drops the work.
async fn run_in<T: 'static>(
    rt: &impl Spawn,
    class: Class,
    work: impl Future<Output = T> + 'static,
) -> Result<T, Failure> {
    let (mut sender, receiver) = oneshot::channel();
    rt.spawn(class, async move {
        let mut work = pin!(work);
        let output = poll_fn(|context| {
            if sender.poll_canceled(context).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await;
        if let Some(output) = output {
            // A caller that went away in this very moment needs no answer.
            let _ = sender.send(output);
        }
    });
    receiver.await.map_err(|_| unavailable("the server is stopping".to_owned()))
}

/// Refuses reads until the data of earlier runs is readable.
fn check_ready<R, A: Api>(server: &Server<R, A>) -> Result<(), Failure> {
    server.api.readiness().map_err(unavailable)
}

fn unavailable(message: String) -> Failure {
    Failure::new(Code::Unavailable, "", message)
}

/// What the client of a procedure is told of a body that was not read.
fn body_failure(error: BodyError) -> Failure {
    let failure = |code, message| Failure::new(code, "", message);
    match error {
        BodyError::TooLarge => {
            Failure::new(Code::ResourceExhausted, reply::BODY_TOO_LARGE_REASON, BODY_TOO_LARGE)
                .with_retry(Retry::Never)
        }
        BodyError::Memory(failure) | BodyError::Call(failure) => failure,
        BodyError::Read(text) => failure(Code::InvalidArgument, format!("read message: {text}")),
        BodyError::Timeout => failure(
            Code::DeadlineExceeded,
            "read message: the body was not sent in time".to_owned(),
        ),
    }
}

fn inflate_failure(error: InflateError) -> Failure {
    match error {
        InflateError::Gzip(error) => {
            Failure::new(Code::InvalidArgument, "", format!("decompress: {error}"))
        }
        InflateError::Rope(RopeError::TooLarge) => body_failure(BodyError::TooLarge),
        InflateError::Rope(RopeError::Memory(failure)) => failure,
    }
}
