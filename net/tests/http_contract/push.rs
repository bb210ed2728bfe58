//! `push.v1.PusherService/Push`.

use std::time::Duration;

use bytes::Bytes;
use net::http::{Claim, HttpConfig, Tenancy};
use net::runtime::Class;
use prost::Message;
use proto::push::{PushRequest, RawProfileSeries, RawSample};
use proto::rpc::{Code, Failure, Retry};
use proto::types::LabelPair;

use crate::world::{World, gzip, json_call, read_some, read_to_end, request, write_all};

const PATH: &str = "/push.v1.PusherService/Push";
const PROTO: (&str, &str) = ("content-type", "application/proto");
const TENANT: (&str, &str) = ("x-scope-orgid", "t");
const GZIP: (&str, &str) = ("content-encoding", "gzip");

fn push_of(profile: impl Into<Bytes>) -> PushRequest {
    let label = LabelPair { name: "service_name".to_owned(), value: "shop".to_owned() };
    let sample = RawSample { raw_profile: profile.into(), id: "1".to_owned() };
    let series =
        RawProfileSeries { labels: vec![label], samples: vec![sample], annotations: Vec::new() };
    PushRequest { series: vec![series] }
}

fn pushed(world: &World) -> PushRequest {
    let (tenant, request) = world.api().pushes.borrow_mut().pop().expect("a push arrived");
    assert_eq!(tenant, "t");
    request
}

#[test]
fn a_push_in_json_is_answered_with_an_empty_object() {
    let world = World::new();
    let want = push_of(&b"\x1f\x8b profile"[..]);
    let answer = world.http1(json_call(PATH, proto::json::to_json(&want)));
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{}"));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(pushed(&world), want);
}

#[test]
fn a_push_in_protobuf_is_answered_with_an_empty_message_also_over_h2c() {
    let world = World::new();
    let want = push_of(vec![7; 300_000]);
    let call = || request("POST", PATH, &[PROTO, TENANT], want.encode_to_vec());
    let mut answers = world.http2(vec![call(), call(), call()]);
    answers.push(world.http1(call()));
    for answer in answers {
        assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
        assert_eq!(answer.header("content-type"), "application/proto");
        assert_eq!(pushed(&world), want);
    }
}

#[test]
fn a_gzipped_body_is_inflated_member_by_member() {
    let world = World::new();
    let want = push_of((0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let bytes = want.encode_to_vec();
    let body = [gzip(&bytes[..bytes.len() / 3]), gzip(&bytes[bytes.len() / 3..])].concat();
    let answer = world.http1(request("POST", PATH, &[PROTO, TENANT, GZIP], body));
    assert_eq!(answer.status.as_u16(), 200);
    assert!(pushed(&world) == want, "the message differs");
}

#[test]
fn a_push_runs_in_the_ingest_class() {
    let world = World::new();
    world.http1(json_call(PATH, &b"{}"[..]));
    assert_eq!(world.spawned(), [Class::Ingest]);
}

#[test]
fn a_failure_is_told_in_json_whatever_the_codec() {
    let world = World::new();
    let message = "push rate limit (4.0 MiB) exceeded while adding 1.2 MiB";
    *world.api().failure.borrow_mut() =
        Some(Failure::new(Code::ResourceExhausted, "rate_limited", message.to_owned()));
    let answer = world.http1(request("POST", PATH, &[PROTO, TENANT], Bytes::new()));
    assert_eq!(answer.error(), (429, "resource_exhausted".to_owned(), message.to_owned()));
    assert_eq!(answer.header("retry-after"), "1");
}

#[test]
fn a_known_wait_is_told_in_whole_seconds_never_too_early() {
    let world = World::new();
    for (retry, seconds) in [
        (Retry::After(Duration::from_millis(200)), "1"),
        (Retry::After(Duration::from_millis(7_200)), "8"),
        (Retry::After(Duration::from_hours(2)), "600"),
        (Retry::Never, ""),
    ] {
        let failure = Failure::new(Code::ResourceExhausted, "rate_limited", "").with_retry(retry);
        *world.api().failure.borrow_mut() = Some(failure.clone());
        *world.api().upload_failure.borrow_mut() = Some(failure.into());
        for call in [
            json_call(PATH, &b"{}"[..]),
            request("POST", PATH, &[PROTO, TENANT], Bytes::new()),
            request("POST", "/ingest?name=a", &[TENANT], &b"x"[..]),
        ] {
            let answer = world.http1(call);
            assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, seconds));
        }
    }
}

/// A profile of a JSON push was once taken to be as long as its base64, and refused with longer ones for a spent rate.
#[test]
fn a_push_in_base64_claims_a_shorter_profile() {
    let world = World::new();
    let body = proto::json::to_json(&push_of(vec![7; 30_000]));
    let body_bytes = body.len() as u64;
    world.http1(json_call(PATH, body));
    let claim = world.api().claims.take()[0];
    assert_eq!((claim.body_bytes, claim.profile_bytes), (body_bytes, body_bytes / 4 * 3));
    assert!((30_000..30_100).contains(&claim.profile_bytes), "{claim:?}");
}

#[test]
fn what_is_no_message_is_an_invalid_argument() {
    let world = World::new();
    let empty = world.http1(json_call(PATH, Bytes::new()));
    assert_eq!(
        empty.error(),
        (
            400,
            "invalid_argument".to_owned(),
            "unmarshal message: zero-length payload is not a valid JSON object".to_owned()
        )
    );
    let calls =
        [json_call(PATH, &b"{nope"[..]), request("POST", PATH, &[PROTO, TENANT], &b"\x0a\xff"[..])];
    for call in calls {
        let (status, code, message) = world.http1(call).error();
        assert_eq!((status, code.as_str()), (400, "invalid_argument"));
        assert!(message.starts_with("unmarshal message: "), "{message}");
    }
    for body in [&b""[..], b"\x1f\x8b\x08\x00garbage", b"plain", &gzip(b"{}")[..12]] {
        let headers = [("content-type", "application/json"), TENANT, GZIP];
        let call = request("POST", PATH, &headers, body.to_vec());
        let (status, code, message) = world.http1(call).error();
        assert_eq!((status, code.as_str()), (400, "invalid_argument"), "{message}");
        assert!(message.starts_with("decompress: gzip: "), "{message}");
    }
    assert!(world.api().pushes.borrow().is_empty());
}

#[test]
fn other_compressions_are_unimplemented() {
    let headers = [PROTO, TENANT, ("content-encoding", "zstd")];
    let answer = World::new().http1(request("POST", PATH, &headers, Bytes::new()));
    assert_eq!(
        answer.error(),
        (
            501,
            "unimplemented".to_owned(),
            "unknown compression \"zstd\": supported encodings are gzip".to_owned()
        )
    );
}

#[test]
fn other_content_types_are_415_and_other_methods_405() {
    let world = World::new();
    for content_type in ["text/plain", "application/grpc+thrift", "application/connect+proto", ""] {
        let headers = [("content-type", content_type), TENANT];
        let answer = world.http1(request("POST", PATH, &headers, &b"x"[..]));
        assert_eq!((answer.status.as_u16(), answer.text()), (415, ""), "{content_type}");
        let accepted = answer.header("accept-post");
        assert!(accepted.starts_with("application/grpc, application/grpc+json, "), "{accepted}");
        assert!(accepted.ends_with(", application/json, application/proto"), "{accepted}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let answer = world.http1(request(method, PATH, &[TENANT], Bytes::new()));
        assert_eq!((answer.status.as_u16(), answer.text()), (405, ""), "{method}");
        assert_eq!(answer.header("allow"), "POST");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_as_received_and_as_inflated() {
    let world = World::new();
    world.api().body_bytes_max.borrow_mut().insert("t".to_owned(), 1 << 20);
    let limit = push_of(vec![0; (1 << 20) - 200]).encode_to_vec();
    assert!(limit.len() <= 1 << 20);
    let over = vec![0; (1 << 20) + 1];
    let bomb = gzip(&vec![0; 4 << 20]);
    assert!(bomb.len() < 1 << 20, "what it holds is what is too long");
    for (body, gzipped) in [(over, false), (bomb, true)] {
        let encoding = ("content-encoding", if gzipped { "gzip" } else { "identity" });
        let answer = world.http1(request("POST", PATH, &[PROTO, TENANT, encoding], body));
        let message = "request body too large: http: request body too large";
        assert_eq!(answer.error(), (429, "resource_exhausted".to_owned(), message.to_owned()));
        assert!(!answer.headers.contains_key("retry-after"), "it is too long the next time, too");
    }
    let call = request("POST", PATH, &[PROTO, TENANT, GZIP], gzip(&limit));
    assert_eq!(world.http1(call).status.as_u16(), 200);
    let call =
        request("POST", PATH, &[PROTO, ("x-scope-orgid", "other"), GZIP], gzip(&vec![0; 4 << 20]));
    assert_eq!(
        world.http1(call).error().0,
        400,
        "read as a message: the limit is the tenant's own"
    );
}

#[test]
fn bodies_stay_within_the_memory_budget() {
    let config = HttpConfig { tenancy: Tenancy::Multi, ..HttpConfig::default() };
    let world = World::with(config, 1 << 20);
    let small = push_of(vec![0; 200 << 10]).encode_to_vec();
    let large = gzip(&vec![0; 2 << 20]);
    for _ in 0..3 {
        let answer =
            world.http1(request("POST", PATH, &[PROTO, TENANT, GZIP], large.clone())).error();
        assert_eq!((answer.0, answer.1.as_str()), (429, "resource_exhausted"));
        assert!(answer.2.starts_with("90% of the memory limit of 1.0 MiB reached"), "{}", answer.2);
        // What a refused body held is free again.
        let answer = world.http1(request("POST", PATH, &[PROTO, TENANT], small.clone()));
        assert_eq!(answer.status.as_u16(), 200);
    }
}

#[test]
fn a_push_of_very_many_parts_is_refused_before_it_is_decoded() {
    let world = World::new();
    let parts = 300_000;
    let proto_series = request("POST", PATH, &[PROTO, TENANT], [10, 0].repeat(parts));
    let mut series = vec![10];
    prost::encoding::encode_varint(2 * parts as u64, &mut series);
    series.extend([18, 0].repeat(parts));
    let proto_samples = request("POST", PATH, &[PROTO, TENANT], series);
    let text = format!(r#"{{"series":[{}{{}}]}}"#, "{},".repeat(parts));
    for call in [proto_series, proto_samples, json_call(PATH, text)] {
        let (status, code, message) = world.http1(call).error();
        assert_eq!((status, code.as_str()), (400, "invalid_argument"));
        assert_eq!(message, "push has more than 262144 series, samples and labels");
    }
    let braces_in_a_string =
        format!(r#"{{"series":[{{"labels":[{{"value":"{}"}}]}}]}}"#, "{".repeat(parts));
    assert_eq!(world.http1(json_call(PATH, braces_in_a_string)).status.as_u16(), 200);
}

/// Whatever a body holds, it is answered, and the connection's bookkeeping stays whole.
#[test]
fn any_body_is_answered() {
    let world = World::new();
    let cell = std::panic::AssertUnwindSafe(&world);
    bolero::check!().with_type::<(u8, Vec<u8>)>().for_each(|(how, body)| {
        let world: &World = &cell;
        let content_type =
            ("content-type", if how & 1 == 0 { "application/json" } else { PROTO.1 });
        let encoding = ("content-encoding", if how & 2 == 0 { "identity" } else { "gzip" });
        let body = if how & 4 == 0 { body.clone() } else { gzip(body) };
        let answer = world.http1(request("POST", PATH, &[content_type, TENANT, encoding], body));
        assert!([200, 400].contains(&answer.status.as_u16()), "{answer:?}");
        assert_eq!(world.server.counters().in_flight_requests(), 0);
    });
}

/// Bodies of pushes that were refused for lack of room were once read, kept and inflated first.
#[test]
fn a_push_without_room_is_refused_on_its_head_and_the_connection_goes_on() {
    let world = World::new();
    let message = "memory limit of 1.0 MiB reached".to_owned();
    let failure = Failure::new(Code::ResourceExhausted, "memory_limit", message);
    *world.api().head_failure.borrow_mut() = Some(failure);
    for (path, content_type) in [(PATH, "application/proto"), ("/ingest?name=a", "")] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\ncontent-type: {content_type}\r\n"
        );
        let mut stream = world.connect();
        let answers = world.run(async move {
            let mut answers = Vec::new();
            for _ in 0..2 {
                let call = format!("{head}content-length: 200000\r\n\r\n{}", "x".repeat(200_000));
                write_all(&mut stream, call.as_bytes()).await;
                answers.push(String::from_utf8(read_some(&mut stream).await).unwrap());
            }
            let call = format!("{head}content-length: 100000000\r\n\r\n");
            write_all(&mut stream, call.as_bytes()).await;
            answers.push(read_to_end(&mut stream).await);
            answers
        });
        for answer in &answers {
            assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
            assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        }
        assert!(answers[2].ends_with("reached\"}"), "a long body is not waited for");
        let claims = [200_000, 200_000, 100_000_000].map(Claim::of_bytes);
        assert_eq!(world.api().claims.take(), claims);
    }
    assert!(world.api().pushes.borrow().is_empty() && world.spawned().is_empty());
}
