//! What a call is written in: a protocol (Connect, gRPC, gRPC-Web) and a codec, told by its content type.
//!
//! ```text
//! headers ─► Form ─► timeout, encoding        before the body is read
//! body ────► Opener ─► message ─► Codec ─► procedure ─► Codec ─► Form::success
//!                                              └─ Failure ─────► Form::failure
//! ```
//! The three protocols meet in one type, so that limits, tenants, deadlines and accounting exist once (`routes::rpc`).
//!
//! Not here: Connect's GET and streams (Pyroscope serves neither), `grpc-status-details-bin` (no failure has details).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use proto::rpc::{Code, Failure};

use super::body::{BodyError, Opener};
use super::codec::Codec;
use super::connect;
use super::grpc::{self, FrameReader, TextReader};
use super::reply::{Reply, ReplyBody};
use super::rope::Rope;
use crate::budget::ShardBudget;
use crate::runtime::Spawn;

/// What goes around messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    /// Connect, unary: nothing.
    Connect,
    /// gRPC: frames, and trailers of HTTP/2.
    Grpc,
    /// gRPC-Web: frames, trailers in the last of them; any HTTP.
    GrpcWeb,
    /// gRPC-Web in base64.
    GrpcWebText,
}

/// How a call and its answer are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Form {
    /// Content type, of the answer too.
    pub(super) content_type: &'static str,
    /// What goes around messages.
    pub(super) protocol: Protocol,
    /// What messages are written in.
    pub(super) codec: Codec,
}

/// Every content type of a call, in the order of `Accept-Post`.
const FORMS: [(&str, Protocol, Codec); 10] = [
    ("application/grpc", Protocol::Grpc, Codec::Proto),
    ("application/grpc+json", Protocol::Grpc, Codec::Json),
    ("application/grpc+proto", Protocol::Grpc, Codec::Proto),
    ("application/grpc-web", Protocol::GrpcWeb, Codec::Proto),
    ("application/grpc-web+json", Protocol::GrpcWeb, Codec::Json),
    ("application/grpc-web+proto", Protocol::GrpcWeb, Codec::Proto),
    ("application/grpc-web-text", Protocol::GrpcWebText, Codec::Proto),
    ("application/grpc-web-text+proto", Protocol::GrpcWebText, Codec::Proto),
    ("application/json", Protocol::Connect, Codec::Json),
    ("application/proto", Protocol::Connect, Codec::Proto),
];

impl Form {
    /// The form of a request; `None` for a content type that procedures do not take.
    pub(super) fn of_request(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let known = FORMS.iter().find(|(known, ..)| media_type.eq_ignore_ascii_case(known));
        known.map(|&(content_type, protocol, codec)| Self { content_type, protocol, codec })
    }

    /// All content types, for `Accept-Post`.
    pub(super) fn accepted() -> String {
        FORMS.map(|(content_type, ..)| content_type).join(", ")
    }

    /// How long the client waits, if it says so.
    pub(super) fn timeout(self, headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
        match self.protocol {
            Protocol::Connect => connect::timeout(headers),
            Protocol::Grpc | Protocol::GrpcWeb | Protocol::GrpcWebText => grpc::timeout(headers),
        }
    }

    /// Takes a message of at most so many bytes out of the request's body; an unknown encoding is refused.
    pub(super) fn opener(
        self,
        headers: &HeaderMap,
        message_bytes_max: usize,
    ) -> Result<CallOpener, Failure> {
        let framed = |is_web| {
            let encoding = Encoding::named(headers.get(grpc::ENCODING))?;
            Ok(FrameReader::new(is_web, encoding == Encoding::Gzip, message_bytes_max))
        };
        Ok(match self.protocol {
            Protocol::Connect => CallOpener::Bare(Encoding::named(headers.get(CONTENT_ENCODING))?),
            Protocol::Grpc => CallOpener::Framed(framed(false)?),
            Protocol::GrpcWeb => CallOpener::Framed(framed(true)?),
            Protocol::GrpcWebText => CallOpener::Text(TextReader::default(), framed(true)?),
        })
    }

    /// The reply of a call that went well.
    pub(super) async fn success(
        self,
        rt: &impl Spawn,
        budget: &ShardBudget,
        request: &HeaderMap,
        message: Vec<Bytes>,
    ) -> Reply {
        let body = ReplyBody::of_blocks(message, Vec::new());
        match self.protocol {
            Protocol::Connect => {
                connect::success(rt, budget, request, self.content_type, body).await
            }
            Protocol::Grpc | Protocol::GrpcWeb | Protocol::GrpcWebText => {
                grpc::success(rt, budget, request, self, body).await
            }
        }
    }

    /// The reply of a call that failed.
    pub(super) fn failure(self, failure: &Failure) -> Reply {
        match self.protocol {
            Protocol::Connect => connect::failure(failure),
            Protocol::Grpc | Protocol::GrpcWeb | Protocol::GrpcWebText => {
                grpc::failure(self.content_type, failure)
            }
        }
    }
}

/// How a message is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
}

impl Encoding {
    /// The encoding that a header names; an unknown one is refused.
    fn named(header: Option<&HeaderValue>) -> Result<Self, Failure> {
        match header.map_or(&b""[..], HeaderValue::as_bytes) {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" => Ok(Self::Gzip),
            other => Err(Failure::new(
                Code::Unimplemented,
                "",
                format!(
                    "unknown compression \"{}\": supported encodings are gzip",
                    other.escape_ascii()
                ),
            )),
        }
    }
}

/// Takes a call's message out of its body.
#[derive(Debug)]
pub(super) enum CallOpener {
    /// The body is the message.
    Bare(Encoding),
    /// It is in a frame.
    Framed(FrameReader),
    /// It is in a frame in base64.
    Text(TextReader, FrameReader),
}

impl CallOpener {
    /// How the message is compressed; asked for when the body has ended.
    pub(super) fn encoding(&self) -> Result<Encoding, Failure> {
        let frames = match self {
            Self::Bare(encoding) => return Ok(*encoding),
            Self::Framed(frames) => frames,
            Self::Text(text, frames) => {
                text.finish()?;
                frames
            }
        };
        let compressed = frames.finish().map_err(|error| error.failure())?;
        Ok(if compressed { Encoding::Gzip } else { Encoding::Identity })
    }
}

impl Opener for CallOpener {
    fn open(&mut self, bytes: &[u8], message: &mut Rope) -> Result<(), BodyError> {
        match self {
            Self::Bare(_) => Ok(message.append(bytes)?),
            Self::Framed(frames) => unframe(frames, bytes, message),
            Self::Text(text, frames) => {
                text.read(bytes, |decoded| unframe(frames, decoded, message))
            }
        }
    }

    fn body_bytes_max(&self, message_bytes_max: u64) -> u64 {
        let framed = message_bytes_max.saturating_add(grpc::FRAMES_BYTES_MAX);
        match self {
            Self::Bare(_) => message_bytes_max,
            Self::Framed(_) => framed,
            // base64 is a third longer, and more where a client pads every piece that it sends.
            Self::Text(..) => framed.saturating_mul(2),
        }
    }
}

fn unframe(
    frames: &mut FrameReader,
    mut bytes: &[u8],
    message: &mut Rope,
) -> Result<(), BodyError> {
    while !bytes.is_empty() {
        let piece = frames.step(&mut bytes).map_err(|error| BodyError::Call(error.failure()))?;
        message.append(piece)?;
    }
    Ok(())
}

/// The client's deadline passed, or the server's own; the text is Pyroscope's.
pub(crate) fn deadline_exceeded() -> Failure {
    Failure::new(
        Code::DeadlineExceeded,
        "",
        "request timed out, decrease the duration of the request or add more label matchers \
                  (prefer exact match over regex match) to reduce the amount of data processed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn the_content_type_names_protocol_and_codec() {
        for (content_type, known) in [
            ("application/json", Some((Protocol::Connect, Codec::Json))),
            ("application/json; charset=utf-8", Some((Protocol::Connect, Codec::Json))),
            ("Application/JSON;charset=UTF-8", Some((Protocol::Connect, Codec::Json))),
            ("application/proto", Some((Protocol::Connect, Codec::Proto))),
            ("application/grpc", Some((Protocol::Grpc, Codec::Proto))),
            ("application/grpc+proto", Some((Protocol::Grpc, Codec::Proto))),
            ("application/grpc+json", Some((Protocol::Grpc, Codec::Json))),
            ("application/grpc-web+proto", Some((Protocol::GrpcWeb, Codec::Proto))),
            ("application/grpc-web-text", Some((Protocol::GrpcWebText, Codec::Proto))),
            ("application/protobuf", None),
            ("application/grpc+thrift", None),
            ("application/grpcweb", None),
            ("application/connect+json", None),
            ("text/plain", None),
            ("", None),
        ] {
            let form = Form::of_request(&headers("content-type", content_type));
            assert_eq!(form.map(|it| (it.protocol, it.codec)), known, "{content_type:?}");
        }
        assert_eq!(Form::of_request(&HeaderMap::new()), None);
        assert!(FORMS.is_sorted_by_key(|(content_type, ..)| *content_type));
    }

    #[test]
    fn encodings_other_than_gzip_are_unimplemented() {
        let named = |name: &'static str| Encoding::named(Some(&HeaderValue::from_static(name)));
        assert_eq!(Encoding::named(None), Ok(Encoding::Identity));
        assert_eq!(named("identity"), Ok(Encoding::Identity));
        assert_eq!(named("gzip"), Ok(Encoding::Gzip));
        let failure = named("br").unwrap_err();
        assert_eq!(failure.code, Code::Unimplemented);
        assert_eq!(failure.message, "unknown compression \"br\": supported encodings are gzip");
    }

    #[test]
    fn each_protocol_has_headers_of_its_own() {
        let timeouts = |content_type, name, value| {
            Form::of_request(&headers("content-type", content_type))
                .unwrap()
                .timeout(&headers(name, value))
        };
        let second = Ok(Some(Duration::from_secs(1)));
        assert_eq!(timeouts("application/proto", "connect-timeout-ms", "1000"), second);
        assert_eq!(timeouts("application/proto", "grpc-timeout", "1S"), Ok(None));
        for content_type in ["application/grpc", "application/grpc-web"] {
            assert_eq!(timeouts(content_type, "grpc-timeout", "1S"), second);
            assert_eq!(timeouts(content_type, "connect-timeout-ms", "1000"), Ok(None));
        }
    }
}
