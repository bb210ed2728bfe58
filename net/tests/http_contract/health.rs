//! `grpc.health.v1.Health`.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use net::runtime::Clock;

use crate::grpc_way::{base64, frame, unbase64};
use crate::world::{World, request};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// `HealthCheckResponse` in protobuf.
const SERVING: &[u8] = b"\x08\x01";
const NOT_SERVING: &[u8] = b"\x08\x02";

fn call(path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request("POST", path, &[("content-type", content_type)], body)
}

/// The next frame of a body, whenever it comes.
fn next(world: &World, body: Incoming) -> (Option<Frame<Bytes>>, Incoming) {
    world.run(async move {
        let mut body = body;
        let frame = body.frame().await;
        (frame.map(|frame| frame.unwrap()), body)
    })
}

#[test]
fn check_follows_readiness_by_every_protocol_and_asks_for_no_tenant() {
    let world = World::new();
    for (not_ready, message, text) in
        [(None, SERVING, "SERVING"), (Some("recovering"), NOT_SERVING, "NOT_SERVING")]
    {
        *world.api().not_ready.borrow_mut() = not_ready.map(str::to_owned);
        // Any service's name is taken, as in Pyroscope.
        for asked in [&b""[..], b"\x0a\x04shop"] {
            let answer = world.http1(call(CHECK, "application/proto", asked));
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, message));
            let answer =
                world.http2(vec![call(CHECK, "application/grpc", frame(0, asked))]).remove(0);
            assert_eq!(&answer.body[..], frame(0, message));
            assert_eq!(answer.trailers["grpc-status"], "0");
            let answer = world.http1(call(CHECK, "application/grpc-web", frame(0, asked)));
            assert_eq!(answer.body[..7], frame(0, message));
            let text = base64(&frame(0, asked));
            let answer = world.http1(call(CHECK, "application/grpc-web-text", text));
            assert_eq!(unbase64(answer.text())[..7], frame(0, message));
        }
        let answer = world.http1(call(CHECK, "application/json", &b"{\"service\":\"shop\"}"[..]));
        assert_eq!(answer.text(), format!("{{\"status\":\"{text}\"}}"));
    }
    let answer = world.http1(call(CHECK, "application/json", &b"{nope"[..]));
    assert_eq!(answer.error().0, 400);
    assert_eq!(world.http1(request("GET", CHECK, &[], "")).status.as_u16(), 405);
}

#[test]
fn watch_tells_the_state_and_every_change_of_it() {
    for content_type in ["application/grpc", "application/grpc-web", "application/grpc-web-text"] {
        let is_text = content_type.ends_with("text");
        let world = World::new();
        let body = if is_text { base64(&frame(0, b"")).into() } else { frame(0, b"") };
        let mut stream = world.http2_stream(call(WATCH, content_type, body)).into_body();
        for (not_ready, message) in
            [(None, SERVING), (Some("draining"), NOT_SERVING), (None, SERVING)]
        {
            *world.api().not_ready.borrow_mut() = not_ready.map(str::to_owned);
            let (told, rest) = next(&world, stream);
            stream = rest;
            let told = told.unwrap().into_data().unwrap();
            let told =
                if is_text { unbase64(std::str::from_utf8(&told).unwrap()) } else { told.to_vec() };
            assert_eq!(told, frame(0, message), "{content_type}");
        }
        assert_eq!(world.server.counters().health_watches(), 1);
        assert_eq!(world.server.counters().in_flight_requests(), 1);
        // A client that goes away ends its watch at the next look.
        drop(stream);
        let shard = world.shard.clone();
        world.run(async move { shard.sleep(Duration::from_secs(2)).await });
        assert_eq!(world.server.counters().health_watches(), 0);
        assert_eq!(world.server.counters().in_flight_requests(), 0);
    }
}

#[test]
fn a_watch_outlives_the_idle_timeout_and_ends_in_an_hour() {
    let world = World::new();
    let stream = world.http2_stream(call(WATCH, "application/grpc", frame(0, b""))).into_body();
    let (_, stream) = next(&world, stream);
    let (end, _) = next(&world, stream);
    let trailers = end.unwrap().into_trailers().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"14".parse().unwrap(), &"watch again".parse().unwrap())
    );
    assert_eq!(world.shard.now_ns() / 1_000_000_000, 3600);
}

#[test]
fn draining_ends_a_watch_in_words() {
    let world = World::new();
    let stream = world.http2_stream(call(WATCH, "application/grpc-web", frame(0, b""))).into_body();
    let (_, stream) = next(&world, stream);
    world.server.drain();
    let (end, stream) = next(&world, stream);
    let trailers = b"grpc-status: 14\r\ngrpc-message: the server is stopping\r\n";
    assert_eq!(end.unwrap().into_data().unwrap()[..], frame(0x80, trailers));
    let rest = world.run(async move { stream.collect().await.unwrap().to_bytes() });
    assert!(rest.is_empty(), "nothing follows trailers");
    let server = world.server.clone();
    world.run(async move { server.drained().await });
    assert!(world.shard.now_ns() < 5_000_000_000, "nobody waits for a watch");
}

#[test]
fn watches_are_bounded() {
    let world = World::new();
    let watch = || call(WATCH, "application/grpc", frame(0, b""));
    let open: Vec<_> = (0..64).map(|_| world.http2_stream(watch())).collect();
    let refused = world.http2(vec![watch()]).remove(0);
    assert_eq!(refused.header("grpc-status"), "8");
    assert_eq!(refused.header("grpc-message"), "64 watches are open already; use Check");
    drop(open);
}

#[test]
fn watch_is_a_stream_and_not_unary() {
    let world = World::new();
    for content_type in ["application/json", "application/proto"] {
        let answer = world.http1(call(WATCH, content_type, &b"{}"[..]));
        assert_eq!(answer.status.as_u16(), 415, "{content_type}");
    }
    let broken = world.http2(vec![call(WATCH, "application/grpc", &b"\0\0"[..])]).remove(0);
    assert_eq!(broken.header("grpc-status"), "13");
}
