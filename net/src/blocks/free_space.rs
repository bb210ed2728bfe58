//! Whether the disk has room for pushes.
//!
//! Every local block is the only copy of what is in it, so nothing is removed to make room: below the thresholds pushes are
//! refused with 503 in words, and taken again by themselves once there is room. What is kept free is for cuts, whose blocks let go of
//! memory and of the log, and for everything else on the file system. Reads go on.
//!
//! The file system is asked every [`LOOK_INTERVAL`] off the shard's hot path; a push reads the answer from a cell.
//! Not here: a disk that is really full (`net::wal` refuses appends without a trace, a cut keeps its heads and is tried again).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use engine::byte_size;
use proto::rpc::{Code, Failure, MetricSample, Retry};

use super::retention::Settings;
use crate::runtime::{Disk, Space};

/// How often the file system is asked: at 200 MB/s, 1 GB is written meanwhile, a tenth of what is kept free by default.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);

const BYTES_PER_GIB: u64 = 1 << 30;

/// The room that a shard knows of. Clones share it.
#[derive(Clone, Debug)]
pub struct FreeSpace(Rc<State>);

#[derive(Debug)]
struct State {
    settings: Settings,
    /// As it was told last.
    space: Cell<Option<Space>>,
    is_low: Cell<bool>,
    /// The file system did not answer last time.
    is_unknown: Cell<bool>,
}

impl FreeSpace {
    /// Nothing is known yet, and nothing refused.
    pub fn new(settings: Settings) -> Self {
        let (space, is_low, is_unknown) = (Cell::new(None), Cell::new(false), Cell::new(false));
        Self(Rc::new(State { settings, space, is_low, is_unknown }))
    }

    /// Whether there is less room than has to be kept free.
    pub fn is_low(&self) -> bool {
        self.0.is_low.get()
    }

    /// Refuses a push that there is no room for.
    pub fn admit(&self) -> Result<(), Failure> {
        match self.0.space.get() {
            Some(space) if self.is_low() => {
                let text = format!(
                    "{}: pushes are taken again by themselves when there is room: free disk space, enlarge the disk, \
                     or shorten -compactor.blocks-retention-period",
                    self.0.settings.low_text(space)
                );
                let failure = Failure::new(Code::Unavailable, "disk_low", text);
                Err(failure.with_retry(Retry::After(LOOK_INTERVAL)))
            }
            _ => Ok(()),
        }
    }

    /// Asks the file system; what was known stands where it does not answer.
    pub(super) async fn look(&self, disk: &impl Disk) {
        match disk.space().await {
            Ok(space) => {
                self.0.is_unknown.set(false);
                self.note(space);
            }
            Err(error) => {
                if !self.0.is_unknown.replace(true) {
                    tracing::warn!(%error, "the free space of the data directory's disk cannot be told");
                }
            }
        }
    }

    fn note(&self, space: Space) {
        let settings = &self.0.settings;
        let is_low = settings.is_low(space);
        self.0.space.set(Some(space));
        match (self.0.is_low.replace(is_low), is_low) {
            (false, true) => {
                tracing::error!("pushes are refused: {}", settings.low_text(space));
            }
            (true, false) => {
                let free = byte_size::iec(space.free_bytes);
                tracing::info!(free, "the disk has room again: pushes are taken");
            }
            _ => {}
        }
    }

    /// The samples of `/metrics`.
    pub fn samples(&self, shard: u16) -> Vec<MetricSample> {
        let Some(space) = self.0.space.get() else { return Vec::new() };
        let sample = |name, value| MetricSample::of_shard(name, shard, value);
        vec![
            sample("pyrite_disk_free_bytes", space.free_bytes as f64),
            sample("pyrite_disk_low", f64::from(u8::from(self.is_low()))),
        ]
    }
}

impl Settings {
    /// Both thresholds have to be passed, as in Pyroscope: a large disk may be full to 95 %, a small one to its last 10 GiB.
    fn is_low(&self, space: Space) -> bool {
        space.free_bytes < self.free_bytes_min()
            && (space.free_bytes as f64) < space.total_bytes as f64 * self.available_fraction_min
    }

    fn free_bytes_min(&self) -> u64 {
        self.free_gib_min.saturating_mul(BYTES_PER_GIB)
    }

    fn low_text(&self, space: Space) -> String {
        let percent_free = space.free_bytes as f64 / space.total_bytes.max(1) as f64 * 100.0;
        format!(
            "the disk of -data.path has {} ({percent_free:.1} %) free, less than {} and less than {} %",
            byte_size::iec(space.free_bytes),
            byte_size::iec(self.free_bytes_min()),
            self.available_fraction_min * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = BYTES_PER_GIB;

    #[test]
    fn room_is_low_below_both_thresholds_alone() {
        let settings = Settings::default();
        for (free_bytes, total_bytes, is_low) in [
            (11 * GIB, 1000 * GIB, false),
            (9 * GIB, 100 * GIB, false),
            (9 * GIB, 1000 * GIB, true),
            (10 * GIB, 1000 * GIB, false),
            (0, 1 << 20, true),
            (0, 0, false),
        ] {
            let space = Space { free_bytes, total_bytes };
            assert_eq!(settings.is_low(space), is_low, "{space:?}");
        }
        let nothing_kept = Settings { free_gib_min: 0, ..settings };
        assert!(!nothing_kept.is_low(Space { free_bytes: 0, total_bytes: GIB }));
    }

    #[test]
    fn a_push_is_told_what_is_free_what_has_to_be_and_what_to_do() {
        let free_space = FreeSpace::new(Settings::default());
        assert_eq!(free_space.admit(), Ok(()), "nothing is known yet");
        free_space.note(Space { free_bytes: 3 * GIB, total_bytes: 1000 * GIB });
        let failure = free_space.admit().unwrap_err();
        assert_eq!((failure.code, failure.reason), (Code::Unavailable, "disk_low"));
        assert_eq!(failure.retry, Retry::After(LOOK_INTERVAL));
        let text = "the disk of -data.path has 3.0 GiB (0.3 %) free, less than 10 GiB and less than 5 %: pushes are taken again by \
                    themselves when there is room: free disk space, enlarge the disk, or shorten -compactor.blocks-retention-period";
        assert_eq!(failure.message, text);
        free_space.note(Space { free_bytes: 10 * GIB, total_bytes: 1000 * GIB });
        assert_eq!(free_space.admit(), Ok(()));
    }
}
