//! Long passes that talk to their driver: an `async fn` that writes bytes out or asks for bytes, driven step by step.
//!
//! ```text
//! driver: step ─► More                   give others a turn, step again
//!                 Asked(question)        do the I/O, then answer
//!                 Done(result)
//! pass:   port.ask(question).await ─► answer        pace.spend(n).await as everywhere
//! ```
//! Encoders and decoders of blocks are straight code with loops inside loops; as hand-written state machines they could not be
//! read. Like [`crate::pace`] this needs no runtime: the pass is polled with a waker that does nothing.
//!
//! Not here: any I/O. The question says what is wanted, the driver decides how.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What a step led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<Q, T> {
    /// A stretch of work is done: others may have a turn.
    More,
    /// The pass goes on when this is answered.
    Asked(Q),
    /// The pass has ended.
    Done(T),
}

/// A pass and its driver's end of the port.
pub struct Machine<Q, A, T> {
    pass: Pin<Box<dyn Future<Output = T>>>,
    port: Port<Q, A>,
}

/// The pass's end: it asks, and tells how much memory it holds.
pub struct Port<Q, A> {
    shared: Rc<Shared<Q, A>>,
}

struct Shared<Q, A> {
    slot: RefCell<Slot<Q, A>>,
    bytes_held: Cell<usize>,
}

enum Slot<Q, A> {
    Idle,
    Asked(Q),
    Waiting,
    Answered(A),
}

impl<Q: 'static, A: 'static, T> Machine<Q, A, T> {
    /// Begins a pass; nothing happens before the first step.
    pub fn new<F: Future<Output = T> + 'static>(pass: impl FnOnce(Port<Q, A>) -> F) -> Self {
        let slot = RefCell::new(Slot::Idle);
        let shared = Rc::new(Shared { slot, bytes_held: Cell::new(0) });
        let port = Port { shared };
        Self { pass: Box::pin(pass(Port { shared: Rc::clone(&port.shared) })), port }
    }

    /// Goes on for one stretch. A question must be answered before the next step, and `Done` is the last.
    pub fn step(&mut self) -> Event<Q, T> {
        assert!(
            !matches!(*self.port.shared.slot.borrow(), Slot::Waiting),
            "a question is answered before the next step"
        );
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = self.pass.as_mut().poll(&mut context) {
            return Event::Done(result);
        }
        let mut slot = self.port.shared.slot.borrow_mut();
        match std::mem::replace(&mut *slot, Slot::Idle) {
            Slot::Asked(question) => {
                *slot = Slot::Waiting;
                Event::Asked(question)
            }
            other => {
                *slot = other;
                Event::More
            }
        }
    }

    /// Answers the question of the last step.
    pub fn answer(&mut self, answer: A) {
        let before = self.port.shared.slot.replace(Slot::Answered(answer));
        assert!(matches!(before, Slot::Waiting), "an answer follows a question");
    }

    /// Heap bytes that the pass holds, as it last told.
    pub fn bytes_held(&self) -> usize {
        self.port.shared.bytes_held.get()
    }
}

impl<Q, A> Port<Q, A> {
    /// Asks, and waits for the answer. One question at a time.
    pub async fn ask(&self, question: Q) -> A {
        let before = self.shared.slot.replace(Slot::Asked(question));
        assert!(matches!(before, Slot::Idle), "a pass asks one question at a time");
        poll_fn(|_| match self.shared.slot.replace(Slot::Idle) {
            Slot::Answered(answer) => Poll::Ready(answer),
            other => {
                self.shared.slot.replace(other);
                Poll::Pending
            }
        })
        .await
    }

    /// Tells how many heap bytes the pass holds.
    pub fn note_bytes_held(&self, bytes: usize) {
        self.shared.bytes_held.set(bytes);
    }
}

impl<Q, A, T> fmt::Debug for Machine<Q, A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes_held = self.port.shared.bytes_held.get();
        f.debug_struct("Machine").field("bytes_held", &bytes_held).finish_non_exhaustive()
    }
}

impl<Q, A> fmt::Debug for Port<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Port")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Pace;

    #[test]
    fn a_pass_asks_and_takes_turns() {
        let mut machine: Machine<u32, u32, u32> = Machine::new(|port| async move {
            let pace = Pace::new();
            let mut sum = 0;
            for question in 0..3 {
                pace.turn().await;
                sum += port.ask(question).await;
                port.note_bytes_held(sum as usize);
            }
            sum
        });
        let (mut turns, mut asked) = (0, Vec::new());
        let sum = loop {
            match machine.step() {
                Event::More => turns += 1,
                Event::Asked(question) => {
                    asked.push(question);
                    machine.answer(question * 10);
                }
                Event::Done(sum) => break sum,
            }
        };
        assert_eq!((sum, turns, asked), (30, 3, vec![0, 1, 2]));
        assert_eq!(machine.bytes_held(), 30);
    }
}
