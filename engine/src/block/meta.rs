//! `meta.json`: what a block is, and the length and checksum of each of its files. Written last: with it a block exists.
//!
//! Its own checksum is its last member, over all bytes before that member; so the text must end exactly as it is written here.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{BLOCK_VERSION, BLOCK_VERSION_MIN, BlockError, META_FILE};

/// What stands before the checksum's digits.
const CHECKSUM_LEAD: &str = ",\n  \"checksum\": \"";

/// What stands behind them, and ends the file.
const CHECKSUM_TAIL: &str = "\"\n}\n";

/// Hexadecimal digits of a checksum.
const CHECKSUM_DIGITS: usize = 16;

/// Greatest length that is read: a block has a fixed number of files.
const META_BYTES_MAX: usize = 64 << 10;

/// A block's description.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// [`BLOCK_VERSION`] of the writer.
    pub version: u16,
    /// Its name; the ULID's time is the cut's.
    pub ulid: String,
    /// Whose.
    pub tenant: String,
    /// 1 for what a cut wrote, one more for each merge.
    pub level: u32,
    /// Least profile time, Unix nanoseconds.
    pub min_time_ns: i64,
    /// Greatest profile time, Unix nanoseconds.
    pub max_time_ns: i64,
    /// How much is in it.
    pub stats: Stats,
    /// Every other file, by name.
    pub files: Vec<FileFacts>,
}

/// Counts of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Partitions.
    pub partitions: u64,
    /// Series.
    pub series: u64,
    /// Profiles as they were sent.
    pub profiles: u64,
    /// Rows of `profiles`: one for each series of a profile.
    pub profile_rows: u64,
    /// Rows of `samples`.
    pub samples: u64,
}

/// Length and checksum of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Its name in the block's directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// xxh3-64 of its bytes.
    #[serde(with = "hexadecimal")]
    pub checksum: u64,
}

impl FileFacts {
    #[cfg(test)]
    pub(super) fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), bytes: bytes.len() as u64, checksum: xxh3_64(bytes) }
    }
}

/// What every version has: enough to refuse a newer one in words.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Meta {
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("a meta has string keys");
        let open = text.strip_suffix("\n}").expect("an object in lines ends with its brace");
        let checksum = xxh3_64(open.as_bytes());
        format!("{open}{CHECKSUM_LEAD}{checksum:016x}{CHECKSUM_TAIL}").into_bytes()
    }

    /// Reads the file's bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlockError> {
        let bad = |what: &'static str| BlockError::Malformed { file: META_FILE, what };
        if bytes.len() > META_BYTES_MAX {
            return Err(bad("longer than any"));
        }
        let text = str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        // The version first: a newer one may lay its checksum out anew.
        let version: Version = serde_json::from_str(text).map_err(|_| bad("no JSON of a block"))?;
        let is_read = u64::from(BLOCK_VERSION_MIN)..=u64::from(BLOCK_VERSION);
        if !is_read.contains(&version.version) {
            return Err(BlockError::Version { file: META_FILE, found: version.version });
        }
        let rest =
            text.strip_suffix(CHECKSUM_TAIL).ok_or_else(|| bad("does not end with a checksum"))?;
        let split = rest.len().checked_sub(CHECKSUM_DIGITS).filter(|at| rest.is_char_boundary(*at));
        let (rest, digits) =
            rest.split_at(split.ok_or_else(|| bad("does not end with a checksum"))?);
        let open =
            rest.strip_suffix(CHECKSUM_LEAD).ok_or_else(|| bad("does not end with a checksum"))?;
        let expected =
            hexadecimal::parse(digits).ok_or_else(|| bad("does not end with a checksum"))?;
        let found = xxh3_64(open.as_bytes());
        if found != expected {
            let bytes = open.len() as u64;
            return Err(BlockError::Checksum {
                file: META_FILE,
                offset: 0,
                bytes,
                found,
                expected,
            });
        }
        let meta: Self = serde_json::from_str(&format!("{open}\n}}"))
            .map_err(|_| bad("not what a block of its version says of itself"))?;
        if !meta.files.windows(2).all(|pair| pair[0].name < pair[1].name) {
            return Err(bad("files are out of order"));
        }
        Ok(meta)
    }

    /// What it says of a file.
    pub fn file(&self, name: &str) -> Option<&FileFacts> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// A checksum as 16 digits: JSON's numbers are not whole beyond 2^53.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(super) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| serde::de::Error::custom("a checksum has 16 digits"))
    }

    pub(super) fn parse(text: &str) -> Option<u64> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (text.len() == 16 && digits).then(|| u64::from_str_radix(text, 16).ok())?
    }
}
