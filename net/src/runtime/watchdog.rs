//! Notices a shard that stopped ticking: the one fault that nothing inside the shard can report.
//!
//! Every shard beats from a timer of its own; one ordinary thread reads the beats. A shard that was silent for
//! [`SILENCE_MAX`] is logged and counted, and logged again when it is back. The watchdog ends nothing: a slow disk or a
//! stopped virtual machine looks the same from here as a hang.
//! The counters are the only memory that shards share with another thread, and hold nothing but numbers to look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A shard that did not tick for so long is reported. Two hundred heartbeats: no pass and no disk hiccup makes it this long.
pub const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How often the beats are read.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// One shard's pulse: the shard beats it, the watchdog reads it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    beats: AtomicU64,
    stalls: AtomicU64,
}

impl Pulse {
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
            match silence.observe(pulse.beats(), elapsed) {
                Observed::Fine => {}
                Observed::Stalled => {
                    pulse.0.stalls.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(shard, silent_for = ?silence.lasting, "shard does not tick");
                }
                Observed::Recovered(lasted) => {
                    tracing::warn!(shard, silent_for = ?lasted, "shard ticks again");
                }
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Observed {
    Fine,
    Stalled,
    Recovered(Duration),
}

impl Silence {
    /// Takes in the shard's beats `elapsed` after the last look. A look that came late counts as two intervals at most: then
    /// the whole process stood still (stopped, suspended), not the shard.
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
        self.lasting += elapsed.min(2 * CHECK_INTERVAL);
        if self.lasting < SILENCE_MAX || self.reported {
            return Observed::Fine;
        }
        self.reported = true;
        Observed::Stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_shard_is_reported_once_and_its_return_too() {
        let mut silence = Silence::default();
        assert_eq!(silence.observe(1, CHECK_INTERVAL), Observed::Fine);
        for _ in 0..3 {
            assert_eq!(silence.observe(1, CHECK_INTERVAL), Observed::Fine);
        }
        assert_eq!(silence.observe(1, CHECK_INTERVAL), Observed::Stalled);
        assert_eq!(silence.observe(1, CHECK_INTERVAL), Observed::Fine, "reported already");
        assert_eq!(silence.observe(2, CHECK_INTERVAL), Observed::Recovered(5 * CHECK_INTERVAL));
        assert_eq!(silence.observe(3, CHECK_INTERVAL), Observed::Fine);
    }

    #[test]
    fn a_process_that_was_stopped_is_no_stalled_shard() {
        let mut silence = Silence::default();
        silence.observe(1, CHECK_INTERVAL);
        assert_eq!(silence.observe(1, Duration::from_hours(1)), Observed::Fine);
        assert_eq!(silence.observe(2, CHECK_INTERVAL), Observed::Fine);
    }
}
