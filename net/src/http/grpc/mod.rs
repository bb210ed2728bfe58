//! gRPC and gRPC-Web replies, and what their requests have besides the message.
//!
//! ```text
//! gRPC       HEADERS, DATA(frame of the message), HEADERS(grpc-status)
//! gRPC-Web   head, body(frame of the message, frame of the trailers)
//! a failure  the head alone has grpc-status and grpc-message ("trailers only")
//! ```
//! Written over hyper and prost, because the libraries of the field want `Send` services on a runtime of theirs.
//!
//! Not here: streams of requests, `grpc-status-details-bin`, CORS (Pyroscope answers no preflight; a proxy before it does).

mod frame;
mod text;
mod timeout;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::mpsc;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proto::rpc::{Code, Failure, Retry};

pub(super) use self::frame::FrameReader;
pub(super) use self::text::{TextReader, TextWriter};
use super::protocol::{Form, Protocol};
use super::reply::{self, Reply, ReplyBody, StreamFrame};
use crate::budget::ShardBudget;
use crate::runtime::Spawn;

/// Names the compression of the sender's messages.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Status of a call that went well.
const OK: &str = "0";

/// Bytes of a body beside its message.
pub(super) const FRAMES_BYTES_MAX: u64 = (2 * frame::HEAD_BYTES + frame::TRAILERS_BYTES_MAX) as u64;

/// Bytes of `grpc-message` as written. Many clients take 8 kB of headers in all.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// How long the client waits, if it says so.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    timeout::of_request(headers)
}

/// The reply of a call that went well.
pub(super) async fn success(
    rt: &impl Spawn,
    budget: &ShardBudget,
    request: &HeaderMap,
    form: Form,
    message: ReplyBody,
) -> Reply {
    let gzip = accepts_gzip(request);
    let (mut body, compressed) = reply::compressed_body(rt, budget, gzip, message).await;
    let Some(frame_head) = frame::message_head(compressed, body.bytes()) else {
        return failure(form.content_type, &too_large(body.bytes()));
    };
    body.prepend(frame_head);
    match form.protocol {
        Protocol::GrpcWeb => body.append(ok_trailers_frame()),
        Protocol::GrpcWebText => {
            body.append(ok_trailers_frame());
            body.write_as_text();
        }
        Protocol::Connect | Protocol::Grpc => body.set_trailers(status_of(OK)),
    }
    let mut reply = head(form.content_type, body);
    if compressed {
        reply.headers_mut().insert(ENCODING, HeaderValue::from_static("gzip"));
    }
    reply
}

/// The reply of a call that failed.
pub(super) fn failure(content_type: &'static str, failure: &Failure) -> Reply {
    let mut reply = head(content_type, ReplyBody::default());
    let headers = reply.headers_mut();
    headers.extend(status_of_failure(failure));
    reply::set_retry_after(headers, failure);
    // Tells the router what to count: HTTP's status says nothing.
    reply.extensions_mut().insert(failure.code);
    reply
}

/// The reply of a stream; its body is made by [`stream_message`] and [`stream_end`].
pub(super) fn stream(form: Form, frames: mpsc::Receiver<StreamFrame>) -> Reply {
    head(form.content_type, ReplyBody::of_stream(frames))
}

/// A small message of a stream.
pub(super) fn stream_message(form: Form, message: &[u8]) -> StreamFrame {
    let head = frame::message_head(false, message.len() as u64).expect("the message is small");
    data(form, [&head[..], message].concat().into())
}

/// The end of a stream that somebody ended.
pub(super) fn stream_end(form: Form, failure: &Failure) -> StreamFrame {
    let trailers = status_of_failure(failure);
    match form.protocol {
        Protocol::Grpc | Protocol::Connect => StreamFrame::Trailers(trailers),
        Protocol::GrpcWeb | Protocol::GrpcWebText => data(form, trailers_frame(&trailers)),
    }
}

/// Frames of a stream are texts of their own, so that each can be read when it comes.
fn data(form: Form, frame: Bytes) -> StreamFrame {
    StreamFrame::Data(match form.protocol {
        Protocol::GrpcWebText => {
            let mut text = TextWriter::default();
            [text.write(&frame), text.finish()].concat().into()
        }
        _ => frame,
    })
}

fn head(content_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = reply::full(StatusCode::OK, content_type, body);
    reply.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    reply
}

fn status_of(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(STATUS, HeaderValue::from_static(status))])
}

fn status_of_failure(failure: &Failure) -> HeaderMap {
    HeaderMap::from_iter([
        (STATUS, HeaderValue::from(failure.code.grpc_status())),
        (MESSAGE, percent_encoded(&failure.message)),
    ])
}

fn ok_trailers_frame() -> Bytes {
    trailers_frame(&status_of(OK))
}

fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut text = String::new();
    for (name, value) in trailers {
        let value = value.to_str().expect("percent-encoded texts are ASCII");
        write!(text, "{name}: {value}\r\n").expect("strings take all");
    }
    frame::trailers(&text)
}

fn too_large(bytes: u64) -> Failure {
    Failure::new(
        Code::ResourceExhausted,
        reply::BODY_TOO_LARGE_REASON,
        format!("the answer has {bytes} bytes, more than a gRPC message may have"),
    )
    .with_retry(Retry::Never)
}

/// Whether the reply's message may be gzip'd: as the request's was, or as it is asked for.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let names = |header: HeaderName| {
        let values = request.get_all(header).into_iter();
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split([',', ' ']))
    };
    names(ENCODING).chain(names(ACCEPT_ENCODING)).any(|name| name == "gzip")
}

/// A message as a header's value: everything but printable ASCII, and `%`, by its bytes in hex.
fn percent_encoded(message: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(message.len());
    for character in message.chars() {
        let before = encoded.len();
        let mut utf8 = [0; 4];
        for byte in character.encode_utf8(&mut utf8).bytes() {
            match byte {
                b'%' | ..b' ' | 0x7f.. => write!(encoded, "%{byte:02X}").expect("strings take all"),
                _ => encoded.push(byte.into()),
            }
        }
        if encoded.len() > MESSAGE_BYTES_MAX {
            encoded.truncate(before);
            encoded.push_str("...");
            break;
        }
    }
    HeaderValue::try_from(encoded).expect("only printable ASCII was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client makes of a `grpc-message`.
    fn decoded(value: &HeaderValue) -> String {
        let mut bytes = Vec::new();
        let mut rest = value.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            if byte == b'%' {
                let digits = std::str::from_utf8(&after[..2]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &after[2..];
            } else {
                bytes.push(byte);
                rest = after;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn messages_are_percent_encoded() {
        for (message, encoded) in [
            ("", ""),
            ("no org id", "no org id"),
            ("100% of \"é\"", "100%25 of \"%C3%A9\""),
            ("a\r\nb\t\u{7f}~", "a%0D%0Ab%09%7F~"),
        ] {
            assert_eq!(percent_encoded(message), encoded);
        }
        let long = percent_encoded(&"€".repeat(10_000));
        assert!(long.len() <= MESSAGE_BYTES_MAX + 3, "{}", long.len());
        assert!(decoded(&long).ends_with("€..."), "it is cut between characters");
    }

    #[test]
    fn any_message_is_read_back() {
        bolero::check!().with_type::<String>().for_each(|message| {
            let back = decoded(&percent_encoded(message));
            match back.strip_suffix("...") {
                Some(start) if back != *message => assert!(message.starts_with(start)),
                _ => assert_eq!(back, *message),
            }
        });
    }

    #[test]
    fn gzip_is_answered_to_gzip_or_to_who_accepts_it() {
        let of = |headers: &[(HeaderName, &'static str)]| {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
                .collect();
            accepts_gzip(&headers)
        };
        assert!(of(&[(ENCODING, "gzip")]));
        assert!(of(&[(ACCEPT_ENCODING, "identity,deflate,gzip")]));
        assert!(of(&[(ACCEPT_ENCODING, "identity, gzip")]));
        assert!(!of(&[(ACCEPT_ENCODING, "identity,deflate")]));
        assert!(!of(&[]));
    }
}
