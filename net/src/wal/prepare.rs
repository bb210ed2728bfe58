//! Makes the next segment ready before the current one is full: allocated, zeroed in pieces, synced, its name durable.
//!
//! Zeroing ahead is what makes a durable write wait for the group's bytes alone: the extents are written and the length
//! is final. It happens in another file than the one being synced, piece by piece, so a commit finds at most one piece
//! before it in the device's queue.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::commit::Segment;
use super::{Shared, directory};
use crate::runtime::{AlignedBytes, File, Open, Runtime};

/// Bytes zeroed by one write: about 0.2 ms of a disk, which a commit may have to wait.
const ZERO_BYTES: usize = 256 << 10;

/// How often a full disk is asked again. Long enough to cost nothing, short enough that nobody waits for it by hand.
const SPACE_RETRY: Duration = Duration::from_secs(1);

/// Runs until the committer has ended or the log is sealed.
pub(super) async fn run<R: Runtime>(shared: Rc<Shared<R>>) {
    let mut number = 1;
    while !shared.is_sealed() && !shared.committer_ended.get() {
        if !is_wanted(&shared, number) {
            shared.prepare.wait().await;
            continue;
        }
        shared.preparing.set(true);
        let prepared = prepare(&shared, number).await;
        match prepared {
            Ok(segment) => {
                shared.ready_segment.set(segment.number);
                *shared.prepared.borrow_mut() = Some(segment);
                shared.no_space.take();
                shared.metrics.starved.set(false);
                number += 1;
            }
            Err(error) if is_full(&error) => give_up_for_now(&shared, number, &error).await,
            Err(error) => shared.seal(
                format!(
                    "preparing {}/{} failed: {error}",
                    shared.path,
                    directory::segment_name(number)
                ),
                0,
            ),
        }
        shared.preparing.set(false);
        shared.commit.notify();
        shared.waiting.wake();
        if shared.no_space.borrow().is_some() {
            shared.rt.sleep(SPACE_RETRY).await;
        }
    }
}

fn is_wanted<R: Runtime>(shared: &Shared<R>, number: u64) -> bool {
    let wanted = number <= shared.wanted_segment.get() && shared.prepared.borrow().is_none();
    wanted && shared.is_open()
}

async fn prepare<R: Runtime>(shared: &Shared<R>, number: u64) -> io::Result<Segment<R>> {
    if !shared.has_directory.get() {
        shared.rt.create_dir_all(&shared.path).await?;
        shared.has_directory.set(true);
    }
    let name = directory::segment_name(number);
    let path = format!("{}/{name}", shared.path);
    let file = shared.rt.open(&path, Open::New).await?;
    if let Err(error) = zero(shared, &file).await {
        let _ = file.close().await;
        return Err(error);
    }
    shared.rt.sync_dir(&shared.path).await?;
    Ok(Segment { number, path, file, position: 0 })
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

/// Nothing was promised for the file yet, so it goes: what little it took may be what others need.
async fn give_up_for_now<R: Runtime>(shared: &Shared<R>, number: u64, error: &io::Error) {
    let path = format!("{}/{}", shared.path, directory::segment_name(number));
    if shared.no_space.borrow().is_none() {
        tracing::warn!(%path, %error, "no room for the next WAL segment; trying again every second");
    }
    *shared.no_space.borrow_mut() = Some(format!("preparing {path} failed: {error}"));
    match shared.rt.remove_file(&path).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => shared.seal(format!("removing {path} failed: {error}"), 0),
    }
}

/// Whether there was no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
