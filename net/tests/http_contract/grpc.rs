//! gRPC and gRPC-Web: the same calls in other clothes.

use std::time::Duration;

use bytes::Bytes;
use net::http::{HttpConfig, Tenancy};
use prost::Message;
use proto::procedure::Procedure;
use proto::push::{PushRequest, RawProfileSeries, RawSample};
use proto::querier::SeriesRequest;
use proto::rpc::{Code, Failure, Retry};
use proto::types::LabelPair;

use crate::grpc_way::{GRPC, Outcome, WAYS, Way, failed, frame};
use crate::world::{World, gzip, request};

const PUSH: &str = Procedure::Push.path();
const TENANT: (&str, &str) = ("x-scope-orgid", "t");
const GZIP: (&str, &str) = ("grpc-encoding", "gzip");

fn push_of(profile: impl Into<Bytes>) -> PushRequest {
    let label = LabelPair { name: "service_name".to_owned(), value: "shop".to_owned() };
    let sample = RawSample { raw_profile: profile.into(), id: "1".to_owned() };
    let series =
        RawProfileSeries { labels: vec![label], samples: vec![sample], annotations: Vec::new() };
    PushRequest { series: vec![series] }
}

#[test]
fn a_push_arrives_by_every_protocol() {
    let want = push_of((0..300_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let message = want.encode_to_vec();
    for way in WAYS {
        let world = World::new();
        for (headers, body) in [
            (vec![], frame(0, &message)),
            (vec![GZIP], frame(1, &gzip(&message))),
            (vec![GZIP], frame(0, &message)),
        ] {
            let outcome = way.call(&world, PUSH, &headers, &body);
            let ok = Outcome { status: "0".into(), message: String::new(), reply: Some(vec![]) };
            assert_eq!(outcome, ok, "{way:?}");
            let (tenant, pushed) = world.api().pushes.borrow_mut().pop().unwrap();
            assert!(tenant == "t" && pushed == want, "{way:?}: the message differs");
        }
    }
}

#[test]
fn messages_may_be_json() {
    let world = World::new();
    for (content_type, is_web) in
        [("application/grpc+json", false), ("application/grpc-web+json", true)]
    {
        let way = Way { content_type, is_web, is_text: false, is_http2: true };
        let body = proto::json::to_json(&push_of(&b"p"[..]));
        let outcome = way.call(&world, PUSH, &[], &frame(0, &body));
        assert_eq!(outcome.reply.as_deref(), Some(&b"{}"[..]));
        assert_eq!(world.api().pushes.borrow_mut().pop().unwrap().1, push_of(&b"p"[..]));
    }
}

#[test]
fn every_procedure_gives_the_same_message_by_every_protocol() {
    let world = World::new();
    for procedure in Procedure::ALL {
        let headers = [("content-type", "application/proto"), TENANT];
        let connect = world.http1(request("POST", procedure.path(), &headers, ""));
        assert_eq!(connect.status.as_u16(), 200);
        for way in WAYS {
            let outcome = way.call(&world, procedure.path(), &[], &frame(0, b""));
            assert_eq!(outcome.status, "0", "{way:?} {procedure:?}");
            assert_eq!(outcome.reply.as_deref(), Some(&connect.body[..]), "{way:?} {procedure:?}");
        }
    }
}

#[test]
fn a_large_answer_is_gzipped_where_that_is_accepted() {
    let world = World::new();
    let profile = proto::pprof::Profile {
        string_table: (0..20_000).map(|i| format!("function {i}")).collect(),
        ..Default::default()
    };
    *world.api().profile.borrow_mut() = profile.clone();
    let path = Procedure::SelectMergeProfile.path();
    for way in WAYS {
        for (headers, encoding) in [
            (vec![], ""),
            (vec![("accept-encoding", "gzip")], ""),
            (vec![("grpc-accept-encoding", "identity,deflate,gzip")], "gzip"),
            (vec![GZIP], "gzip"),
        ] {
            let answer = way.send(&world, way.request(path, &headers, &frame(0, b"")));
            assert_eq!(answer.header("grpc-encoding"), encoding, "{way:?}");
            assert_eq!(answer.header("content-encoding"), "", "{way:?}");
            let reply = way.outcome(&answer).reply.unwrap();
            assert!(reply == profile.encode_to_vec(), "{way:?}: the profile differs");
        }
    }
}

#[test]
fn a_failure_has_its_code_and_text_in_the_head() {
    let world = World::new();
    for (code, status) in Code::ALL.into_iter().zip(1..) {
        let message = "50% of \"é\"\nare over".to_owned();
        *world.api().failure.borrow_mut() = Some(Failure::new(code, "", message));
        for way in WAYS {
            let answer = way.send(&world, way.request(PUSH, &[], &frame(0, b"")));
            let text = "50%25 of \"%C3%A9\"%0Aare over";
            assert_eq!(way.outcome(&answer), failed(status, text), "{way:?}");
            let retried = matches!(code, Code::ResourceExhausted | Code::Unavailable);
            assert_eq!(answer.headers.contains_key("retry-after"), retried);
        }
    }
}

#[test]
fn a_known_wait_is_told_as_over_http() {
    let world = World::new();
    let failure = Failure::new(Code::ResourceExhausted, "rate_limited", "")
        .with_retry(Retry::After(Duration::from_millis(7_200)));
    *world.api().failure.borrow_mut() = Some(failure);
    for way in WAYS {
        let answer = way.send(&world, way.request(PUSH, &[], &frame(0, b"")));
        assert_eq!(answer.header("retry-after"), "8", "{way:?}");
    }
}

#[test]
fn failures_are_counted_by_the_status_that_connect_has_for_them() {
    let world = World::new();
    *world.api().failure.borrow_mut() =
        Some(Failure::new(Code::ResourceExhausted, "", String::new()));
    GRPC.call(&world, PUSH, &[], &frame(0, b""));
    let samples = world.server.counters().samples(0);
    let counted = samples.iter().find(|it| it.name == "pyrite_http_requests_total").unwrap();
    assert_eq!(counted.labels, [("route", PUSH.to_owned()), ("status", "429".to_owned())]);
}

#[test]
fn tenants_are_named_as_in_connect() {
    let world = World::new();
    for way in WAYS {
        let bare = request("POST", PUSH, &[("content-type", way.content_type)], &b"x"[..]);
        let answer = way.send(&world, bare);
        assert_eq!(way.outcome(&answer), failed(16, "no org id"), "{way:?}");
        let both = [("x-scope-orgid", "b|a"), ("content-type", way.content_type)];
        let answer = way.send(&world, request("POST", PUSH, &both, &b"x"[..]));
        assert_eq!(way.outcome(&answer), failed(16, "multiple org IDs present"), "{way:?}");
    }
}

#[test]
fn what_is_not_one_message_in_its_frame_is_refused_in_words() {
    let world = World::new();
    let message = push_of(&b"p"[..]).encode_to_vec();
    let whole = frame(0, &message);
    let bytes = message.len();
    for way in WAYS {
        for (headers, body, want) in [
            (vec![], vec![], failed(12, "unary request has zero messages")),
            (
                vec![],
                whole[..3].to_vec(),
                failed(13, "protocol error: incomplete envelope: unexpected EOF"),
            ),
            (
                vec![],
                whole[..whole.len() - 1].to_vec(),
                failed(
                    13,
                    &format!(
                        "protocol error: promised {bytes} bytes in enveloped message, got {} bytes: unexpected EOF",
                        bytes - 1
                    ),
                ),
            ),
            (vec![], whole.repeat(2), failed(12, "unary request has multiple messages")),
            (
                vec![],
                frame(1, &gzip(&message)),
                failed(13, "protocol error: sent compressed message without compression support"),
            ),
            (
                vec![],
                b"{\"series\":[]}".to_vec(),
                failed(13, "protocol error: invalid envelope flags 123"),
            ),
            (vec![], frame(0, b"\x0a\xff"), failed(3, "")),
            (vec![GZIP], frame(1, b"no gzip"), failed(3, "")),
            (vec![GZIP], frame(1, &gzip(&message)[..12]), failed(3, "")),
        ] {
            let mut outcome = way.call(&world, PUSH, &headers, &body);
            if want.message.is_empty() {
                let starts = ["unmarshal message: ", "decompress: gzip: "];
                assert!(starts.iter().any(|it| outcome.message.starts_with(it)), "{outcome:?}");
                outcome.message.clear();
            }
            assert_eq!(outcome, want, "{way:?} {}", body.escape_ascii());
        }
    }
    assert!(world.api().pushes.borrow().is_empty());
}

#[test]
fn what_is_not_base64_is_refused_in_words() {
    let world = World::new();
    let way = WAYS[5];
    let headers = [("content-type", way.content_type), TENANT];
    for body in [&b"AAAA!"[..], b"AAA", b"\0\0\0\0\x05", b"AAAAAA==A"] {
        let answer = way.send(&world, request("POST", PUSH, &headers, body));
        let want = failed(3, "protocol error: the body is not base64");
        assert_eq!(way.outcome(&answer), want, "{}", body.escape_ascii());
    }
}

#[test]
fn trailers_of_a_web_client_are_skipped() {
    let world = World::new();
    let message = push_of(&b"p"[..]).encode_to_vec();
    let body = [frame(0, &message), frame(0x80, b"a: b\r\n")].concat();
    for way in WAYS {
        let outcome = way.call(&world, PUSH, &[], &body);
        if way.is_web {
            assert_eq!(outcome.status, "0", "{way:?}");
        } else {
            assert_eq!(outcome, failed(13, "protocol error: invalid envelope flags 128"));
        }
    }
}

#[test]
fn other_encodings_are_unimplemented_and_the_answer_names_the_one_there_is() {
    let world = World::new();
    for way in WAYS {
        let outcome = way.call(&world, PUSH, &[("grpc-encoding", "zstd")], &frame(1, b"x"));
        let text = "unknown compression \"zstd\": supported encodings are gzip";
        assert_eq!(outcome, failed(12, text), "{way:?}");
    }
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_length_and_as_inflated() {
    for way in WAYS {
        let world = World::new();
        world.api().body_bytes_max.borrow_mut().insert("t".to_owned(), 1 << 20);
        let limit = push_of(vec![0; (1 << 20) - 37]).encode_to_vec();
        assert_eq!(limit.len(), 1 << 20);
        assert_eq!(way.call(&world, PUSH, &[], &frame(0, &limit)).status, "0", "{way:?}");
        // The length alone is enough: the rest never comes.
        let claim = &frame(0, &vec![0; (1 << 20) + 1])[..100];
        let answer = way.send(&world, way.request(PUSH, &[], claim));
        let text = "message size 1048577 is larger than configured max 1048576";
        assert_eq!(way.outcome(&answer), failed(8, text), "{way:?}");
        assert!(!answer.headers.contains_key("retry-after"), "it is too long the next time, too");
        let bomb = gzip(&vec![0; 4 << 20]);
        let outcome = way.call(&world, PUSH, &[GZIP], &frame(1, &bomb));
        let text = "request body too large: http: request body too large";
        assert_eq!(outcome, failed(8, text), "{way:?}");
        // A body that tells of more than any frames around a message take is refused unread.
        let outcome = way.call(&world, PUSH, &[], &vec![0; 3 << 20]);
        assert_eq!(outcome.status, "8", "{way:?}");
    }
}

#[test]
fn bodies_stay_within_the_memory_budget() {
    let config = HttpConfig { tenancy: Tenancy::Multi, ..HttpConfig::default() };
    for way in WAYS {
        let world = World::with(config.clone(), 1 << 20);
        let small = push_of(vec![0; 200 << 10]).encode_to_vec();
        for _ in 0..3 {
            let large = frame(1, &gzip(&vec![0; 2 << 20]));
            let outcome = way.call(&world, PUSH, &[GZIP], &large);
            assert_eq!(outcome.status, "8", "{way:?} {outcome:?}");
            assert!(outcome.message.contains("memory limit of 1.0 MiB"), "{outcome:?}");
            // What a refused body held is free again.
            assert_eq!(way.call(&world, PUSH, &[], &frame(0, &small)).status, "0");
        }
    }
}

#[test]
fn the_clients_deadline_ends_the_query() {
    for way in WAYS {
        let world = World::new();
        let (open, gate) = futures_channel::oneshot::channel();
        *world.api().gate.borrow_mut() = Some(gate);
        let path = Procedure::Series.path();
        let outcome = way.call(&world, path, &[("grpc-timeout", "1500m")], &frame(0, b""));
        assert_eq!(outcome.status, "4");
        assert!(outcome.message.starts_with("request timed out"), "{outcome:?}");
        world.settle();
        assert_eq!(world.api().ended_reads.get(), 1, "what ran for it has ended");
        drop(open);
        let wrong = way.call(&world, path, &[("grpc-timeout", "5s")], &frame(0, b""));
        assert_eq!(wrong, failed(3, "protocol error: timeout has invalid unit 's'"));
    }
}

#[test]
fn reads_wait_for_recovery_and_pushes_do_not() {
    let world = World::new();
    *world.api().not_ready.borrow_mut() = Some("recovering".to_owned());
    for way in WAYS {
        let outcome = way.call(&world, Procedure::Series.path(), &[], &frame(0, b""));
        assert_eq!(outcome, failed(14, "recovering"), "{way:?}");
        assert_eq!(way.call(&world, PUSH, &[], &frame(0, b"")).status, "0");
    }
}

#[test]
fn unknown_procedures_are_unimplemented() {
    let world = World::new();
    for path in ["/push.v1.PusherService/Pull", "/helloworld.Greeter/SayHello", "/"] {
        for way in WAYS {
            let text = format!("unknown procedure {path}");
            assert_eq!(way.call(&world, path, &[], &frame(0, b"")), failed(12, &text), "{way:?}");
        }
    }
}

#[test]
fn grpc_over_http1_is_told_what_it_needs() {
    let world = World::new();
    let answer = world.http1(GRPC.request(PUSH, &[], &frame(0, b"")));
    assert_eq!(answer.status.as_u16(), 505);
    assert_eq!(answer.text(), "gRPC requires HTTP/2; gRPC-Web and Connect do not\n");
}

#[test]
fn label_names_outside_ascii_are_asked_for_in_metadata() {
    let world = World::new();
    let message = SeriesRequest::default().encode_to_vec();
    for (accept, charset) in [("*/*;allow-utf8-labelnames=true", "Utf8"), ("*/*", "Legacy")] {
        let headers = [("accept", accept)];
        GRPC.call(&world, Procedure::Series.path(), &headers, &frame(0, &message));
        let read = world.api().reads.borrow_mut().pop().unwrap();
        assert!(read.contains(charset), "{read}");
    }
}

/// Whatever a body holds, it is answered, and the connection's bookkeeping stays whole.
#[test]
fn any_body_is_answered() {
    let world = World::new();
    let cell = std::panic::AssertUnwindSafe(&world);
    bolero::check!().with_type::<(u8, u8, Vec<u8>)>().for_each(|(way, how, body)| {
        let world: &World = &cell;
        let way = WAYS[usize::from(*way) % WAYS.len()];
        let body = match how & 3 {
            0 => body.clone(),
            1 => frame(0, body),
            2 => frame(1, &gzip(body)),
            _ => [frame(0, body), frame(how & 0x81, body)].concat(),
        };
        let headers: &[(&str, &str)] = if how & 4 == 0 { &[] } else { &[GZIP] };
        let outcome = way.call(world, PUSH, headers, &body);
        assert!(["0", "3", "8", "12", "13"].contains(&outcome.status.as_str()), "{outcome:?}");
        assert_eq!(world.server.counters().in_flight_requests(), 0);
    });
}
