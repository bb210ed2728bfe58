//! Instants as Go prints them: the form that clients know from Pyroscope's error texts.

/// An instant of Unix milliseconds: `2026-11-24 05:30:00.123 +0000 UTC`; a fraction ends with its last digit that is not 0.
pub fn format_time_ms(unix_ms: i64) -> String {
    let (day, ms_of_day) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(day);
    let (second, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    let fraction = fraction.trim_end_matches('0');
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction} +0000 UTC")
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day ends one, in eras of 400 years of 146,097 days
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_as_go_prints_them() {
        for (unix_ms, text) in [
            (0, "1970-01-01 00:00:00 +0000 UTC"),
            (1_795_498_200_123, "2026-11-24 05:30:00.123 +0000 UTC"),
            (1_795_498_200_100, "2026-11-24 05:30:00.1 +0000 UTC"),
            (951_782_400_020, "2000-02-29 00:00:00.02 +0000 UTC"),
            (4_107_542_399_000, "2100-02-28 23:59:59 +0000 UTC"),
            (-1, "1969-12-31 23:59:59.999 +0000 UTC"),
            (253_402_300_800_000, "10000-01-01 00:00:00 +0000 UTC"),
        ] {
            assert_eq!(format_time_ms(unix_ms), text);
        }
    }
}
