//! Which runtime the process's shards run on: found out once, before they start.

use std::path::Path;

use crate::config::RuntimeKind;
use crate::runtime::probe::{self, Unavailable};
use crate::runtime::uring;

/// A runtime that this process can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Uring,
    Portable,
}

/// The runtime to use; `Err` where the one that was asked for cannot be used.
///
/// `auto` takes io_uring where the kernel allows it and a trial in the data directory succeeds, else the portable runtime, with
/// one line that says why. `uring` takes no trial: whoever asks for it by name gets what comes of it.
pub(super) fn choose(kind: RuntimeKind, data_path: &Path) -> Result<Backend, Unavailable> {
    match kind {
        RuntimeKind::Portable => Ok(Backend::Portable),
        RuntimeKind::Uring => probe::io_uring().map(|()| Backend::Uring),
        RuntimeKind::Auto => {
            let usable = probe::io_uring().and_then(|()| {
                uring::try_out(data_path).map_err(|source| Unavailable::Trial { source })
            });
            Ok(match usable {
                Ok(()) => Backend::Uring,
                Err(reason) => {
                    tracing::warn!(%reason, "shards run without io_uring, on the portable runtime");
                    Backend::Portable
                }
            })
        }
    }
}
