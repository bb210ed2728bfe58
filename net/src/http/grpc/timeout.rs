//! `grpc-timeout`: how long the client waits, as up to eight digits and a unit.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use proto::rpc::Failure;

use crate::http::codec::invalid;

/// The greatest number: eight digits.
const NUMBER_MAX: u64 = 99_999_999;

/// A longer timeout is none: nothing here waits for a year, and timers count nanoseconds in 64 bits.
const TIMEOUT_MAX: Duration = Duration::from_hours(24 * 365);

/// The timeout of a request, if it has one.
pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let value = headers.get("grpc-timeout").map_or(&b""[..], HeaderValue::as_bytes);
    parse(value).map_err(|text| invalid(format!("protocol error: {text}")))
}

fn parse(value: &[u8]) -> Result<Option<Duration>, String> {
    let Some((unit, digits)) = value.split_last() else { return Ok(None) };
    let of_number: fn(u64) -> Duration = match unit {
        b'n' => Duration::from_nanos,
        b'u' => Duration::from_micros,
        b'm' => Duration::from_millis,
        b'S' => Duration::from_secs,
        b'M' => Duration::from_mins,
        b'H' => Duration::from_hours,
        other => return Err(format!("timeout has invalid unit '{}'", other.escape_ascii())),
    };
    let number = std::str::from_utf8(digits)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("invalid timeout \"{}\"", value.escape_ascii()))?;
    // More digits than a number holds are too long as well; leading zeros are not.
    match number.parse() {
        Ok(number @ ..=NUMBER_MAX) => Ok(Some(of_number(number)).filter(|it| *it <= TIMEOUT_MAX)),
        _ => Err(format!("timeout \"{}\" is too long", value.escape_ascii())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_known() {
        for (value, want) in [
            ("0n", Duration::ZERO),
            ("7n", Duration::from_nanos(7)),
            ("1500u", Duration::from_micros(1500)),
            ("100m", Duration::from_millis(100)),
            ("5S", Duration::from_secs(5)),
            ("0000000005S", Duration::from_secs(5)),
            ("2M", Duration::from_mins(2)),
            ("3H", Duration::from_hours(3)),
            ("8760H", Duration::from_hours(8760)),
        ] {
            assert_eq!(parse(value.as_bytes()), Ok(Some(want)), "{value}");
        }
        for none in [&b""[..], b"8761H", b"99999999H"] {
            assert_eq!(parse(none), Ok(None));
        }
    }

    #[test]
    fn anything_else_is_said_to_be_wrong() {
        for (value, text) in [
            ("5", "timeout has invalid unit '5'"),
            ("5s", "timeout has invalid unit 's'"),
            ("5h", "timeout has invalid unit 'h'"),
            ("S", "invalid timeout \"S\""),
            ("-1S", "invalid timeout \"-1S\""),
            ("+1S", "invalid timeout \"+1S\""),
            ("1.5S", "invalid timeout \"1.5S\""),
            ("1 S", "invalid timeout \"1 S\""),
            ("100000000n", "timeout \"100000000n\" is too long"),
            ("99999999999999999999999S", "timeout \"99999999999999999999999S\" is too long"),
        ] {
            assert_eq!(parse(value.as_bytes()), Err(text.to_owned()), "{value}");
        }
        assert!(parse(b"\xff\xfeS").is_err() && parse(b"5\xff").is_err());
    }

    #[test]
    fn any_header_is_a_timeout_or_an_error_in_ascii() {
        bolero::check!().for_each(|value: &[u8]| match parse(value) {
            Err(text) => assert!(text.is_ascii() && !text.contains(char::is_control)),
            Ok(None) => assert!(value.is_empty() || b"MH".contains(value.last().unwrap())),
            Ok(Some(timeout)) => assert!(timeout <= TIMEOUT_MAX),
        });
    }

    #[test]
    fn any_number_and_unit_is_that_duration() {
        bolero::check!().with_type::<(u32, u8)>().for_each(|(number, unit)| {
            let number = u64::from(*number) % (NUMBER_MAX + 1);
            let (name, nanos) = [
                ('n', 1),
                ('u', 1_000),
                ('m', 1_000_000),
                ('S', 1_000_000_000),
                ('M', 60_000_000_000),
                ('H', 3_600_000_000_000_u128),
            ][usize::from(unit % 6)];
            let timeout = parse(format!("{number}{name}").as_bytes()).unwrap();
            let want = Some(u128::from(number) * nanos).filter(|it| *it <= TIMEOUT_MAX.as_nanos());
            assert_eq!(timeout.map(|it| it.as_nanos()), want);
        });
    }
}
