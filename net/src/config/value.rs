//! Texts of flag values: Go's booleans and numbers, durations of Go and Prometheus alike, sizes, words; read and shown.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::flags::Kind;
use super::{LogFormat, LogLevel, RuntimeKind};
use crate::wal::Ack;
use crate::wal::recovery::Repair;

/// As Go's `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// A whole number that is not negative.
pub(super) fn integer<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let number: u64 =
        text.parse().map_err(|_| "expected a whole number of 0 or more".to_owned())?;
    T::try_from(number).map_err(|_| "the number is too large".to_owned())
}

/// A finite decimal that is not negative.
pub(super) fn float(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number of 0 or more".to_owned()),
    }
}

const DURATION_EXPECTED: &str = "expected a duration such as 1h30m, 500ms or 7d";

/// Units of [`duration`], longer names first where one begins with another.
const DURATION_UNITS: [(&str, f64); 10] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
    ("d", 86_400e9),
    ("w", 7.0 * 86_400e9),
    ("y", 365.0 * 86_400e9),
];

/// `1h30m`, `1.5h`, `7d`, `1w`, `0`: what Go's `ParseDuration` and Prometheus' durations accept together, not negative.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || DURATION_EXPECTED.to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ns = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| expected())?;
        rest = &rest[digits..];
        let (name, unit_ns) =
            DURATION_UNITS.iter().find(|(name, _)| rest.starts_with(name)).ok_or_else(expected)?;
        total_ns += number * unit_ns;
        rest = &rest[name.len()..];
    }
    // 292 years, the most that Go can hold; it also rules infinity out.
    if text.is_empty() || total_ns > i64::MAX as f64 {
        return Err(expected());
    }
    Ok(Duration::from_nanos(total_ns.round() as u64))
}

/// A duration in whole milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<i64, String> {
    let duration = duration(text)?;
    i64::try_from(duration.as_millis()).map_err(|_| DURATION_EXPECTED.to_owned())
}

/// Units of [`size`].
const SIZE_UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// `67108864`, `64MiB`, `1.5GiB`, `100MB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected a size such as 67108864, 64MiB or 1.5GB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = text[digits..].trim_start();
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    let number = &text[..digits];
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*factor).ok_or_else(expected);
    }
    let bytes = number.parse::<f64>().map_err(|_| expected())? * *factor as f64;
    // Above 2^53 an f64 skips bytes; nobody means such a size with a fraction.
    if bytes < (1_u64 << 53) as f64 { Ok(bytes as u64) } else { Err(expected()) }
}

/// Any text.
#[expect(clippy::unnecessary_wraps, reason = "the table of flags calls all readers alike")]
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A directory, which need not exist.
pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a directory".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// The beginning of paths in URLs, or nothing.
pub(super) fn url_path(text: &str) -> Result<String, String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if text.is_empty() || (text.starts_with('/') && text.bytes().all(is_part)) {
        Ok(text.to_owned())
    } else {
        Err("expected a path that begins with / and has letters, digits and -._~".to_owned())
    }
}

/// One of the words of a type.
pub(super) fn word<T: Words>(text: &str) -> Result<T, String> {
    T::WORDS.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = T::WORDS.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// A type whose every value has a word.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// Word and value.
    const WORDS: &'static [(&'static str, Self)];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("logfmt", Self::Logfmt), ("json", Self::Json)];
}

impl Words for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("debug", Self::Debug),
        ("info", Self::Info),
        ("warn", Self::Warn),
        ("error", Self::Error),
    ];
}

impl Words for RuntimeKind {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("uring", Self::Uring), ("portable", Self::Portable)];
}

impl Words for Repair {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("truncate", Self::Truncate)];
}

impl Words for Ack {
    const WORDS: &'static [(&'static str, Self)] =
        &[("fsync", Self::Fsync), ("memory", Self::Memory)];
}

/// A value as one would write it; reading it again gives the same value.
pub(super) trait Shown {
    /// The text of a value that a flag of this kind holds.
    fn shown(&self, kind: Kind) -> String;
}

impl<T: Words> Shown for T {
    fn shown(&self, _: Kind) -> String {
        let (word, _) =
            T::WORDS.iter().find(|(_, value)| value == self).expect("every value has a word");
        (*word).to_owned()
    }
}

impl Shown for String {
    fn shown(&self, _: Kind) -> String {
        self.clone()
    }
}

impl Shown for PathBuf {
    fn shown(&self, _: Kind) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl Shown for bool {
    fn shown(&self, _: Kind) -> String {
        self.to_string()
    }
}

impl Shown for f64 {
    fn shown(&self, _: Kind) -> String {
        self.to_string()
    }
}

impl Shown for Duration {
    fn shown(&self, _: Kind) -> String {
        shown_duration(*self)
    }
}

impl Shown for u16 {
    fn shown(&self, _: Kind) -> String {
        self.to_string()
    }
}

impl Shown for usize {
    fn shown(&self, kind: Kind) -> String {
        (*self as u64).shown(kind)
    }
}

impl Shown for u64 {
    fn shown(&self, kind: Kind) -> String {
        match kind {
            Kind::Size => shown_size(*self),
            _ => self.to_string(),
        }
    }
}

/// Limits hold durations as milliseconds.
impl Shown for i64 {
    fn shown(&self, kind: Kind) -> String {
        match kind {
            Kind::Duration => shown_duration(Duration::from_millis(self.unsigned_abs())),
            _ => self.to_string(),
        }
    }
}

fn shown_duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 7] = [
        ("w", 7 * 86_400_000_000_000),
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("ns", 1),
    ];
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, unit_ns) in UNITS {
        if rest >= unit_ns {
            let _ = write!(text, "{}{unit}", rest / unit_ns);
            rest %= unit_ns;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn shown_size(bytes: u64) -> String {
    let unit = SIZE_UNITS
        .iter()
        .rev()
        .find(|(name, unit)| name.ends_with("iB") && bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_and_of_prometheus_are_read() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1ms", Some(1)),
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("1w", Some(604_800_000)),
            ("1d12h", Some(129_600_000)),
            ("2m0s", Some(120_000)),
            ("1500us", Some(1)),
            ("1y", Some(31_536_000_000)),
            ("", None),
            ("5", None),
            ("h", None),
            ("-1h", None),
            ("1h ", None),
            ("1x", None),
            ("1..5h", None),
            ("300y", None),
            (&"9".repeat(400), None),
            (&format!("{}h", "9".repeat(400)), None),
        ];
        for (text, ms) in cases {
            assert_eq!(milliseconds(text).ok(), ms, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_bytes_and_both_kinds_of_units() {
        let cases = [
            ("0", Some(0)),
            ("67108864", Some(67_108_864)),
            ("64MiB", Some(67_108_864)),
            ("64 MiB", Some(67_108_864)),
            ("1.5KiB", Some(1536)),
            ("10kB", Some(10_000)),
            ("2GB", Some(2_000_000_000)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.5.1MiB", None),
            ("64mib", None),
            ("99999999999999999999", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn booleans_are_those_of_go() {
        let read = |text| boolean(text).ok();
        assert_eq!([read("true"), read("T"), read("1")], [Some(true); 3]);
        assert_eq!([read("false"), read("F"), read("0")], [Some(false); 3]);
        assert_eq!([read("yes"), read("tRUE"), read("")], [None; 3]);
    }

    #[test]
    fn numbers_are_not_negative_and_fit() {
        assert_eq!(integer::<u16>("65535"), Ok(65_535));
        assert!(integer::<u16>("65536").is_err());
        assert!(integer::<u16>("-1").is_err());
        assert_eq!(float("0.5"), Ok(0.5));
        assert!(float("NaN").is_err() && float("inf").is_err() && float("-1").is_err());
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (90_000, "1m30s"),
            (86_400_000, "1d"),
            (604_800_000, "1w"),
            (694_861_001, "1w1d1h1m1s1ms"),
        ] {
            assert_eq!(ms.shown(Kind::Duration), text);
            assert_eq!(milliseconds(text), Ok(ms));
        }
        for (bytes, text) in
            [(0_u64, "0"), (1000, "1000"), (64 << 20, "64MiB"), (1536, "1536"), (3 << 30, "3GiB")]
        {
            assert_eq!(bytes.shown(Kind::Size), text);
            assert_eq!(size(text), Ok(bytes));
        }
        assert_eq!(Duration::from_nanos(1_000_001).shown(Kind::Duration), "1ms1ns");
        assert_eq!(
            (0.5_f64.shown(Kind::Float), 4.0_f64.shown(Kind::Float)),
            ("0.5".to_owned(), "4".to_owned())
        );
        assert_eq!(LogLevel::Warn.shown(Kind::Text), "warn");
    }
}
