//! The query string of `/ingest`.

use super::app_name::AppName;
use super::attime::attime;
use super::error::IngestError;

/// Samples a second where a request gives no usable rate.
const SAMPLE_RATE_DEFAULT: u32 = 100;

/// The highest rate with a period of at least a nanosecond.
const SAMPLE_RATE_MAX: u32 = 1_000_000_000;

/// Parameters with a meaning; every other one (`units`, `aggregationType`, what proxies add) is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Params {
    /// Application and labels.
    pub name: AppName,
    /// Start of the profile, Unix nanoseconds.
    pub from_ns: i64,
    /// Samples a second; 0 switches the scaling of text formats off.
    pub sample_rate: u32,
    /// Value of `pyroscope_spy`.
    pub spy_name: String,
    /// As given; empty when absent.
    pub format: String,
}

impl Params {
    /// Reads a raw query string; of a parameter given twice the first counts.
    pub(super) fn parse(query: &str, now_ns: i64) -> Result<Self, IngestError> {
        let get = |wanted: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == wanted)
                .map(|(_, value)| value.into_owned())
                .filter(|value| !value.is_empty())
        };
        let name = AppName::parse(get("name").as_deref().unwrap_or_default())
            .map_err(|error| IngestError::bad_name(&error))?;
        Ok(Self {
            name,
            from_ns: get("from").map_or(now_ns, |text| attime(&text, now_ns)),
            sample_rate: get("sampleRate").map_or(SAMPLE_RATE_DEFAULT, |text| sample_rate(&text)),
            spy_name: get("spyName").unwrap_or_else(|| "unknown".to_owned()),
            format: get("format").unwrap_or_default(),
        })
    }
}

/// An unusable rate is the default, not an error: agents send what their config holds.
fn sample_rate(text: &str) -> u32 {
    text.parse().ok().filter(|rate| *rate <= SAMPLE_RATE_MAX).unwrap_or(SAMPLE_RATE_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_defaults() {
        let params = Params::parse("name=app", 7).unwrap();
        assert_eq!(params.from_ns, 7);
        assert_eq!(params.sample_rate, 100);
        assert_eq!(params.spy_name, "unknown");
        assert_eq!(params.format, "");
    }

    #[test]
    fn values_are_percent_decoded_and_unknown_parameters_ignored() {
        let query = "units=x&from=now-1s&name=a.b%7Bk%3Dv%20w%2Cl=m+n%7D&spyName=gospy&spyName=other&format=pprof&%zz&=&x";
        let params = Params::parse(query, 2_000_000_000).unwrap();
        assert_eq!(params.name.app, "a.b");
        assert_eq!(params.name.labels["k"], "v w");
        assert_eq!(params.name.labels["l"], "m n");
        assert_eq!((params.from_ns, params.spy_name.as_str()), (1_000_000_000, "gospy"));
    }

    #[test]
    fn an_unusable_rate_is_the_default() {
        let cases = [
            ("0", 0),
            ("17", 17),
            ("x", 100),
            ("-1", 100),
            ("1.5", 100),
            ("99999999999", 100),
            ("", 100),
        ];
        for (text, rate) in cases {
            let params = Params::parse(&format!("name=a&sampleRate={text}"), 0).unwrap();
            assert_eq!(params.sample_rate, rate, "{text}");
        }
    }

    #[test]
    fn any_query_is_read_or_refused() {
        bolero::check!().with_type().for_each(|query: &String| {
            let named = format!("name=a&{query}");
            assert!(Params::parse(&named, 0).is_ok(), "only a name is ever refused");
            let _ = Params::parse(query, 0);
        });
    }
}
