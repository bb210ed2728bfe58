//! The simulator's heart: one list of runnable tasks, one line of events in virtual time, one random stream, one trace.
//!
//! Everything that happens is a task polled or an event fired, in an order that depends on the seed alone; each leaves words
//! in the trace hash. Nothing here borrows across a poll, an event or the drop of a future: each may come back in.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::disk::DiskImage;
use super::network::Network;
use super::random::Random;

/// A simulated node, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u16);

/// Virtual nanoseconds that one poll of a task takes at most: polls are short, but never free, so busy loops pass time.
const POLL_NS_MAX: u64 = 3_000;

/// Wall clock at virtual time 0, Unix milliseconds (2026-11-24).
const UNIX_MS_AT_START: i64 = 1_795_478_400_000;

pub(super) struct Core {
    pub(super) random: Random,
    pub(super) disks: RefCell<BTreeMap<NodeId, DiskImage>>,
    pub(super) network: RefCell<Network>,
    now_ns: Cell<u64>,
    trace: Cell<u64>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    next_task: Cell<u64>,
    runnable: RefCell<Vec<u64>>,
    woken: Arc<Woken>,
    events: RefCell<BTreeMap<(u64, u64), Event>>,
    next_event: Cell<u64>,
    clock_offset_ms: RefCell<BTreeMap<NodeId, i64>>,
    /// Node whose tasks are being dropped by a crash: its connections are reset instead of closed.
    crashing: Cell<Option<NodeId>>,
}

struct Task {
    node: NodeId,
    /// Taken out while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Arc<TaskWaker>,
}

struct Event {
    node: NodeId,
    fire: Box<dyn FnOnce(&Core)>,
}

/// Tasks woken since the scheduler looked. A `Waker` must be `Send`, hence the lock in this single-threaded place.
#[derive(Default)]
struct Woken(Mutex<Vec<u64>>);

struct TaskWaker {
    task: u64,
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.woken.0.lock().expect("no holder of this lock panics").push(self.task);
        }
    }
}

impl Core {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            disks: RefCell::default(),
            network: RefCell::default(),
            now_ns: Cell::new(0),
            trace: Cell::new(seed),
            tasks: RefCell::default(),
            next_task: Cell::new(0),
            runnable: RefCell::default(),
            woken: Arc::default(),
            events: RefCell::default(),
            next_event: Cell::new(0),
            clock_offset_ms: RefCell::default(),
            crashing: Cell::new(None),
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    pub(super) fn unix_ms(&self, node: NodeId) -> i64 {
        let offset = self.clock_offset_ms.borrow().get(&node).copied().unwrap_or(0);
        UNIX_MS_AT_START + (self.now_ns.get() / 1_000_000) as i64 + offset
    }

    pub(super) fn jump_clock(&self, node: NodeId, by_ms: i64) {
        *self.clock_offset_ms.borrow_mut().entry(node).or_default() += by_ms;
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.get()
    }

    /// Folds a word of what happens into the trace.
    pub(super) fn note(&self, word: u64) {
        let mixed = (self.trace.get().rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.trace.set(mixed);
    }

    pub(super) fn spawn(&self, node: NodeId, future: impl Future<Output = ()> + 'static) {
        let task = self.next_task.get();
        self.next_task.set(task + 1);
        let waker =
            Arc::new(TaskWaker { task, queued: AtomicBool::new(true), woken: self.woken.clone() });
        let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(future);
        self.tasks.borrow_mut().insert(task, Task { node, future: Some(future), waker });
        self.runnable.borrow_mut().push(task);
    }

    /// Fires `fire` after `delay_ns` unless the node crashes first.
    pub(super) fn after(&self, node: NodeId, delay_ns: u64, fire: impl FnOnce(&Self) + 'static) {
        self.at(node, self.now_ns.get() + delay_ns, fire);
    }

    pub(super) fn at(&self, node: NodeId, time_ns: u64, fire: impl FnOnce(&Self) + 'static) {
        let number = self.next_event.get();
        self.next_event.set(number + 1);
        let event = Event { node, fire: Box::new(fire) };
        self.events.borrow_mut().insert((time_ns, number), event);
    }

    /// Runs one task or fires one event; false when nothing will ever happen again.
    pub(super) fn step(&self) -> bool {
        if self.fire_due() {
            return true;
        }
        self.collect_woken();
        let picked = {
            let mut runnable = self.runnable.borrow_mut();
            let count = runnable.len() as u64;
            (count > 0).then(|| runnable.swap_remove(self.random.below(count) as usize))
        };
        if let Some(task) = picked {
            self.poll(task);
            return true;
        }
        let next = self.events.borrow().keys().next().map(|&(time_ns, _)| time_ns);
        match next {
            Some(time_ns) => {
                self.now_ns.set(self.now_ns.get().max(time_ns));
                true
            }
            None => false,
        }
    }

    /// Virtual time of the next event, if no task can run before it.
    pub(super) fn idle_until(&self) -> Option<u64> {
        self.collect_woken();
        if !self.runnable.borrow().is_empty() {
            return None;
        }
        self.events.borrow().keys().next().map(|&(time_ns, _)| time_ns)
    }

    pub(super) fn advance_to(&self, time_ns: u64) {
        self.now_ns.set(self.now_ns.get().max(time_ns));
    }

    fn fire_due(&self) -> bool {
        let due = {
            let mut events = self.events.borrow_mut();
            match events.first_entry() {
                Some(entry) if entry.key().0 <= self.now_ns.get() => {
                    Some((entry.key().1, entry.remove()))
                }
                _ => None,
            }
        };
        let Some((number, event)) = due else { return false };
        self.note(number);
        self.note(self.now_ns.get());
        (event.fire)(self);
        true
    }

    fn collect_woken(&self) {
        let mut woken = self.woken.0.lock().expect("no holder of this lock panics");
        self.runnable.borrow_mut().append(&mut woken);
    }

    fn poll(&self, number: u64) {
        let taken = self.tasks.borrow_mut().get_mut(&number).map(|task| {
            task.waker.queued.store(false, Ordering::Relaxed);
            (task.future.take().expect("a task is polled by one at a time"), task.waker.clone())
        });
        // A task that has ended may have been woken once more.
        let Some((mut future, waker)) = taken else { return };
        self.note(number);
        self.now_ns.set(self.now_ns.get() + self.random.between(1, POLL_NS_MAX));
        let waker = Waker::from(waker);
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                let ended = self.tasks.borrow_mut().remove(&number);
                drop(ended);
            }
            Poll::Pending => {
                if let Some(task) = self.tasks.borrow_mut().get_mut(&number) {
                    task.future = Some(future);
                }
            }
        }
    }

    /// Drops every task and event of a node. Dropping runs code that may come back in, so nothing is borrowed meanwhile.
    pub(super) fn drop_node(&self, node: NodeId) {
        self.crashing.set(Some(node));
        loop {
            let task = {
                let mut tasks = self.tasks.borrow_mut();
                let number = tasks.iter().find(|(_, task)| task.node == node).map(|(n, _)| *n);
                number.and_then(|number| tasks.remove(&number))
            };
            let Some(task) = task else { break };
            drop(task);
        }
        let events = self.events.take();
        let (gone, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            events.into_iter().partition(|(_, event)| event.node == node);
        self.events.borrow_mut().extend(kept);
        drop(gone);
        self.crashing.set(None);
    }

    /// Drops every task and event.
    pub(super) fn drop_all(&self) {
        loop {
            let task = self.tasks.borrow_mut().pop_first();
            let events = self.events.take();
            if task.is_none() && events.is_empty() {
                break;
            }
        }
    }

    pub(super) fn is_crashing(&self, node: NodeId) -> bool {
        self.crashing.get() == Some(node)
    }
}

/// The result of an operation that an event completes.
pub(super) struct Completion<T>(Rc<Slot<T>>);

struct Slot<T> {
    result: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Clone for Completion<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Completion<T> {
    pub(super) fn new() -> Self {
        Self(Rc::new(Slot { result: RefCell::new(None), waker: RefCell::new(None) }))
    }

    pub(super) fn complete(&self, result: T) {
        *self.0.result.borrow_mut() = Some(result);
        let waker = self.0.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Completion<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(result) = self.0.result.take() {
            return Poll::Ready(result);
        }
        *self.0.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}
