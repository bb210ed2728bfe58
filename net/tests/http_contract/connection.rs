//! How long connections live.

use std::time::Duration;

use net::http::{HttpConfig, Tenancy};
use net::runtime::Clock;

use crate::world::{World, json_call, read_some, read_to_end, request, write_all};

const READY: &[u8] = b"GET /ready HTTP/1.1\r\nhost: h\r\n\r\n";

fn seconds(world: &World) -> u64 {
    world.shard.now_ns() / 1_000_000_000
}

#[test]
fn a_client_that_says_nothing_is_cut_after_the_read_timeout() {
    for said in
        [&b""[..], b"GE", b"GET /ready HTTP/1.1\r\nhost:", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let world = World::new();
        world.raw(said);
        assert!((30..=35).contains(&seconds(&world)), "{said:?}: {} s", seconds(&world));
        assert_eq!(world.server.connections_count(), 0);
    }
}

#[test]
fn an_idle_connection_is_kept_for_the_idle_timeout() {
    let world = World::new();
    let mut stream = world.connect();
    let shard = world.shard.clone();
    world.run(async move {
        for _ in 0..3 {
            write_all(&mut stream, READY).await;
            assert!(read_some(&mut stream).await.starts_with(b"HTTP/1.1 200 OK"));
            shard.sleep(Duration::from_secs(100)).await;
        }
        assert_eq!(read_to_end(&mut stream).await, "");
    });
    assert_eq!(seconds(&world), 200 + 120);
}

#[test]
fn a_running_request_keeps_its_connection() {
    let world = World::new();
    let (open, gate) = futures_channel::oneshot::channel();
    *world.api().gate.borrow_mut() = Some(gate);
    let mut stream = world.connect();
    let shard = world.shard.clone();
    let answer = world.run(async move {
        let call = "POST /querier.v1.QuerierService/Series HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\n\
                    content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        write_all(&mut stream, call.as_bytes()).await;
        shard.sleep(Duration::from_mins(10)).await;
        open.send(()).unwrap();
        read_some(&mut stream).await
    });
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let config = HttpConfig { connections_max: 2, ..HttpConfig::default() };
    let world = World::with(config, 1 << 30);
    let (first, second) = (world.connect(), world.connect());
    world.settle();
    assert_eq!(world.server.connections_count(), 2);
    assert_eq!(world.raw(READY), "");
    drop(first);
    world.settle();
    assert_eq!(world.server.connections_count(), 1);
    assert_eq!(world.http1(request("GET", "/ready", &[], "")).status.as_u16(), 200);
    drop(second);
}

#[test]
fn draining_answers_what_runs_and_closes_what_is_idle() {
    let config = HttpConfig { tenancy: Tenancy::Multi, ..HttpConfig::default() };
    let world = World::with(config, 1 << 30);
    let (open, gate) = futures_channel::oneshot::channel();
    *world.api().gate.borrow_mut() = Some(gate);
    let silent = world.connect();
    let mut idle = world.connect();
    let mut busy = world.connect();
    let idle = world.run(async move {
        write_all(&mut idle, READY).await;
        read_some(&mut idle).await;
        idle
    });
    let busy = world.run(async move {
        let call = "POST /querier.v1.QuerierService/Series HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\n\
                    content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        write_all(&mut busy, call.as_bytes()).await;
        busy
    });
    world.settle();
    assert_eq!(world.server.connections_count(), 3);
    world.server.drain();
    world.settle();
    assert_eq!(world.server.connections_count(), 1, "only the busy one is left");
    open.send(()).unwrap();
    let mut busy = busy;
    let answer = world.run(async move { read_to_end(&mut busy).await });
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let server = world.server.clone();
    world.run(async move { server.drained().await });
    assert_eq!(seconds(&world), 0, "nothing had to be waited for");
    assert_eq!(world.raw(READY), "", "a late connection is told to finish too");
    drop((silent, idle));
}

#[test]
fn an_h2_connection_is_drained_too() {
    let world = World::new();
    let call = || json_call("/querier.v1.QuerierService/Series", &b"{}"[..]);
    let answers = world.http2(vec![call(), call()]);
    assert!(answers.iter().all(|answer| answer.status.as_u16() == 200));
    world.server.drain();
    let server = world.server.clone();
    world.run(async move { server.drained().await });
}

#[test]
fn what_is_not_http_is_answered_or_closed() {
    let world = World::new();
    let long = vec![0xff; 100_000];
    for nonsense in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\r\n\r\n\r\n", b"GET\r\n\r\n", &long[..]] {
        let answer = world.raw(nonsense);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(world.server.connections_count(), 0);
}

const RENDER: &[u8] =
    b"GET /pyroscope/render?query=x HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\n\r\n";

fn write_timeouts(world: &World) -> usize {
    let samples = world.server.counters().samples(0);
    let is_it =
        |sample: &&proto::rpc::MetricSample| sample.name == "pyrite_http_write_timeouts_total";
    samples.iter().find(is_it).unwrap().value as usize
}

/// hyper copies the smaller body whole before it writes it.
#[test]
fn an_answer_that_is_not_read_in_time_ends_its_connection() {
    for bytes in [200_000, 20_000_000] {
        let world = World::new();
        world.api().rendered_bytes.set(bytes);
        let mut stream = world.connect();
        let (shard, server) = (world.shard.clone(), world.server.clone());
        world.run(async move {
            write_all(&mut stream, RENDER).await;
            assert!(read_some(&mut stream).await.starts_with(b"HTTP/1.1 200 OK"));
            shard.sleep(Duration::from_secs(29)).await;
            assert_eq!(server.connections_count(), 1, "it has its time");
            shard.sleep(Duration::from_secs(2)).await;
            assert_eq!(server.connections_count(), 0, "{bytes} bytes");
            let rest = read_to_end(&mut stream).await;
            assert!(rest.len() < 100_000, "what a socket holds, not the answer");
        });
        assert_eq!(write_timeouts(&world), 1);
    }
}

#[test]
fn answers_that_are_read_slowly_but_in_time_arrive_whole_on_one_connection() {
    let world = World::new();
    world.api().rendered_bytes.set(1_000_000);
    let mut stream = world.connect();
    let shard = world.shard.clone();
    world.run(async move {
        for _ in 0..3 {
            write_all(&mut stream, RENDER).await;
            let mut read = 0;
            while read < 1_000_000 {
                read += read_some(&mut stream).await.len();
                shard.sleep(Duration::from_millis(50)).await;
            }
        }
    });
    assert!(seconds(&world) > 30, "the time is an answer's and not a connection's");
    assert_eq!(write_timeouts(&world), 0);
}

/// A client of HTTP/2 that opens no window lets nothing be written, so no write waits.
#[test]
fn an_answer_that_no_window_is_opened_for_ends_its_connection() {
    let world = World::new();
    world.api().rendered_bytes.set(5_000_000);
    let headers = [("x-scope-orgid", "t")];
    let answer = world.http2_stream(request("GET", "/pyroscope/render?query=x", &headers, ""));
    assert_eq!(answer.status().as_u16(), 200);
    let (shard, server) = (world.shard.clone(), world.server.clone());
    world.run(async move {
        shard.sleep(Duration::from_secs(29)).await;
        assert_eq!(server.connections_count(), 1, "it has its time");
        shard.sleep(Duration::from_secs(2)).await;
        assert_eq!(server.connections_count(), 0);
    });
    assert_eq!(write_timeouts(&world), 1);
    drop(answer);
}
