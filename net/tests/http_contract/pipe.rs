//! A stream in memory: two ends, each with hyper's traits.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::rt::ReadBufCursor;

/// Bytes one direction holds, as a socket's buffer does.
const CAPACITY: usize = 64 << 10;

#[derive(Debug, Default)]
struct Direction {
    bytes: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct End {
    incoming: Rc<RefCell<Direction>>,
    outgoing: Rc<RefCell<Direction>>,
}

/// A pair of ends.
pub(crate) fn pipe() -> (End, End) {
    let (a, b) = (Rc::<RefCell<Direction>>::default(), Rc::<RefCell<Direction>>::default());
    (End { incoming: a.clone(), outgoing: b.clone() }, End { incoming: b, outgoing: a })
}

impl Drop for End {
    fn drop(&mut self) {
        for direction in [&self.incoming, &self.outgoing] {
            let mut direction = direction.borrow_mut();
            direction.closed = true;
            direction.wake();
        }
    }
}

impl hyper::rt::Read for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.bytes.is_empty() && !incoming.closed {
            incoming.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = into.remaining().min(incoming.bytes.len());
        let taken: Vec<u8> = incoming.bytes.drain(..count).collect();
        into.put_slice(&taken);
        incoming.wake();
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(CAPACITY - outgoing.bytes.len());
        if count == 0 {
            outgoing.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        outgoing.bytes.extend(&bytes[..count]);
        outgoing.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.closed = true;
        outgoing.wake();
        Poll::Ready(Ok(()))
    }
}
