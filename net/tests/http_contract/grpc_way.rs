//! The ways gRPC is spoken, and what a client makes of an answer: written a second time, so that no mistake is on both sides.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;

use crate::world::{Answer, World, gunzip, request};

const TENANT: (&str, &str) = ("x-scope-orgid", "t");

/// A frame around bytes.
pub(crate) fn frame(flags: u8, bytes: &[u8]) -> Vec<u8> {
    let mut framed = vec![flags];
    framed.extend((bytes.len() as u32).to_be_bytes());
    framed.extend(bytes);
    framed
}

/// Flags and content of a body's frames.
pub(crate) fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let bytes = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        frames.push((body[0], body[5..5 + bytes].to_vec()));
        body = &body[5 + bytes..];
    }
    frames
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    // The test's own, so that a mistake is not made on both sides.
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|group| {
            let word = group.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
            let word = word << (8 * (3 - group.len()));
            (0..4).map(move |i| {
                let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63];
                if i <= group.len() { char::from(digit) } else { '=' }
            })
        })
        .collect()
}

pub(crate) fn unbase64(text: &str) -> Vec<u8> {
    let digit = |byte| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no digit"),
    };
    text.as_bytes()
        .chunks(4)
        .flat_map(|group| {
            let digits: Vec<u8> = group.iter().copied().filter(|byte| *byte != b'=').collect();
            let word = digits.iter().fold(0, |word, byte| word << 6 | u32::from(digit(*byte)));
            let word = word << (6 * (4 - digits.len()));
            word.to_be_bytes()[1..digits.len()].to_vec()
        })
        .collect()
}

/// How a protocol is spoken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) content_type: &'static str,
    pub(crate) is_web: bool,
    pub(crate) is_text: bool,
    pub(crate) is_http2: bool,
}

pub(crate) const WAYS: [Way; 7] = [
    Way { content_type: "application/grpc", is_web: false, is_text: false, is_http2: true },
    Way { content_type: "application/grpc+proto", is_web: false, is_text: false, is_http2: true },
    Way { content_type: "application/grpc-web", is_web: true, is_text: false, is_http2: true },
    Way { content_type: "application/grpc-web", is_web: true, is_text: false, is_http2: false },
    Way {
        content_type: "application/grpc-web+proto",
        is_web: true,
        is_text: false,
        is_http2: false,
    },
    Way { content_type: "application/grpc-web-text", is_web: true, is_text: true, is_http2: false },
    Way {
        content_type: "application/grpc-web-text+proto",
        is_web: true,
        is_text: true,
        is_http2: true,
    },
];

pub(crate) const GRPC: Way = WAYS[0];

/// What a client makes of an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) status: String,
    pub(crate) message: String,
    pub(crate) reply: Option<Vec<u8>>,
}

impl Way {
    pub(crate) fn request(
        self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Request<Full<Bytes>> {
        let mut all = vec![("content-type", self.content_type), ("te", "trailers"), TENANT];
        all.extend(headers);
        let body = if self.is_text { base64(body).into_bytes() } else { body.to_vec() };
        // A client of h2 that streams does not tell the length, one of HTTP/1.1 does.
        request("POST", path, &all, body)
    }

    pub(crate) fn send(self, world: &World, request: Request<Full<Bytes>>) -> Answer {
        if self.is_http2 { world.http2(vec![request]).remove(0) } else { world.http1(request) }
    }

    pub(crate) fn call(
        self,
        world: &World,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Outcome {
        let answer = self.send(world, self.request(path, headers, body));
        self.outcome(&answer)
    }

    pub(crate) fn outcome(self, answer: &Answer) -> Outcome {
        assert_eq!(answer.status.as_u16(), 200, "{self:?} {answer:?}");
        assert_eq!(answer.header("content-type"), self.content_type);
        assert_eq!(answer.header("grpc-accept-encoding"), "gzip");
        let text = |headers: &HeaderMap, name| {
            headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        if answer.headers.contains_key("grpc-status") {
            assert!(answer.body.is_empty() && answer.trailers.is_empty(), "{self:?} {answer:?}");
            let (status, message) =
                (text(&answer.headers, "grpc-status"), text(&answer.headers, "grpc-message"));
            return Outcome { status, message, reply: None };
        }
        let body = if self.is_text { unbase64(answer.text()) } else { answer.body.to_vec() };
        let mut frames = frames(&body);
        let status = if self.is_web {
            let (flags, trailers) = frames.pop().unwrap();
            assert_eq!((flags, &trailers[..]), (0x80, &b"grpc-status: 0\r\n"[..]));
            assert!(answer.trailers.is_empty());
            "0".to_owned()
        } else {
            assert!(!answer.headers.contains_key("content-length"), "trailers follow");
            text(&answer.trailers, "grpc-status")
        };
        let (flags, reply) = frames.pop().unwrap();
        assert!(frames.is_empty(), "one message");
        let packed = answer.header("grpc-encoding") == "gzip";
        assert_eq!(flags, u8::from(packed));
        let reply = if packed { gunzip(&reply) } else { reply };
        Outcome { status, message: String::new(), reply: Some(reply) }
    }
}

pub(crate) fn failed(status: u16, message: &str) -> Outcome {
    Outcome { status: status.to_string(), message: message.to_owned(), reply: None }
}
