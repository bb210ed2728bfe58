//! Replies: bodies, errors in both of Pyroscope's shapes, compression.

use std::any::Any;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_channel::mpsc;
use futures_util::StreamExt as _;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use proto::rpc::{Code, Failure, Retry};

use super::app::HttpFailure;
use super::grpc::TextWriter;
use super::gzip;
use super::protocol::Form;
use super::rope::Rope;
use super::sending::Answer;
use crate::budget::{Held, ShardBudget};
use crate::runtime::Spawn;

/// Smaller bodies fit one packet anyway.
const COMPRESSED_BODY_BYTES_MIN: usize = 1400;

/// What a client that was refused for lack of room should wait where nobody knows better, seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The longest that a client is told to wait, seconds: a bucket far in debt may be given a higher rate before.
const RETRY_AFTER_SECONDS_MAX: u64 = 600;

/// [`Failure::reason`] of a body over its limit.
pub(super) const BODY_TOO_LARGE_REASON: &str = "body_too_large";

/// A whole reply.
pub(super) type Reply = Response<ReplyBody>;

/// Bytes of a block that is written as base64 in one poll: 0.1 ms.
const TEXT_BLOCK_BYTES: usize = 96 << 10;

/// A body whose bytes are all known, in blocks, and the trailers after it.
#[derive(Debug, Default)]
pub(super) struct ReplyBody {
    blocks: VecDeque<Bytes>,
    bytes: u64,
    held: Rc<Vec<Held>>,
    /// Tells that the body is on its way; goes with its last block.
    answer: Option<Rc<Answer>>,
    /// Writes blocks as base64 when they go out.
    text: Option<TextWriter>,
    trailers: Option<HeaderMap>,
    stream: Option<Stream>,
}

/// The rest of a body whose bytes are not known yet.
struct Stream {
    frames: mpsc::Receiver<StreamFrame>,
    /// Goes with the body: what counts the request as running.
    running: Option<Box<dyn Any>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

/// What a streaming body is made of.
#[derive(Debug)]
pub(super) enum StreamFrame {
    /// Bytes.
    Data(Bytes),
    /// Trailers; nothing follows.
    Trailers(HeaderMap),
}

impl ReplyBody {
    /// A body of blocks; `held` accounts them until the last one is sent.
    pub(super) fn of_blocks(blocks: Vec<Bytes>, held: Vec<Held>) -> Self {
        let bytes = blocks.iter().map(|block| block.len() as u64).sum();
        Self { blocks: blocks.into(), bytes, held: Rc::new(held), ..Self::default() }
    }

    /// A body that comes as it is sent.
    pub(super) fn of_stream(frames: mpsc::Receiver<StreamFrame>) -> Self {
        Self { stream: Some(Stream { frames, running: None }), ..Self::default() }
    }

    /// Keeps `running` until a streaming body has ended. A body whose bytes are known runs no more: it is on its way, from
    /// `begin` to its last block.
    pub(super) fn keep(&mut self, running: impl Any, begin: impl FnOnce() -> Answer) {
        match &mut self.stream {
            Some(stream) => stream.running = Some(Box::new(running)),
            None => self.answer = Some(Rc::new(begin())),
        }
    }

    /// Bytes to come, before they are written as text.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts a block first.
    pub(super) fn prepend(&mut self, block: Bytes) {
        self.bytes += block.len() as u64;
        self.blocks.push_front(block);
    }

    /// Puts a block last.
    pub(super) fn append(&mut self, block: Bytes) {
        self.bytes += block.len() as u64;
        self.blocks.push_back(block);
    }

    /// Trailers to send after the last block.
    pub(super) fn set_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = Some(trailers);
    }

    /// Sends the body as base64. It is written block by block as it goes out, and takes no memory until then.
    pub(super) fn write_as_text(&mut self) {
        self.text = Some(TextWriter::default());
    }

    fn next_block(&mut self) -> Option<Bytes> {
        let Some(text) = &mut self.text else {
            let block = self.blocks.pop_front()?;
            self.bytes -= block.len() as u64;
            return Some(block);
        };
        let Some(block) = self.blocks.front_mut() else {
            let rest = text.finish();
            self.text = None;
            return Some(rest);
        };
        let bytes = block.split_to(block.len().min(TEXT_BLOCK_BYTES));
        if block.is_empty() {
            self.blocks.pop_front();
        }
        self.bytes -= bytes.len() as u64;
        Some(text.write(&bytes))
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
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Block>, Infallible>>> {
        if let Some(stream) = &mut self.stream {
            let frame = ready!(stream.frames.poll_next_unpin(context));
            return Poll::Ready(frame.map(|frame| {
                Ok(match frame {
                    StreamFrame::Data(bytes) => {
                        Frame::data(Block { bytes, _held: Rc::default(), _answer: None })
                    }
                    StreamFrame::Trailers(trailers) => Frame::trailers(trailers),
                })
            }));
        }
        let frame = match self.next_block() {
            Some(bytes) => {
                let (held, answer) = (Rc::clone(&self.held), self.answer.clone());
                Some(Frame::data(Block { bytes, _held: held, _answer: answer }))
            }
            None => self.trailers.take().map(Frame::trailers),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes == 0 && self.text.is_none() && self.trailers.is_none() && self.stream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // `content-length` is the length of all; text is longer than its bytes, and before trailers nobody tells it.
        if self.text.is_none() && self.trailers.is_none() && self.stream.is_none() {
            SizeHint::with_exact(self.bytes)
        } else {
            SizeHint::default()
        }
    }
}

/// A block on its way. It carries the account of its body: hyper drops the body as soon as it has the last block, and keeps
/// the blocks for as long as a slow client takes to read them.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Bytes,
    _held: Rc<Vec<Held>>,
    _answer: Option<Rc<Answer>>,
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

/// The answer to a HEAD: all that a GET's has but the body, whose length it tells.
pub(super) fn without_body(reply: Reply) -> Reply {
    let (mut head, body) = reply.into_parts();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.bytes));
    Response::from_parts(head, ReplyBody::default())
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
    let accepted = HeaderValue::try_from(Form::accepted()).expect("content types are ASCII");
    reply.headers_mut().insert(ACCEPT_POST, accepted);
    reply
}

/// 505 of a gRPC call over HTTP/1.1, which has no trailers that clients read.
pub(super) fn wants_http2() -> Reply {
    const TEXT: &str = "gRPC requires HTTP/2; gRPC-Web and Connect do not\n";
    full(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "text/plain; charset=utf-8", TEXT.into())
}

/// 404 of a path that doesn't exist.
pub(super) fn unknown_path() -> Reply {
    full(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".into())
}

/// The failure of a plain route.
pub(super) fn plain_failure(http_failure: &HttpFailure) -> Reply {
    let mut reply = failed(http_failure.status, &http_failure.failure);
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// A failure in JSON.
pub(super) fn failed(status: u16, failure: &Failure) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = full(status, "application/json", failure.to_json().into());
    set_retry_after(reply.headers_mut(), failure);
    reply
}

/// Retrying helps where room comes back by itself; what is too large stays so.
pub(super) fn set_retry_after(headers: &mut HeaderMap, failure: &Failure) {
    if !matches!(failure.code, Code::ResourceExhausted | Code::Unavailable) {
        return;
    }
    let seconds = match failure.retry {
        Retry::Never => return,
        Retry::Soon => RETRY_AFTER_SECONDS,
        // Whole seconds, and never too early.
        Retry::After(wait) => wait.as_secs() + u64::from(wait.subsec_nanos() > 0),
    };
    let seconds = seconds.clamp(RETRY_AFTER_SECONDS, RETRY_AFTER_SECONDS_MAX);
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
}

/// Compresses the reply's body if the client takes that and it is worth it.
pub(super) async fn compressed(
    rt: &impl Spawn,
    budget: &ShardBudget,
    request: &HeaderMap,
    reply: Reply,
) -> Reply {
    let (mut head, body) = reply.into_parts();
    let (body, compressed) = compressed_body(rt, budget, accepts_gzip(request), body).await;
    if compressed {
        head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Response::from_parts(head, body)
}

/// A body that is compressed if that is `wanted` and worth it, and whether it is. What goes out is accounted until it is sent,
/// without asking for room: it is there already.
pub(super) async fn compressed_body(
    rt: &impl Spawn,
    budget: &ShardBudget,
    wanted: bool,
    mut body: ReplyBody,
) -> (ReplyBody, bool) {
    let bytes = body.bytes as usize;
    if bytes < COMPRESSED_BODY_BYTES_MIN {
        return (body, false);
    }
    if body.held.is_empty() {
        body.held = Rc::new(vec![budget.hold(bytes as u64)]);
    }
    if !wanted {
        return (body, false);
    }
    // Every block goes out a little larger than it came in at the worst.
    let out = Rope::new(budget.clone(), usize::MAX, bytes as u64);
    match gzip::deflate(rt, body.blocks.make_contiguous(), out).await {
        Some((blocks, held)) => (ReplyBody::of_blocks(blocks, held), true),
        None => (body, false),
    }
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
