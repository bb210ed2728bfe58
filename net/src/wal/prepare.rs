//! Makes the next segment ready before the current one is full.
//!
//! A new file is allocated, zeroed in pieces and synced: that is what makes a durable write wait for the group's bytes
//! alone, for the extents are written and the length is final. It happens in another file than the one being synced, piece by
//! piece, so a commit finds at most one piece before it in the device's queue. A released file ([`super::release`]) is that already;
//! its groups are of another segment and not believed. So a busy log zeroes what it grows by, and writes each byte once from then on.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use engine::wal::SEGMENT_HEADER_BYTES;
use futures_util::future::select;

use super::commit::Segment;
use super::room::NoRoom;
use super::{Shared, directory, release};
use crate::runtime::{AlignedBytes, File, Open, Runtime};

/// Bytes zeroed by one write: about 0.2 ms of a disk, which a commit may have to wait.
const ZERO_BYTES: usize = 256 << 10;

/// How often a full disk is asked again. Long enough to cost nothing, short enough that nobody waits for it by hand.
pub(super) const SPACE_RETRY: Duration = Duration::from_secs(1);

/// Why a segment could not be made ready.
enum NotReady {
    /// The log has as many as it may.
    Cap,
    Io(io::Error),
}

impl From<io::Error> for NotReady {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs until the committer has ended or the log is sealed.
pub(super) async fn run<R: Runtime>(shared: Rc<Shared<R>>) {
    while !shared.is_sealed() && !shared.committer_ended.get() {
        let number = shared.ready_segment.get() + 1;
        let is_wanted = is_wanted(&shared, number);
        if !(shared.is_open() && (shared.has_released() || is_wanted)) {
            shared.prepare.wait().await;
            continue;
        }
        let releases = shared.has_released();
        shared.preparing.set(true);
        if releases {
            release::release_oldest(&shared).await;
        } else {
            make_ready(&shared, number).await;
        }
        shared.preparing.set(false);
        shared.commit.notify();
        shared.waiting.wake();
        shared.tell_cutter();
        if !releases && shared.no_room.borrow().is_some() {
            select(pin!(shared.rt.sleep(SPACE_RETRY)), pin!(shared.prepare.wait())).await;
        }
    }
}

fn is_wanted<R: Runtime>(shared: &Shared<R>, number: u64) -> bool {
    number <= shared.wanted_segment.get() && shared.prepared.borrow().is_none()
}

async fn make_ready<R: Runtime>(shared: &Shared<R>, number: u64) {
    match prepare(shared, number).await {
        Ok(segment) => {
            shared.ready_segment.set(segment.number);
            *shared.prepared.borrow_mut() = Some(segment);
            shared.no_room.take();
            shared.metrics.starved.set(false);
            shared.metrics.full.set(false);
        }
        Err(NotReady::Cap) => wait_for_cuts(shared),
        Err(NotReady::Io(error)) if is_full(&error) => {
            give_up_for_now(shared, number, &error).await;
        }
        Err(NotReady::Io(error)) => {
            let path = segment_path(shared, number);
            shared.seal(format!("preparing {path} failed: {error}"), 0);
        }
    }
}

async fn prepare<R: Runtime>(shared: &Shared<R>, number: u64) -> Result<Segment<R>, NotReady> {
    if !shared.has_directory.get() {
        shared.rt.create_dir_all(&shared.path).await?;
        shared.has_directory.set(true);
    }
    let path = segment_path(shared, number);
    let spare = shared.spares.borrow_mut().pop_front();
    let file = match spare {
        Some(spare) => match recycle(shared, spare, &path).await {
            Ok(file) => file,
            Err(error) => {
                shared.spares.borrow_mut().push_front(spare);
                return Err(error.into());
            }
        },
        None if shared.kept_segments() >= shared.segments_max() => return Err(NotReady::Cap),
        None => make(shared, &path).await?,
    };
    shared.rt.sync_dir(&shared.path).await?;
    Ok(Segment { number, path, file, position: 0 })
}

async fn make<R: Runtime>(shared: &Shared<R>, path: &str) -> io::Result<R::File> {
    let file = shared.rt.open(path, Open::New).await?;
    match zero(shared, &file).await {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = file.close().await;
            Err(error)
        }
    }
}

/// Gives the file its length and its zeros; as far as it got when the log is closed or sealed, for it is removed then.
async fn zero<R: Runtime>(shared: &Shared<R>, file: &R::File) -> io::Result<()> {
    let len = shared.settings.segment_bytes;
    file.allocate(len).await?;
    let mut offset = 0;
    while offset < len && shared.is_open() {
        let piece = (len - offset).min(ZERO_BYTES as u64);
        file.write_at(AlignedBytes::padded(vec![0; piece as usize]), offset).await?;
        offset += piece;
        shared.rt.yield_if_needed().await;
    }
    file.datasync().await
}

/// Overwrites the header of a released file and gives it the name of a segment.
async fn recycle<R: Runtime>(shared: &Shared<R>, spare: u64, path: &str) -> io::Result<R::File> {
    let spare_path = format!("{}/{}", shared.path, directory::spare_name(spare));
    let file = shared.rt.open(&spare_path, Open::Existing).await?;
    let renamed = async {
        file.write_at(AlignedBytes::padded(vec![0; SEGMENT_HEADER_BYTES]), 0).await?;
        file.datasync().await?;
        shared.rt.rename(&spare_path, path).await
    };
    match renamed.await {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = file.close().await;
            Err(error)
        }
    }
}

/// Nothing was promised for the file yet, so it goes: what little it took may be what others need.
async fn give_up_for_now<R: Runtime>(shared: &Shared<R>, number: u64, error: &io::Error) {
    let path = segment_path(shared, number);
    if shared.no_room.borrow().is_none() {
        tracing::warn!(%path, %error, "no room for the next WAL segment; trying again every second");
    }
    *shared.no_room.borrow_mut() = Some(NoRoom::Disk(format!("preparing {path} failed: {error}")));
    match shared.rt.remove_file(&path).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => shared.seal(format!("removing {path} failed: {error}"), 0),
    }
}

fn wait_for_cuts<R: Runtime>(shared: &Shared<R>) {
    let mut no_room = shared.no_room.borrow_mut();
    if no_room.is_none() {
        let (log, segments) = (&shared.path, shared.kept_segments());
        tracing::warn!(%log, segments, "the log is full (-wal.max-bytes): writes wait until heads are cut, and are refused if that takes long");
    }
    if !matches!(*no_room, Some(NoRoom::Cap { .. })) {
        *no_room = Some(NoRoom::Cap { since_ns: shared.rt.now_ns() });
    }
}

pub(super) fn segment_path<R: Runtime>(shared: &Shared<R>, number: u64) -> String {
    format!("{}/{}", shared.path, directory::segment_name(number))
}

/// Whether there was no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
