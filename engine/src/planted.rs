//! Bugs planted on purpose, so that the simulator's checkers can be shown to catch what they are for.
//!
//! Compiled only under the cargo feature `planted-bugs`, which no build of the product has. A bug is a value handed to the
//! code that holds it; nothing here or in `net`'s library reads the environment, so even a test build of the binary is sound.

/// A bug that one of the simulator's checkers must catch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Bug {
    /// A segment of the log is released while frozen heads still need it.
    TruncateLogEarly,
    /// A group is acknowledged without `fdatasync`.
    NoFdatasync,
    /// A group is acknowledged after its write, before its `fdatasync`.
    AckBeforeSync,
    /// Replay believes a group without looking at its checksum.
    SkipTornCheck,
    /// Recovery hands every batch of a log to its owner twice.
    ReplayTwice,
    /// Sealing a chunk of a head loses it.
    DropSealedChunk,
    /// A block gets its name before its files are synced.
    PublishBeforeFsync,
    /// While a block takes the place of its heads, reads see both.
    DoubleCountDuringCut,
    /// A start that lists the blocks forgets one interval of what a block holds.
    LoseIntervalOnRecovery,
    /// A disk that is low has its oldest block removed, inside its retention period.
    DeleteOnlyCopy,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NoFdatasync,
        Self::AckBeforeSync,
        Self::SkipTornCheck,
        Self::ReplayTwice,
        Self::DropSealedChunk,
        Self::PublishBeforeFsync,
        Self::DoubleCountDuringCut,
        Self::LoseIntervalOnRecovery,
        Self::TruncateLogEarly,
        Self::DeleteOnlyCopy,
    ];

    /// The name by which a test chooses it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TruncateLogEarly => "truncate_log_early",
            Self::NoFdatasync => "no_fdatasync",
            Self::AckBeforeSync => "ack_before_sync",
            Self::SkipTornCheck => "skip_torn_check",
            Self::ReplayTwice => "replay_twice",
            Self::DropSealedChunk => "drop_sealed_chunk",
            Self::PublishBeforeFsync => "publish_before_fsync",
            Self::DoubleCountDuringCut => "double_count_during_cut",
            Self::LoseIntervalOnRecovery => "lose_interval_on_recovery",
            Self::DeleteOnlyCopy => "delete_only_copy",
        }
    }

    /// The bug of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.as_str() == name)
    }
}
