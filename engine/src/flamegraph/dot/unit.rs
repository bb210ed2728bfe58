//! Values as pprof prints them: times in seconds, sizes in bytes, everything else as a number.

/// What values are counted in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    /// Nanoseconds a unit.
    Time(f64),
    /// Bytes a unit.
    Size(f64),
    /// A plain number.
    Count,
}

impl Unit {
    /// Recognises a sample unit, singular or plural.
    pub(super) fn of(name: &str) -> Self {
        let name = name.to_lowercase();
        let singular = if name.len() > 2 { name.strip_suffix('s').unwrap_or(&name) } else { &name };
        match singular {
            "ns" | "nanosecond" => Self::Time(1.0),
            "us" | "μs" | "microsecond" => Self::Time(1e3),
            "ms" | "millisecond" => Self::Time(1e6),
            "s" | "sec" | "second" => Self::Time(1e9),
            "hr" | "hour" => Self::Time(3.6e12),
            "b" | "byte" => Self::Size(1.0),
            "kb" | "kbyte" | "kilobyte" => Self::Size(1024.0),
            "mb" | "mbyte" | "megabyte" => Self::Size(1_048_576.0),
            "gb" | "gbyte" | "gigabyte" => Self::Size(1_073_741_824.0),
            _ => Self::Count,
        }
    }

    /// `0.18s`, `4096B`, `12`; zero has no unit.
    pub(super) fn show(self, value: i64) -> String {
        let (value, unit) = match self {
            Self::Time(factor) => (value as f64 * factor / 1e9, "s"),
            Self::Size(factor) => (value as f64 * factor, "B"),
            Self::Count => return value.to_string(),
        };
        let text = format!("{value:.2}");
        match text.strip_suffix(".00").unwrap_or(&text) {
            "0" | "-0" => "0".to_owned(),
            text => format!("{text}{unit}"),
        }
    }
}

/// Share of a total: at least two digits, `100%` within half a thousandth.
pub(super) fn percentage(value: i64, total: i64) -> String {
    let ratio = if total == 0 { 0.0 } else { (value as f64 / total as f64).abs() * 100.0 };
    if (99.95..=100.05).contains(&ratio) {
        "100%".to_owned()
    } else if ratio >= 1.0 {
        format!("{ratio:.2}%")
    } else if ratio == 0.0 {
        "0%".to_owned()
    } else {
        // two significant digits, without trailing zeros
        let digits = (1.0 - ratio.log10().floor()).clamp(1.0, 9.0) as usize;
        let text = format!("{ratio:.digits$}");
        format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_pprof_shows_them() {
        for (unit, value, text) in [
            ("nanoseconds", 180_000_000, "0.18s"),
            ("nanoseconds", 3_000_000_000, "3s"),
            ("nanoseconds", 1, "0"),
            ("microseconds", 1_500_000, "1.50s"),
            ("bytes", 4096, "4096B"),
            ("count", 12, "12"),
            ("objects", 0, "0"),
        ] {
            assert_eq!(Unit::of(unit).show(value), text, "{value} {unit}");
        }
    }

    #[test]
    fn shares_have_two_digits() {
        for (value, text) in [
            (100_000, "100%"),
            (99_960, "100%"),
            (33_333, "33.33%"),
            (1_000, "1.00%"),
            (500, "0.5%"),
            (123, "0.12%"),
            (1, "0.001%"),
            (0, "0%"),
        ] {
            assert_eq!(percentage(value, 100_000), text, "{value}");
        }
        assert_eq!(percentage(5, 0), "0%");
    }
}
