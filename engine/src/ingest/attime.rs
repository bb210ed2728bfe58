//! Times as `from` and `until` say them: Unix times of four units, dates, and offsets from now.

const SECOND_NS: i64 = 1_000_000_000;

/// From 0000-03-01.
const DAYS_TO_1970: i64 = 719_468;

/// Reads `text` as Unix nanoseconds; what cannot be read is now.
///
/// Digits alone are a date when they are eight and look like `YYYYMMDD` after 1900 (midnight UTC), milliseconds when 13,
/// microseconds when 16, nanoseconds when 19, else seconds. Anything else is now plus the offsets behind the first sign:
/// `now-1h30m`, `now+1s`. Underscores, commas and blanks are dropped first. Saturates at the ends of `i64`.
pub fn attime(text: &str, now_ns: i64) -> i64 {
    let text: String = text.trim().chars().filter(|c| !matches!(c, '_' | ',' | ' ')).collect();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return of_digits(&text);
    }
    let sign_at = text.find('+').or_else(|| text.find('-'));
    let offset_s = sign_at.map_or(0, |at| of_offset(&text[at..]));
    now_ns.saturating_add(offset_s.saturating_mul(SECOND_NS))
}

fn of_digits(digits: &str) -> i64 {
    let number = digits.parse().unwrap_or(i64::MAX); // digits alone fail only by being too many
    match digits.len() {
        8 => midnight_of(digits).unwrap_or_else(|| number.saturating_mul(SECOND_NS)),
        13 => number.saturating_mul(1_000_000),
        16 => number.saturating_mul(1_000),
        19 => number,
        _ => number.saturating_mul(SECOND_NS),
    }
}

/// Unix nanoseconds of the midnight that begins `YYYYMMDD`, where that is a day after 1900.
fn midnight_of(digits: &str) -> Option<i64> {
    let (year, month, day): (i64, i64, i64) =
        (digits[..4].parse().ok()?, digits[4..6].parse().ok()?, digits[6..].parse().ok()?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if year <= 1900 || day < 1 || days_in_month < day {
        return None;
    }
    // Days of the years before, counted from March so that the leap day is the last of its year.
    let (march_year, march_month) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_year = march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400;
    let days_before_month = (march_month * 153 + 2) / 5;
    let days = days_before_year + days_before_month + day - 1 - DAYS_TO_1970;
    Some(days.saturating_mul(86_400 * SECOND_NS))
}

/// Seconds of `-1h30m` or `+5min`: one sign for all of it; a number without a known unit is nothing.
fn of_offset(signed: &str) -> i64 {
    let mut rest = &signed[1..];
    let mut seconds = 0_i64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(unit_at);
        let next_at = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(next_at);
        let number = if number.is_empty() { 0 } else { number.parse().unwrap_or(i64::MAX) };
        seconds = seconds.saturating_add(number.saturating_mul(unit_seconds(unit)));
        rest = next;
    }
    if signed.starts_with('-') { -seconds } else { seconds }
}

fn unit_seconds(unit: &str) -> i64 {
    const DAY: i64 = 86_400;
    // In this order: `M` and `mon` are months, every other `m` minutes.
    let units = [
        ("s", 1),
        ("mon", 30 * DAY),
        ("M", 30 * DAY),
        ("m", 60),
        ("h", 3600),
        ("d", DAY),
        ("w", 7 * DAY),
        ("y", 365 * DAY),
    ];
    units.iter().find(|(prefix, _)| unit.starts_with(prefix)).map_or(0, |(_, seconds)| *seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_335_190 * SECOND_NS;

    #[test]
    fn digits_are_a_unix_time_by_their_number_or_a_date() {
        let cases = [
            ("1795335190", NOW),
            ("1795335190123", NOW + 123_000_000),
            ("1795335190123456", NOW + 123_456_000),
            ("1795335190123456789", NOW + 123_456_789),
            ("0", 0),
            ("19700101", 0),
            ("20261122", 1_795_305_600 * SECOND_NS),
            ("20240229", 1_709_164_800 * SECOND_NS),
            ("20000229", 951_782_400 * SECOND_NS),
            ("19010101", -2_177_452_800 * SECOND_NS),
            ("20230229", 20_230_229 * SECOND_NS), // no such day: seconds
            ("20261301", 20_261_301 * SECOND_NS),
            ("19000101", 19_000_101 * SECOND_NS),
            (" 1_795_335_190 ", NOW),
            ("1,795,335,190", NOW),
            ("99999999999999999999", i64::MAX),
        ];
        for (text, ns) in cases {
            assert_eq!(attime(text, 42), ns, "{text}");
        }
    }

    #[test]
    fn offsets_are_from_now() {
        let cases = [
            ("now", 0),
            ("now-1s", -1),
            ("now+1s", 1),
            ("now-1min", -60),
            ("now-5m", -300),
            ("now-1h", -3600),
            ("now-1h30m", -5400),
            ("now-2d", -2 * 86_400),
            ("now-1w", -7 * 86_400),
            ("now-1mon", -30 * 86_400),
            ("now-1M", -30 * 86_400),
            ("now-1y", -365 * 86_400),
            ("now - 1 h", -3600),
            ("-1h", -3600),
            ("now-1", 0), // no unit
            ("now-1q", 0),
            ("now-", 0),
            ("yesterday", 0),
            ("", 0),
        ];
        for (text, seconds) in cases {
            assert_eq!(attime(text, NOW), NOW + seconds * SECOND_NS, "{text}");
        }
        assert!(attime("now-999999999999999999999y", NOW) < 0, "saturates, does not wrap");
    }

    #[test]
    fn any_text_is_a_time() {
        bolero::check!().with_type().for_each(|(text, number, now): &(String, u16, i64)| {
            attime(text, *now);
            attime(&format!("now-{text}"), *now);
            let number = i64::from(*number);
            for (unit, seconds) in [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)] {
                let offset_ns = (number * seconds).saturating_mul(SECOND_NS);
                let past = attime(&format!("now-{number}{unit}"), *now);
                assert_eq!(past, now.saturating_sub(offset_ns), "{number}{unit}");
                let future = attime(&format!("now+{number}{unit}"), *now);
                assert_eq!(future, now.saturating_add(offset_ns), "{number}{unit}");
            }
            let digits = format!("{number:010}");
            assert_eq!(attime(&digits, *now), number * SECOND_NS, "{digits}");
        });
    }
}
