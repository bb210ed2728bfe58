//! What an appended record waits for: the outcome of its group.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use proto::rpc::Failure;

/// The one outcome all records of a group share.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    result: RefCell<Option<Result<(), Failure>>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Outcome {
    /// Tells everyone; the first telling stands.
    pub(super) fn tell(&self, result: Result<(), Failure>) {
        self.result.borrow_mut().get_or_insert(result);
        let waiting = self.waiting.take();
        for waker in waiting {
            waker.wake();
        }
    }
}

/// Resolves when the record is as durable as `-wal.ack` promises.
///
/// `Err` leaves it in doubt: the record may or may not be there after a restart, but it will never be there twice.
#[derive(Debug)]
#[must_use = "a record is acknowledged only after its group is synced"]
pub struct Pending {
    segment: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// `-wal.ack=memory`.
    Acknowledged,
    Waiting {
        outcome: Rc<Outcome>,
        /// Place of this waiter's waker, once it has one.
        place: Option<usize>,
    },
}

impl Pending {
    /// Of a record in `segment`.
    pub(super) fn acknowledged(segment: u64) -> Self {
        Self { segment, state: State::Acknowledged }
    }

    /// Of a record in `segment`, whose group ends so.
    pub(super) fn on(segment: u64, outcome: &Rc<Outcome>) -> Self {
        Self { segment, state: State::Waiting { outcome: Rc::clone(outcome), place: None } }
    }

    /// The segment that the record is in; it is kept until [`super::Log::applied`] says whose head has the record, and from then
    /// on as long as only heads have it.
    pub fn segment(&self) -> u64 {
        self.segment
    }
}

impl Future for Pending {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let State::Waiting { outcome, place } = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        if let Some(result) = &*outcome.result.borrow() {
            return Poll::Ready(result.clone());
        }
        let mut waiting = outcome.waiting.borrow_mut();
        if let Some(place) = *place {
            waiting[place].clone_from(context.waker());
        } else {
            *place = Some(waiting.len());
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}
