//! Connect's unary protocol: the message is the body, HTTP carries the rest.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use proto::rpc::Failure;

use super::codec::invalid;
use super::reply::{self, Reply, ReplyBody};
use crate::budget::ShardBudget;
use crate::runtime::Spawn;

/// How long the client waits, if it says so (`Connect-Timeout-Ms`, at most ten digits).
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get("connect-timeout-ms") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text.is_empty() || text.len() > 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let shown = value.as_bytes().escape_ascii();
        return Err(invalid(format!("parse timeout: \"{shown}\" is not a number of milliseconds")));
    }
    Ok(Some(Duration::from_millis(text.parse().expect("ten digits fit 64 bits"))))
}

/// The reply of a call that went well.
pub(super) async fn success(
    rt: &impl Spawn,
    budget: &ShardBudget,
    request: &HeaderMap,
    content_type: &'static str,
    body: ReplyBody,
) -> Reply {
    let reply = reply::full(StatusCode::OK, content_type, body);
    reply::compressed(rt, budget, request, reply).await
}

/// The reply of a call that failed.
pub(super) fn failure(failure: &Failure) -> Reply {
    reply::failed(failure.code.connect_http_status(), failure)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proto::rpc::Code;

    use super::*;

    #[test]
    fn a_timeout_is_up_to_ten_digits_of_milliseconds() {
        let of = |value| {
            let mut headers = HeaderMap::new();
            headers.insert("connect-timeout-ms", HeaderValue::from_static(value));
            timeout(&headers)
        };
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
        assert_eq!(of("1500"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(of("9999999999"), Ok(Some(Duration::from_millis(9_999_999_999))));
        for wrong in ["", "12345678901", "-1", "1.5", "1s"] {
            assert_eq!(of(wrong).unwrap_err().code, Code::InvalidArgument, "{wrong:?}");
        }
    }
}
