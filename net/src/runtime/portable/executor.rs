//! The tasks of one shard: a run queue a class, and who goes next.
//!
//! tokio's own scheduler knows no classes, so it runs one task only: [`Executor::turn`], over and over, with a look at sockets
//! and timers after each. A turn polls what is ready for at most [`TURN_MAX`]. Classes compete by virtual time (the time their
//! tasks took over their shares), as under glommio: ingest goes before query, and no class starves.
//! A waker knows its task's place and nothing else; from another thread it goes through a channel, so futures never leave the shard.
//!
//! Not here: what tasks wait for.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use crate::runtime::Class;
use crate::runtime::host::CLASS_SHARES;
use crate::runtime::polls::{self, PollTimes};

/// A turn ends after this long, so that sockets and timers are looked at: with the last poll's 2 ms, the longest a ready socket
/// waits for that look.
const TURN_MAX: Duration = Duration::from_millis(1);

/// A turn ends after so many polls, too: short ones add up to tens of microseconds, against the one of a look at the sockets.
const TURN_POLLS_MAX: usize = 64;

const CLASSES: usize = Class::ALL.len();

/// The tasks of the thread it was made on.
pub(super) struct Executor {
    queues: Rc<Queues>,
    home: Arc<Home>,
    tasks: RefCell<Tasks>,
    poll_times: [PollTimes; CLASSES],
    from_elsewhere: mpsc::Receiver<Arc<Place>>,
    closed: Cell<bool>,
}

/// What is ready, seen by wakers on the shard's own thread.
struct Queues {
    home_id: u64,
    ready: RefCell<[VecDeque<Arc<Place>>; CLASSES]>,
    /// Time of each class's polls over its shares, in nanoseconds of the first class.
    virtual_ns: [Cell<u64>; CLASSES],
    /// Virtual time of the class polled last, before that poll: where a class that had nothing to do comes back in.
    virtual_now_ns: Cell<u64>,
    /// Class of the task that is being polled.
    running: Cell<Option<usize>>,
}

thread_local! {
    /// The queues of this thread's executor.
    static HERE: RefCell<Option<Rc<Queues>>> = const { RefCell::new(None) };
}

/// What wakers of one executor share.
struct Home {
    id: u64,
    /// Woken tasks from other threads. Each task is in it at most once, so there is no other bound.
    elsewhere: mpsc::Sender<Arc<Place>>,
    /// The tokio task that takes turns.
    turns: AtomicWaker,
}

/// Where a task is found; its waker.
struct Place {
    slot: usize,
    class: usize,
    /// In one of the queues, or about to be.
    queued: AtomicBool,
    home: Arc<Home>,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let pushed_here = HERE.try_with(|here| match &*here.borrow() {
            Some(queues) if queues.home_id == self.home.id => {
                queues.push(Arc::clone(self));
                queues.running.get().is_none()
            }
            _ => self.home.elsewhere.send(Arc::clone(self)).is_ok(), // not so: the executor has ended
        });
        // A thread without its locals any more is some other thread at its end.
        let turn_due =
            pushed_here.unwrap_or_else(|_| self.home.elsewhere.send(Arc::clone(self)).is_ok());
        if turn_due {
            self.home.turns.wake();
        }
    }
}

struct Task {
    /// Type of the future, for the log.
    name: &'static str,
    future: Pin<Box<dyn Future<Output = ()>>>,
    place: Arc<Place>,
    waker: Waker,
}

#[derive(Default)]
struct Tasks {
    /// Empty where the task has ended or is being polled.
    slots: Vec<Option<Task>>,
    free: Vec<usize>,
}

impl Queues {
    fn push(&self, place: Arc<Place>) {
        let class = place.class;
        let queue = &mut self.ready.borrow_mut()[class];
        if queue.is_empty() {
            // Time in which a class had nothing to do is not owed to it.
            let now_ns = self.virtual_ns[class].get().max(self.virtual_now_ns.get());
            self.virtual_ns[class].set(now_ns);
        }
        queue.push_back(place);
    }

    /// The next task of the class that is furthest behind; of equals, the first.
    fn pop(&self) -> Option<Arc<Place>> {
        let mut ready = self.ready.borrow_mut();
        let class = (0..CLASSES)
            .filter(|class| !ready[*class].is_empty())
            .min_by_key(|class| self.virtual_ns[*class].get())?;
        self.virtual_now_ns.set(self.virtual_ns[class].get());
        ready[class].pop_front()
    }

    fn charge(&self, class: usize, took: Duration) {
        self.virtual_ns[class].set(self.virtual_ns[class].get() + cost_ns(class, took));
    }

    /// Whether a class before the running one is ready and would be taken, had the running task ended `age` after its poll began.
    fn prefers_another(&self, age: Duration) -> bool {
        let Some(running) = self.running.get() else { return false };
        let own_ns = self.virtual_ns[running].get() + cost_ns(running, age);
        let ready = self.ready.borrow();
        (0..running).any(|class| !ready[class].is_empty() && self.virtual_ns[class].get() <= own_ns)
    }
}

/// Virtual time of a poll.
fn cost_ns(class: usize, took: Duration) -> u64 {
    took.as_nanos() as u64 * CLASS_SHARES[0] / CLASS_SHARES[class]
}

impl Executor {
    /// The thread's one executor.
    pub(super) fn new() -> Rc<Self> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let (elsewhere, from_elsewhere) = mpsc::channel();
        let queues = Rc::new(Queues {
            home_id: id,
            ready: RefCell::default(),
            virtual_ns: Default::default(),
            virtual_now_ns: Cell::new(0),
            running: Cell::new(None),
        });
        HERE.with(|here| {
            let before = here.replace(Some(Rc::clone(&queues)));
            assert!(before.is_none(), "a thread has one executor");
        });
        Rc::new(Self {
            queues,
            home: Arc::new(Home { id, elsewhere, turns: AtomicWaker::new() }),
            tasks: RefCell::default(),
            poll_times: PollTimes::of_all(),
            from_elsewhere,
            closed: Cell::new(false),
        })
    }

    /// Enqueues a task.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(&self, class: Class, future: F) {
        if self.closed.get() {
            return;
        }
        let future = Box::pin(future);
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks.free.pop().unwrap_or_else(|| {
            tasks.slots.push(None);
            tasks.slots.len() - 1
        });
        let place = Arc::new(Place {
            slot,
            class: class as usize,
            queued: AtomicBool::new(false),
            home: Arc::clone(&self.home),
        });
        let waker = Waker::from(Arc::clone(&place));
        tasks.slots[slot] =
            Some(Task { name: type_name::<F>(), future, place: Arc::clone(&place), waker });
        drop(tasks);
        place.wake();
    }

    /// Polls ready tasks for a while. Never complete: a tokio task that lasts as long as the shard.
    pub(super) fn turn(&self, context: &Context<'_>) -> Poll<()> {
        // Before the channel is looked at: who sends later finds the waker.
        self.home.turns.register(context.waker());
        let began = Instant::now();
        for _ in 0..TURN_POLLS_MAX {
            self.take_in();
            let Some(place) = self.queues.pop() else { return Poll::Pending };
            self.poll(&place);
            if began.elapsed() >= TURN_MAX {
                break;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the running task should let others go on: it has run for long, or a class before its own is due.
    pub(super) fn wants_the_core(&self) -> bool {
        if polls::is_poll_aged() {
            return true;
        }
        self.take_in();
        self.queues.prefers_another(polls::poll_age())
    }

    /// Poll times of a class.
    pub(super) fn poll_times(&self, class: Class) -> &PollTimes {
        &self.poll_times[class as usize]
    }

    /// Drops all tasks, and what is spawned from now on.
    pub(super) fn close(&self) {
        self.closed.set(true);
        // Dropping a task may wake others.
        let tasks = mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        HERE.with(RefCell::take);
    }

    /// Tasks woken by other threads.
    fn take_in(&self) {
        while let Ok(place) = self.from_elsewhere.try_recv() {
            self.queues.push(place);
        }
    }

    fn poll(&self, place: &Arc<Place>) {
        let task = {
            let mut tasks = self.tasks.borrow_mut();
            // A task that has ended may still be in a queue, and its slot be another's.
            let Some(slot) = tasks.slots.get_mut(place.slot) else { return };
            slot.take_if(|task| Arc::ptr_eq(&task.place, place))
        };
        let Some(mut task) = task else { return };
        // Before the poll: what happens during it wakes the task again.
        place.queued.swap(false, Ordering::AcqRel);
        self.queues.running.set(Some(place.class));
        let times = &self.poll_times[place.class];
        let mut context = Context::from_waker(&task.waker);
        let (polled, took) =
            polls::timed(times, task.name, || task.future.as_mut().poll(&mut context));
        self.queues.charge(place.class, took);
        if polled.is_ready() {
            // Dropped while it counts as running: what it wakes needs no turn of its own.
            drop(task);
            self.tasks.borrow_mut().free.push(place.slot);
        } else {
            self.tasks.borrow_mut().slots[place.slot] = Some(task);
        }
        self.queues.running.set(None);
    }
}

/// Lets go of the core once: the task goes to the end of its class's queue.
pub(super) async fn give_way() {
    let mut went = false;
    std::future::poll_fn(|context| {
        if mem::replace(&mut went, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn turn(executor: &Executor) {
        assert!(executor.turn(&Context::from_waker(Waker::noop())).is_pending());
    }

    #[test]
    fn classes_go_in_their_order_and_tasks_of_one_in_theirs() {
        let executor = Executor::new();
        let order = Rc::new(RefCell::new(Vec::new()));
        for class in [Class::Background, Class::Query, Class::Ingest, Class::Rpc] {
            for number in 0..2 {
                let order = Rc::clone(&order);
                executor.spawn(class, async move { order.borrow_mut().push((class, number)) });
            }
        }
        assert!(order.borrow().is_empty(), "nothing is polled inside spawn");
        while order.borrow().len() < 8 {
            turn(&executor);
        }
        // Firsts are in the order of the classes; when a second comes depends on what the firsts took.
        let mut firsts: Vec<Class> = Vec::new();
        for (class, number) in order.borrow().iter() {
            if *number == 0 {
                firsts.push(*class);
            } else {
                assert!(firsts.contains(class), "{class:?}: first in, first out");
            }
        }
        assert_eq!(firsts, Class::ALL);
        executor.close();
    }

    /// Which classes run when all always have something to do and each poll takes a millisecond.
    #[test]
    fn busy_classes_share_the_core_by_their_shares_and_none_starves() {
        let executor = Executor::new();
        let place = |class: Class| {
            let (class, home) = (class as usize, Arc::clone(&executor.home));
            Arc::new(Place { slot: 0, class, queued: AtomicBool::new(true), home })
        };
        let queues = &executor.queues;
        for class in Class::ALL {
            queues.push(place(class));
        }
        let mut polls = [0_u64; CLASSES];
        for _ in 0..2000 {
            let next = queues.pop().unwrap();
            polls[next.class] += 1;
            queues.push(Arc::clone(&next));
            queues.charge(next.class, MS);
        }
        assert_eq!(polls, CLASS_SHARES, "2000 ms over shares of 2000");
        executor.close();
    }

    #[test]
    fn a_class_that_slept_comes_next_and_is_owed_nothing() {
        let executor = Executor::new();
        let place = |class: Class| {
            let (class, home) = (class as usize, Arc::clone(&executor.home));
            Arc::new(Place { slot: 0, class, queued: AtomicBool::new(true), home })
        };
        let queues = &executor.queues;
        queues.push(place(Class::Background));
        for _ in 0..1000 {
            let next = queues.pop().unwrap();
            queues.push(next);
            queues.charge(Class::Background as usize, MS);
        }
        queues.push(place(Class::Ingest));
        let mut ingests = 0;
        loop {
            let next = queues.pop().unwrap();
            if next.class == Class::Background as usize {
                break;
            }
            ingests += 1;
            queues.push(next);
            queues.charge(Class::Ingest as usize, MS);
        }
        assert!(
            (1..=12).contains(&ingests),
            "{ingests} ms of ingest for the one of background before it"
        );
        executor.close();
    }

    #[test]
    fn a_waker_outlives_its_task_and_its_executor() {
        let executor = Executor::new();
        let kept = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&kept);
        executor.spawn(
            Class::Rpc,
            std::future::poll_fn(move |context| {
                *keep.borrow_mut() = Some(context.waker().clone());
                Poll::Ready(())
            }),
        );
        turn(&executor);
        let waker = kept.borrow_mut().take().unwrap();
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        executor.spawn(
            Class::Rpc,
            std::future::poll_fn(move |_| {
                counted.set(counted.get() + 1);
                Poll::<()>::Pending
            }),
        );
        turn(&executor);
        waker.wake_by_ref();
        turn(&executor);
        assert_eq!(polls.get(), 1, "the slot is another task's now");
        executor.close();
        drop(executor);
        std::thread::spawn(move || waker.wake()).join().unwrap();
    }

    #[test]
    fn a_wake_from_another_thread_is_polled_by_the_next_turn() {
        let executor = Executor::new();
        let (send, receive) = futures_channel::oneshot::channel();
        let heard = Rc::new(Cell::new(false));
        let hears = Rc::clone(&heard);
        executor.spawn(Class::Query, async move { hears.set(receive.await.is_ok()) });
        turn(&executor);
        std::thread::spawn(move || send.send(()).unwrap()).join().unwrap();
        assert!(!heard.get());
        turn(&executor);
        assert!(heard.get());
        executor.close();
    }

    #[test]
    fn a_closed_executor_drops_what_it_has_and_what_is_spawned() {
        struct Dropped(Rc<Cell<u32>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let executor = Executor::new();
        let dropped = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let held = Dropped(Rc::clone(&dropped));
            executor.spawn(Class::Ingest, async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
        }
        turn(&executor);
        executor.close();
        assert_eq!(dropped.get(), 3);
        let held = Dropped(Rc::clone(&dropped));
        executor.spawn(Class::Ingest, async move { drop(held) });
        assert_eq!(dropped.get(), 4);
    }
}
