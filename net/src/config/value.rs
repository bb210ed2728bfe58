//! Texts of flag values: Go's booleans and numbers, durations of Go and Prometheus alike, sizes.

use std::time::Duration;

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
}
