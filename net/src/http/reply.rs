//! Replies: bodies, errors in both of Pyroscope's shapes, compression.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use proto::rpc::{Code, Failure};

use super::app::HttpFailure;
use super::gzip;
use super::rope::Rope;
use crate::budget::{Held, ShardBudget};
use crate::runtime::Spawn;

/// Smaller bodies fit one packet anyway.
const COMPRESSED_BODY_BYTES_MIN: usize = 1400;

/// What a client that was refused for lack of room should wait, seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// [`Failure::reason`] of a body over its limit.
pub(super) const BODY_TOO_LARGE_REASON: &str = "body_too_large";

/// A whole reply.
pub(super) type Reply = Response<ReplyBody>;

/// A body whose bytes are all known, in blocks.
#[derive(Debug, Default)]
pub(super) struct ReplyBody {
    blocks: VecDeque<Bytes>,
    bytes: u64,
    held: Rc<Vec<Held>>,
}

impl ReplyBody {
    /// A body of blocks; `held` accounts them until the last one is sent.
    pub(super) fn of_blocks(blocks: Vec<Bytes>, held: Vec<Held>) -> Self {
        let bytes = blocks.iter().map(|block| block.len() as u64).sum();
        Self { blocks: blocks.into(), bytes, held: Rc::new(held) }
    }
}

impl<B: Into<Bytes>> From<B> for ReplyBody {
    fn from(bytes: B) -> Self {
        Self::of_blocks(vec![bytes.into()], Vec::new())
    }
}

impl Body for ReplyBody {
    type Data = Block;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Block>, Infallible>>> {
        let Some(bytes) = self.blocks.pop_front() else { return Poll::Ready(None) };
        self.bytes -= bytes.len() as u64;
        let block = Block { bytes, _held: Rc::clone(&self.held) };
        Poll::Ready(Some(Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}

/// A block on its way. It carries the account of its body: hyper drops the body as soon as it has the last block, and keeps
/// the blocks for as long as a slow client takes to read them.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Bytes,
    _held: Rc<Vec<Held>>,
}

impl Buf for Block {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// A reply with a body.
pub(super) fn full(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A reply without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::default());
    *reply.status_mut() = status;
    reply
}

/// 405 of a path that exists.
pub(super) fn wrong_method(allowed: &'static str) -> Reply {
    let mut reply = empty(StatusCode::METHOD_NOT_ALLOWED);
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// 415 of a procedure; tells what it takes.
pub(super) fn unknown_content_type() -> Reply {
    const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
    let mut reply = empty(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    reply
        .headers_mut()
        .insert(ACCEPT_POST, HeaderValue::from_static("application/json, application/proto"));
    reply
}

/// 404 of a path that doesn't exist.
pub(super) fn unknown_path() -> Reply {
    full(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".into())
}

/// The failure of a Connect unary call.
pub(super) fn connect_failure(failure: &Failure) -> Reply {
    failed(failure.code.connect_http_status(), failure)
}

/// The failure of a plain route.
pub(super) fn plain_failure(http_failure: &HttpFailure) -> Reply {
    let mut reply = failed(http_failure.status, &http_failure.failure);
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

fn failed(status: u16, failure: &Failure) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = full(status, "application/json", failure.to_json().into());
    // Retrying helps where room comes back by itself; what is too large stays so.
    if failure.reason != BODY_TOO_LARGE_REASON
        && matches!(failure.code, Code::ResourceExhausted | Code::Unavailable)
    {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    }
    reply
}

/// Compresses the reply's body if the client takes that and it is worth it. What goes out is accounted until it is sent, without
/// asking for room: it is there already.
pub(super) async fn compressed(
    rt: &impl Spawn,
    budget: &ShardBudget,
    request: &HeaderMap,
    reply: Reply,
) -> Reply {
    let bytes = reply.body().bytes as usize;
    if bytes < COMPRESSED_BODY_BYTES_MIN {
        return reply;
    }
    let (mut head, mut body) = reply.into_parts();
    if body.held.is_empty() {
        body.held = Rc::new(vec![budget.hold(bytes as u64)]);
    }
    if !accepts_gzip(request) {
        return Response::from_parts(head, body);
    }
    // Every block goes out a little larger than it came in at the worst.
    let out = Rope::new(budget.clone(), usize::MAX, bytes as u64);
    if let Some((blocks, held)) = gzip::deflate(rt, body.blocks.make_contiguous(), out).await {
        head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        body = ReplyBody::of_blocks(blocks, held);
    }
    Response::from_parts(head, body)
}

/// Whether `Accept-Encoding` names gzip without refusing it (`gzip;q=0`).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|part| {
                part.strip_prefix("q=")
                    .is_some_and(|q| q.trim().parse().is_ok_and(|q: f32| q == 0.0))
            });
            (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
        })
}

#[cfg(test)]
mod tests;
