//! Releases segments that nobody needs, and tells when the log is nearly as long as it may be.
//!
//! ```text
//! 3.wal ─ all its records are in blocks ─► 3.old ─ its header overwritten ─► 9.wal
//!         renamed, directory synced                synced, renamed, directory synced
//! ```
//! Segments are released in the order of their numbers, each when the one before it is durably gone: whatever a crash leaves
//! is a log without a gap. A header is overwritten only when its file bears the name of a segment no more, also after a crash.
//!
//! Not here: who needs a segment ([`super::pins`]), the other half of the picture ([`super::prepare`]).

use std::io;

use super::prepare::{SPACE_RETRY, is_full, segment_path};
use super::{Shared, directory};
use crate::runtime::Runtime;

/// A log's last segments are left for what comes while heads are cut: half of them, and as many as this at least. Beside a shard
/// that ingests all it can a cut takes ten times its own time.
const SEGMENTS_LEFT_MIN: u64 = 2;

impl<R: Runtime> Shared<R> {
    /// Segments that are not released, the one made ready included.
    pub(super) fn kept_segments(&self) -> u64 {
        self.ready_segment.get() + 1 - self.oldest_segment.get()
    }

    /// Files that the log may have.
    pub(super) fn segments_max(&self) -> u64 {
        self.settings.bytes_max / self.settings.segment_bytes
    }

    /// Whether the oldest segment is older than the current one, and nobody needs it.
    pub(super) fn has_released(&self) -> bool {
        let oldest = self.oldest_segment.get();
        let needed = self.pins.borrow().oldest_segment();
        // The current segment has its header from when it was begun: the log never begins with a file that has none.
        oldest < self.metrics.segments.get() && needed.is_none_or(|needed| oldest < needed)
    }

    pub(super) fn is_near_cap(&self) -> bool {
        let begun = self.metrics.segments.get() + 1 - self.oldest_segment.get();
        let segments_max = self.segments_max();
        begun + SEGMENTS_LEFT_MIN.max(segments_max / 2) >= segments_max
    }

    pub(super) fn tell_cutter(&self) {
        if let Some(cutter) = self.cutter.borrow().as_ref().filter(|_| self.is_near_cap()) {
            cutter.notify();
        }
    }
}

/// Takes the oldest segment out of the log. It is tried again where a full disk does not let it.
pub(super) async fn release_oldest<R: Runtime>(shared: &Shared<R>) {
    let number = shared.oldest_segment.get();
    let path = segment_path(shared, number);
    let released = async {
        let spare_path = format!("{}/{}", shared.path, directory::spare_name(number));
        shared.rt.rename(&path, &spare_path).await?;
        shared.rt.sync_dir(&shared.path).await
    };
    match released.await {
        Ok(()) => {
            shared.oldest_segment.set(number + 1);
            shared.spares.borrow_mut().push_back(number);
        }
        Err(error) if is_full(&error) => shared.rt.sleep(SPACE_RETRY).await,
        Err(error) => shared.seal(format!("releasing {path} failed: {error}"), 0),
    }
}

/// Removes what is kept for reuse; the log is being closed.
pub(super) async fn remove_spares<R: Runtime>(shared: &Shared<R>) -> io::Result<()> {
    let spares = shared.spares.take();
    for number in spares {
        let path = format!("{}/{}", shared.path, directory::spare_name(number));
        shared.rt.remove_file(&path).await?;
    }
    Ok(())
}
