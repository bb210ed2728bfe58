//! Notices a shard that stopped ticking, and wakes one that parked with work to do: what nothing inside the shard can.
//!
//! Every shard beats from a timer of its own; one ordinary thread reads the beats. A shard without a beat since the last look
//! is kicked: a task of its is woken from outside, which ends glommio's parking bug wherever it strikes (also when the heartbeat
//! itself is what the parked shard should run: no timer is pending then). A kick costs a busy or slow shard nothing. A shard that was silent for
//! [`SILENCE_MAX`] all the same is logged and counted, and logged again when it is back, each time with what its thread did
//! meanwhile (`thread`). The watchdog ends nothing: a starved or stopped virtual CPU is no fault of the shard.
//!
//! How to read `did`, best on the line of the return (the kernel adds up late: a wait when it is over, a run at ticks of that CPU):
//! `ran` nearly as long as the silence is a poll that is too long, or the host had the CPU, which `steal` may or may not admit.
//! `waited for a cpu`: other threads had it, the machine is too small for its load. Neither: the thread was blocked, in what
//! `wchan` and `syscall` (-1 is a page fault) name, and that is a bug here or a sick disk. State `R` with neither on the
//! line of the silence, and `ran` on the line of the return: the virtual CPU stood still.
//!
//! The counters are the only memory that shards share with another thread, and hold nothing but numbers to look at.

mod thread;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use thread::{Thread, Usage};

/// A shard that did not tick for so long is reported. Fifty heartbeats: no pass and no disk hiccup makes it this long.
pub const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How often the beats are read, and so how long a shard can be parked for nothing: two heartbeats, at 25 wake-ups a second.
const CHECK_INTERVAL: Duration = Duration::from_millis(40);

/// A look that came later than this after the last counts as so late: then the whole process stood still (stopped, suspended),
/// not the shard.
const CHECK_LATE_MAX: Duration = Duration::from_millis(500);

/// One shard's pulse: the shard beats it, the watchdog reads it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    beats: AtomicU64,
    stalls: AtomicU64,
    kicks: AtomicU64,
    ended: AtomicBool,
    listener: AtomicWaker,
    thread: OnceLock<Thread>,
}

impl Pulse {
    /// The shard runs on the calling thread.
    pub fn begin(&self) {
        if let Some(thread) = Thread::current() {
            self.0.thread.get_or_init(|| thread);
        }
    }

    /// The shard is alive.
    pub fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Beats so far.
    pub fn beats(&self) -> u64 {
        self.0.beats.load(Ordering::Relaxed)
    }

    /// How often the shard was silent for [`SILENCE_MAX`].
    pub fn stalls(&self) -> u64 {
        self.0.stalls.load(Ordering::Relaxed)
    }

    /// How often the shard was kicked. It counts busy polls, too.
    pub fn kicks(&self) -> u64 {
        self.0.kicks.load(Ordering::Relaxed)
    }

    /// Lets the watchdog wake the task that awaits this; it never completes.
    pub async fn hear_kicks(&self) {
        poll_fn(|context| {
            self.0.listener.register(context.waker());
            Poll::<()>::Pending
        })
        .await;
    }

    /// The shard ends: it is not watched any more, and its task not woken.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.listener.take();
    }

    fn usage(&self) -> Usage {
        self.0.thread.get().map(|thread| thread.usage()).unwrap_or_default()
    }

    fn kick(&self) {
        self.0.kicks.fetch_add(1, Ordering::Relaxed);
        self.0.listener.wake();
    }
}

/// The thread that reads the pulses; it ends when this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    /// Starts the thread over the pulses of all shards, in shard order.
    pub fn start(pulses: Vec<Pulse>) -> std::io::Result<Self> {
        let (alive, ended) = mpsc::channel::<()>();
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&pulses, &ended))?;
        Ok(Self { _alive: alive })
    }
}

fn watch(pulses: &[Pulse], ended: &mpsc::Receiver<()>) {
    let mut silences = vec![Silence::default(); pulses.len()];
    let mut checked = Instant::now();
    while ended.recv_timeout(CHECK_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let elapsed = checked.elapsed();
        checked = Instant::now();
        for (shard, (pulse, silence)) in pulses.iter().zip(&mut silences).enumerate() {
            if pulse.0.ended.load(Ordering::Relaxed) {
                continue;
            }
            let observed = silence.observe(pulse.beats(), elapsed);
            if silence.lasting.is_zero() {
                if let Observed::Recovered(lasted) = observed {
                    let did = pulse.usage().since(&silence.usage);
                    tracing::warn!(shard, silent_for = ?lasted, %did, "shard ticks again");
                }
                continue;
            }
            pulse.kick();
            match observed {
                Observed::Quiet => silence.usage = pulse.usage(),
                Observed::Stalled => {
                    pulse.0.stalls.fetch_add(1, Ordering::Relaxed);
                    let did = pulse.usage().since(&silence.usage);
                    let now = pulse.0.thread.get().map(|thread| thread.place()).unwrap_or_default();
                    tracing::error!(shard, silent_for = ?silence.lasting, %did, %now, "shard does not tick");
                }
                Observed::Fine | Observed::Recovered(_) => {}
            }
        }
    }
}

/// What the watchdog knows of one shard.
#[derive(Clone, Debug, Default)]
struct Silence {
    beats: u64,
    lasting: Duration,
    reported: bool,
    /// What the thread had used when the silence was first seen.
    usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Observed {
    Fine,
    /// No beat since the last look, for the first time.
    Quiet,
    Stalled,
    Recovered(Duration),
}

impl Silence {
    /// Takes in the shard's beats `elapsed` after the last look.
    fn observe(&mut self, beats: u64, elapsed: Duration) -> Observed {
        if beats != self.beats {
            self.beats = beats;
            let lasted = std::mem::take(&mut self.lasting);
            return if std::mem::take(&mut self.reported) {
                Observed::Recovered(lasted)
            } else {
                Observed::Fine
            };
        }
        let is_first = self.lasting.is_zero();
        self.lasting += elapsed.min(CHECK_LATE_MAX);
        if is_first {
            return Observed::Quiet;
        }
        if self.lasting < SILENCE_MAX || self.reported {
            return Observed::Fine;
        }
        self.reported = true;
        Observed::Stalled
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::Context;

    use super::*;

    /// A quarter of what makes a stall.
    const QUARTER: Duration = Duration::from_millis(250);

    #[test]
    fn a_silent_shard_is_reported_once_and_its_return_too() {
        let mut silence = Silence::default();
        assert_eq!(silence.observe(1, QUARTER), Observed::Fine);
        assert_eq!(silence.observe(1, QUARTER), Observed::Quiet);
        for _ in 0..2 {
            assert_eq!(silence.observe(1, QUARTER), Observed::Fine);
        }
        assert_eq!(silence.observe(1, QUARTER), Observed::Stalled);
        assert_eq!(silence.observe(1, QUARTER), Observed::Fine, "reported already");
        assert_eq!(silence.observe(2, QUARTER), Observed::Recovered(5 * QUARTER));
        assert_eq!(silence.observe(3, QUARTER), Observed::Fine);
    }

    #[test]
    fn a_process_that_was_stopped_is_no_stalled_shard() {
        let mut silence = Silence::default();
        silence.observe(1, QUARTER);
        assert_eq!(silence.observe(1, Duration::from_hours(1)), Observed::Quiet);
        assert_eq!(silence.observe(2, QUARTER), Observed::Fine);
    }

    #[test]
    fn a_shard_that_parked_with_work_to_do_is_woken_from_outside() {
        struct Woken(AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let pulse = Pulse::default();
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Arc::clone(&woken).into();
        let mut listening = std::pin::pin!(pulse.hear_kicks());
        assert!(listening.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let _watchdog = Watchdog::start(vec![pulse.clone()]).unwrap();
        let given_up = Instant::now() + Duration::from_secs(20);
        while !woken.0.load(Ordering::Relaxed) {
            assert!(Instant::now() < given_up, "a shard without beats is kicked");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(pulse.kicks() >= 1);
    }
}
