//! Connect's unary protocol: codecs by content type, request compression, deadlines.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use prost::Message;
use proto::rpc::{Code, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pieces::{self, Pieced};
use super::reply::{self, Reply, ReplyBody};
use crate::runtime::Spawn;

/// How messages are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Codec {
    /// Protobuf's binary encoding.
    Proto,
    /// Protobuf JSON.
    Json,
}

impl Codec {
    /// The codec of a request; `None` for a content type procedures do not take.
    pub(super) fn of_request(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/proto") {
            Some(Self::Proto)
        } else if media_type.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }

    /// Content type of replies.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Proto => "application/proto",
            Self::Json => "application/json",
        }
    }

    /// Reads a message. In binary, `Bytes` fields are views of the body.
    pub(super) fn decode<M: Message + Default + DeserializeOwned>(
        self,
        body: Bytes,
    ) -> Result<M, Failure> {
        match self {
            Self::Proto => M::decode(body).map_err(|error| format!("unmarshal message: {error}")),
            Self::Json => proto::json::from_json(&body),
        }
        .map_err(invalid)
    }

    /// Writes a reply that is small whatever is stored.
    pub(super) fn encode<M: Message + Serialize>(self, message: &M) -> Reply {
        let body = match self {
            Self::Proto => message.encode_to_vec(),
            Self::Json => proto::json::to_json(message),
        };
        reply::full(StatusCode::OK, self.content_type(), body.into())
    }

    /// Writes a reply that may be large, piece by piece.
    pub(super) async fn encode_in_pieces(self, rt: &impl Spawn, message: impl Pieced) -> Reply {
        let body = ReplyBody::of_blocks(pieces::write(rt, self, message).await, Vec::new());
        reply::full(StatusCode::OK, self.content_type(), body)
    }
}

/// How the body of a request is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
}

impl Encoding {
    /// The encoding of a request; an unknown one is refused.
    pub(super) fn of_request(headers: &HeaderMap) -> Result<Self, Failure> {
        let name = headers.get(CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes());
        match name {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" => Ok(Self::Gzip),
            other => Err(Failure {
                code: Code::Unimplemented,
                reason: "",
                message: format!(
                    "unknown compression \"{}\": supported encodings are gzip",
                    other.escape_ascii()
                ),
            }),
        }
    }
}

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

/// The client's deadline passed, or the server's own; the text is Pyroscope's.
pub(crate) fn deadline_exceeded() -> Failure {
    Failure {
        code: Code::DeadlineExceeded,
        reason: "",
        message:
            "request timed out, decrease the duration of the request or add more label matchers \
                  (prefer exact match over regex match) to reduce the amount of data processed"
                .to_owned(),
    }
}

/// The request is wrong.
pub(super) fn invalid(message: String) -> Failure {
    Failure { code: Code::InvalidArgument, reason: "", message }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proto::querier::ProfileTypesRequest;

    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn the_content_type_names_the_codec() {
        for (content_type, codec) in [
            ("application/json", Some(Codec::Json)),
            ("application/json; charset=utf-8", Some(Codec::Json)),
            ("Application/JSON;charset=UTF-8", Some(Codec::Json)),
            ("application/proto", Some(Codec::Proto)),
            ("application/protobuf", None),
            ("application/grpc", None),
            ("application/grpc-web+proto", None),
            ("application/connect+json", None),
            ("text/plain", None),
            ("", None),
        ] {
            let headers = headers("content-type", content_type);
            assert_eq!(Codec::of_request(&headers), codec, "{content_type:?}");
        }
        assert_eq!(Codec::of_request(&HeaderMap::new()), None);
    }

    #[test]
    fn encodings_other_than_gzip_are_unimplemented() {
        assert_eq!(Encoding::of_request(&HeaderMap::new()), Ok(Encoding::Identity));
        let known = headers("content-encoding", "gzip");
        assert_eq!(Encoding::of_request(&known), Ok(Encoding::Gzip));
        let failure = Encoding::of_request(&headers("content-encoding", "br")).unwrap_err();
        assert_eq!(failure.code, Code::Unimplemented);
        assert_eq!(failure.message, "unknown compression \"br\": supported encodings are gzip");
    }

    #[test]
    fn a_timeout_is_up_to_ten_digits_of_milliseconds() {
        let of = |value| timeout(&headers("connect-timeout-ms", value));
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
        assert_eq!(of("1500"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(of("9999999999"), Ok(Some(Duration::from_millis(9_999_999_999))));
        for wrong in ["", "12345678901", "-1", "1.5", "1s"] {
            assert_eq!(of(wrong).unwrap_err().code, Code::InvalidArgument, "{wrong:?}");
        }
    }

    #[test]
    fn an_empty_body_is_a_message_in_binary_but_not_in_json() {
        let default = Codec::Proto.decode::<ProfileTypesRequest>(Bytes::new());
        assert_eq!(default, Ok(ProfileTypesRequest::default()));
        let failure = Codec::Json.decode::<ProfileTypesRequest>(Bytes::new()).unwrap_err();
        assert_eq!(
            failure.message,
            "unmarshal message: zero-length payload is not a valid JSON object"
        );
        let failure =
            Codec::Proto.decode::<ProfileTypesRequest>(Bytes::from_static(b"\xff")).unwrap_err();
        assert!(failure.message.starts_with("unmarshal message: "), "{}", failure.message);
    }
}
