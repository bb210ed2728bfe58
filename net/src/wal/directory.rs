//! Where logs lie: `wal/<run ULID>/<shard>/<segment number>.wal` below the data directory.

use ulid::Ulid;

/// Directory of all logs.
pub const ROOT: &str = "wal";

const SEGMENT_SUFFIX: &str = ".wal";

/// As long as the other: a directory that is full of names has room for it.
const SPARE_SUFFIX: &str = ".old";

/// Directory of a run's logs.
pub(super) fn run_path(run: u128) -> String {
    format!("{ROOT}/{}", Ulid(run))
}

/// Directory of one log.
pub(super) fn log_path(run: u128, shard: u16) -> String {
    format!("{}/{shard}", run_path(run))
}

/// A segment's file in its log's directory; eight digits, so that names sort as numbers.
pub fn segment_name(number: u64) -> String {
    format!("{number:08}{SEGMENT_SUFFIX}")
}

/// The file of a segment that was released, until it is another one.
pub(super) fn spare_name(number: u64) -> String {
    format!("{number:08}{SPARE_SUFFIX}")
}

/// Whether a file in a log's directory is what a released segment left: nobody needs it.
pub fn is_spare(name: &str) -> bool {
    let number = name.strip_suffix(SPARE_SUFFIX).and_then(|number| number.parse().ok());
    number.is_some_and(|number| spare_name(number) == name)
}

/// The run a directory's name stands for.
pub fn run_of(name: &str) -> Option<u128> {
    let run = Ulid::from_string(name).ok()?;
    (run.to_string() == name).then_some(run.0)
}

/// The shard a directory's name stands for.
pub fn shard_of(name: &str) -> Option<u16> {
    let shard: u16 = name.parse().ok()?;
    (shard.to_string() == name).then_some(shard)
}

/// The segment a file's name stands for.
pub fn segment_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_do_not() {
        assert_eq!(segment_of(&segment_name(7)), Some(7));
        assert_eq!(segment_of(&segment_name(123_456_789)), Some(123_456_789));
        assert_eq!(segment_of("7.wal"), None);
        assert_eq!((segment_of(&spare_name(7)), is_spare(&spare_name(7))), (None, true));
        assert!(!is_spare(&segment_name(7)) && !is_spare("7.old"));
        assert_eq!(segment_of("00000007.wal.tmp"), None);
        let run = 0x0193_5a7b_0000_0000_0000_0000_0000_002a_u128;
        assert_eq!(run_of(run_path(run).strip_prefix("wal/").unwrap()), Some(run));
        assert_eq!(run_of("lost+found"), None);
        assert_eq!((shard_of("12"), shard_of("012"), shard_of("x")), (Some(12), None, None));
    }
}
