//! The highest rate that a server takes: doubled until it does not, then halved in between.

use std::time::{Duration, Instant};

use crate::push::Push;
use crate::report::Report;
use crate::schedule::Schedule;

/// Share of the offered pushes that must be taken, each second of the time they were offered in.
const GOODPUT_MIN: f64 = 0.99;

/// Doublings at most.
const DOUBLINGS_MAX: u32 = 16;

/// Steps between the last rate that was taken and the first that was not: they end within 4 % of each other.
const HALVINGS: u32 = 5;

/// One rate that was tried.
#[derive(Clone, Debug)]
pub struct Step {
    /// Pushes a second.
    pub rate: f64,
    /// What became of them.
    pub report: Report,
}

impl Step {
    /// Whether the server took it.
    pub fn is_taken(&self) -> bool {
        self.report.goodput() >= GOODPUT_MIN * self.rate
    }
}

/// Tries rates, beginning with the push's own, each for `time`; `tell` hears of each. Gives the highest that was taken.
pub fn find_rate(
    push: &mut Push<'_>,
    time: Duration,
    mut tell: impl FnMut(&Step),
) -> std::io::Result<Option<Step>> {
    let mut rate = push.schedule.rate;
    let mut try_rate = |rate: f64| {
        let count_max = (rate * time.as_secs_f64()).ceil() as u64;
        push.schedule = Schedule { start: Instant::now(), rate, count_max, time_max: time };
        let report = push.run(None)?;
        push.first_number += count_max;
        let step = Step { rate, report };
        tell(&step);
        Ok::<Step, std::io::Error>(step)
    };
    let mut best: Option<Step> = None;
    let mut too_high = None;
    for _ in 0..DOUBLINGS_MAX {
        let step = try_rate(rate)?;
        if !step.is_taken() {
            too_high = Some(rate);
            break;
        }
        best = Some(step);
        rate *= 2.0;
    }
    let Some(mut too_high) = too_high else { return Ok(best) };
    for _ in 0..HALVINGS {
        let low = best.as_ref().map_or(0.0, |step| step.rate);
        let step = try_rate(f64::midpoint(low, too_high))?;
        if step.is_taken() {
            best = Some(step);
        } else {
            too_high = step.rate;
        }
    }
    Ok(best)
}
