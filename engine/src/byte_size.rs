//! Byte counts as texts, the way Go's humanize prints them: clients and dashboards match on these.

/// `4.2 MB`: powers of 1000.
pub fn si(bytes: u64) -> String {
    text(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `4.0 MiB`: powers of 1024.
pub fn iec(bytes: u64) -> String {
    text(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn text(bytes: u64, base: f64, units: &[&str]) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    // One decimal, and none from 10 on; rounding half up at the first decimal as humanize does.
    let rounded = (value * 10.0 + 0.5).floor() / 10.0;
    if rounded < 10.0 {
        format!("{rounded:.1} {}", units[unit])
    } else {
        format!("{rounded:.0} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_go_prints_them() {
        let cases = [
            (0, "0 B", "0 B"),
            (9, "9 B", "9 B"),
            (82, "82 B", "82 B"),
            (4_194_304, "4.2 MB", "4.0 MiB"),
            (268_435_456, "268 MB", "256 MiB"),
            (1_258_291, "1.3 MB", "1.2 MiB"),
        ];
        for (bytes, si_text, iec_text) in cases {
            assert_eq!((si(bytes).as_str(), iec(bytes).as_str()), (si_text, iec_text), "{bytes}");
        }
    }
}
