//! Answers on their way to a client, and how long they have been: what `-server.http-write-timeout` bounds.
//!
//! An answer is on its way until its last block is written. hyper copies small blocks and tells nobody when they are out, so the
//! connection's stream is watched, too: it counts from a write that had to wait until everything written is out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::runtime::Clock;

/// What one connection sends.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// When answers that are not sent yet were made, oldest first; `None` for those that are sent behind one that is not. As
    /// many as requests may run on a connection.
    answers: RefCell<VecDeque<Option<u64>>>,
    /// Number of the first of them.
    first: Cell<u64>,
    /// When a write of bytes that are not out yet began to wait.
    blocked_since_ns: Cell<Option<u64>>,
}

impl Sending {
    /// An answer is made; it is sent when what is given back is dropped.
    pub(super) fn begin(self: &Rc<Self>, now_ns: u64) -> Answer {
        let mut answers = self.answers.borrow_mut();
        answers.push_back(Some(now_ns));
        Answer { sending: Rc::clone(self), number: self.first.get() + answers.len() as u64 - 1 }
    }

    /// Since when the oldest answer has been on its way.
    pub(super) fn since_ns(&self) -> Option<u64> {
        let oldest = self.answers.borrow().front().copied().flatten();
        [oldest, self.blocked_since_ns.get()].into_iter().flatten().min()
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Answer {
    sending: Rc<Sending>,
    number: u64,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Sending { answers, first, .. } = &*self.sending;
        let mut answers = answers.borrow_mut();
        answers[(self.number - first.get()) as usize] = None;
        while answers.front().is_some_and(Option::is_none) {
            answers.pop_front();
            first.set(first.get() + 1);
        }
    }
}

/// A connection's stream; tells [`Sending`] of writes that wait.
#[derive(Debug)]
pub(super) struct Watched<S, C> {
    stream: S,
    clock: C,
    sending: Rc<Sending>,
}

impl<S, C: Clock> Watched<S, C> {
    pub(super) fn new(stream: S, clock: C, sending: Rc<Sending>) -> Self {
        Self { stream, clock, sending }
    }

    fn noted<T>(&self, polled: Poll<T>) -> Poll<T> {
        let blocked = &self.sending.blocked_since_ns;
        if polled.is_pending() && blocked.get().is_none() {
            blocked.set(Some(self.clock.now_ns()));
        }
        polled
    }
}

/// Only the stream is ever pinned.
impl<S: Unpin, C> Unpin for Watched<S, C> {}

impl<S: Read + Unpin, C> Read for Watched<S, C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: Write + Unpin, C: Clock> Write for Watched<S, C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(polled)
    }

    /// hyper calls this when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if polled.is_ready() {
            self.sending.blocked_since_ns.set(None);
        }
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.noted(polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_answer_that_is_not_sent_counts_in_whatever_order_they_end() {
        let sending = Rc::new(Sending::default());
        let [first, second, third] = [10, 20, 30].map(|now_ns| sending.begin(now_ns));
        drop(second);
        assert_eq!(sending.since_ns(), Some(10));
        drop(first);
        assert_eq!(sending.since_ns(), Some(30));
        let fourth = sending.begin(40);
        drop(third);
        assert_eq!(sending.since_ns(), Some(40));
        drop(fourth);
        assert_eq!(sending.since_ns(), None);
        assert!(sending.answers.borrow().is_empty(), "what is sent is forgotten");
    }
}
