//! Reads request bodies within a size, a time and the memory budget.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, poll_immediate, select};
use http_body_util::BodyExt;
use hyper::body::Body;
use proto::rpc::Failure;

use super::rope::{Rope, RopeError};
use crate::budget::ShardBudget;
use crate::runtime::Clock;

/// Bounds of one body.
#[derive(Clone, Debug)]
pub(super) struct BodyLimits {
    /// Most bytes of the body.
    pub(super) bytes_max: usize,
    /// Longest time from the head to the body's end.
    pub(super) timeout: Duration,
    /// Where its bytes are accounted.
    pub(super) budget: ShardBudget,
}

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Longer than the limit, as claimed or as received.
    TooLarge,
    /// The memory budget is used up.
    Memory(Failure),
    /// The client stopped sending, or sent nonsense.
    Read(String),
    /// Not complete in time.
    Timeout,
    /// What encloses the message is not as the call's protocol has it.
    Call(Failure),
}

impl From<Failure> for BodyError {
    fn from(failure: Failure) -> Self {
        Self::Call(failure)
    }
}

impl From<RopeError> for BodyError {
    fn from(error: RopeError) -> Self {
        match error {
            RopeError::TooLarge => Self::TooLarge,
            RopeError::Memory(failure) => Self::Memory(failure),
        }
    }
}

/// Takes a message out of the body that carries it.
pub(super) trait Opener {
    /// Takes the body's next bytes; those of the message are appended.
    fn open(&mut self, bytes: &[u8], message: &mut Rope) -> Result<(), BodyError>;
    /// Bytes of a body at most whose message has at most so many.
    fn body_bytes_max(&self, message_bytes_max: u64) -> u64;
}

/// The body is the message.
struct Bare;

impl Opener for Bare {
    fn open(&mut self, bytes: &[u8], message: &mut Rope) -> Result<(), BodyError> {
        Ok(message.append(bytes)?)
    }

    fn body_bytes_max(&self, message_bytes_max: u64) -> u64 {
        message_bytes_max
    }
}

/// Reads a body to its end.
pub(super) async fn read<B>(
    clock: &impl Clock,
    body: B,
    limits: &BodyLimits,
) -> Result<Rope, BodyError>
where
    B: Body<Data = Bytes, Error: std::fmt::Display>,
{
    read_message(clock, body, limits, &mut Bare).await
}

/// Reads the message in a body, to the body's end. The limits are the message's.
pub(super) async fn read_message<B>(
    clock: &impl Clock,
    body: B,
    limits: &BodyLimits,
    opener: &mut impl Opener,
) -> Result<Rope, BodyError>
where
    B: Body<Data = Bytes, Error: std::fmt::Display>,
{
    // A client that tells of too large a body is refused before it sends it.
    if body.size_hint().lower() > opener.body_bytes_max(limits.bytes_max as u64) {
        return Err(BodyError::TooLarge);
    }
    let collected = collect(body, limits, opener);
    within(clock, limits.timeout, collected).await.unwrap_or(Err(BodyError::Timeout))
}

async fn collect<B>(
    body: B,
    limits: &BodyLimits,
    opener: &mut impl Opener,
) -> Result<Rope, BodyError>
where
    B: Body<Data = Bytes, Error: std::fmt::Display>,
{
    let mut rope = Rope::new(limits.budget.clone(), limits.bytes_max, body.size_hint().lower());
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Read(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            // Copied, because a frame is a view of the connection's read buffer: many small frames would keep many buffers.
            opener.open(&data, &mut rope)?;
        }
    }
    Ok(rope)
}

/// Body of a refused push that is read and thrown away, at most: then the client sees the answer and the connection goes on. What
/// is longer costs more than a connection; that one is closed.
const DISCARDED_BYTES_MAX: u64 = 256 << 10;

/// How long a refused client may take to send its body.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// Reads a body that nobody wants, where it is short.
pub(super) async fn discard<B>(clock: &impl Clock, body: B)
where
    B: Body<Data = Bytes>,
{
    if body.size_hint().exact().is_none_or(|bytes| bytes > DISCARDED_BYTES_MAX) {
        return;
    }
    let mut body = pin!(body);
    let discarded = async { while let Some(Ok(_)) = body.frame().await {} };
    // Where it is late the connection is closed, too.
    let _ = within(clock, DISCARD_TIME_MAX, discarded).await;
}

/// The future's output, or `None` after `limit`.
pub(super) async fn within<T>(
    clock: &impl Clock,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    // Most bodies are there already when they are asked for; those need no timer.
    if let Some(output) = poll_immediate(future.as_mut()).await {
        return Some(output);
    }
    match select(future, pin!(clock.sleep(limit))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}

#[cfg(test)]
mod tests;
