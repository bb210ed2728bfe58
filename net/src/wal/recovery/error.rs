//! Why a recovery stops, in words that name the file.

use std::io;

use engine::route::ShardId;
use engine::wal::{RecordError, ReplayError};
use proto::rpc::Failure;

use super::list::OldLog;
use crate::wal::directory::segment_name;

/// Why recovery stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// A file cannot be read.
    #[error("reading {path} failed")]
    Io {
        /// File or directory.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// A log is damaged where no crash can have damaged it.
    #[error(
        "{path} is damaged: {source}. Start with -wal.repair=truncate to go on with what is before the damage and lose what is \
         behind it"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where in it, and what was expected there.
        source: ReplayError,
    },
    /// A record does not read.
    #[error("record {lsn} of {path} cannot be read: {source}")]
    Record {
        /// Directory of the log.
        path: String,
        /// Its log sequence number.
        lsn: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// An owner found that a record is not what a log's writer writes.
    #[error("a record of {path} cannot be read: {text}")]
    Refused {
        /// Directory of the log.
        path: String,
        /// The owner's words.
        text: String,
    },
    /// The records do not fit in memory.
    #[error(
        "the records of {path} do not fit in memory: {text}. Start again with a -memory.limit as high as that of the run \
         that wrote them"
    )]
    NoRoom {
        /// Directory of the log.
        path: String,
        /// The owner's words.
        text: String,
    },
    /// An owner did not answer.
    #[error("shard {} did not take records of {path}: {}", owner.0, failure.message)]
    Owner {
        /// Directory of the log.
        path: String,
        /// The owner.
        owner: ShardId,
        /// What it said.
        failure: Failure,
    },
}

pub(super) fn io_error(path: &str, source: io::Error) -> RecoveryError {
    RecoveryError::Io { path: path.to_owned(), source }
}

pub(super) fn damaged(log: &OldLog, source: ReplayError) -> RecoveryError {
    let path = format!("{}/{}", log.path, segment_name(source.segment()));
    RecoveryError::Damaged { path, source }
}
