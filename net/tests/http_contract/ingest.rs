//! `POST /ingest`.

use bytes::Bytes;
use net::http::HttpFailure;
use net::runtime::Class;
use proto::rpc::{Code, Failure};

use crate::api::Uploaded;
use crate::world::{World, gzip, request};

const TENANT: (&str, &str) = ("x-scope-orgid", "t");

fn last_upload(world: &World) -> Uploaded {
    world.api().uploads.borrow_mut().pop().expect("an upload arrived")
}

#[test]
fn an_upload_arrives_as_it_was_sent() {
    let world = World::new();
    let body = vec![0xff; 700_000];
    let headers = [TENANT, ("content-type", "multipart/form-data; boundary=b")];
    for path in ["/ingest", "/pyroscope/ingest"] {
        let uri = format!("{path}?name=app%7Bk%3Dv%7D&from=1");
        let answer = world.http1(request("POST", &uri, &headers, body.clone()));
        assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
        let Uploaded { tenant, query, content_type, gzip_encoded, body: got } = last_upload(&world);
        assert_eq!((tenant.as_str(), query.as_str()), ("t", "name=app%7Bk%3Dv%7D&from=1"));
        assert_eq!(content_type, "multipart/form-data; boundary=b");
        assert!(!gzip_encoded);
        assert!(got == body, "the body differs");
        assert_eq!(world.spawned(), [Class::Ingest]);
    }
}

#[test]
fn gzip_is_told_only_when_said_and_true() {
    let world = World::new();
    let packed = gzip(b"a;b 1\n");
    for (encoding, body, want) in
        [("gzip", &packed[..], true), ("gzip", b"a;b 1\n", false), ("identity", &packed[..], false)]
    {
        let headers = [TENANT, ("content-encoding", encoding)];
        let call = request("POST", "/ingest?name=a", &headers, body.to_vec());
        assert_eq!(world.http1(call).status.as_u16(), 200);
        let Uploaded { content_type, gzip_encoded, body: got, .. } = last_upload(&world);
        assert_eq!((content_type.as_str(), gzip_encoded), ("", want), "{encoding}");
        assert_eq!(got, body, "the body is handed on unopened");
    }
}

#[test]
fn a_failure_keeps_the_status_the_component_chose() {
    let world = World::new();
    let message = "parsing IngestInput-pprof failed: not a profile".to_owned();
    let failure = Failure::new(Code::Unknown, "", message.clone());
    *world.api().upload_failure.borrow_mut() = Some(HttpFailure { status: 422, failure });
    let answer = world.http1(request("POST", "/ingest?name=a", &[TENANT], &b"x"[..]));
    assert_eq!(answer.error(), (422, "unknown".to_owned(), message));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[test]
fn a_body_over_the_limit_is_413() {
    let world = World::new();
    world.api().body_bytes_max.borrow_mut().insert("t".to_owned(), 1000);
    let answer = world.http1(request("POST", "/ingest?name=a", &[TENANT], vec![0; 1001]));
    let message = "request body too large: http: request body too large".to_owned();
    assert_eq!(answer.error(), (413, "invalid_argument".to_owned(), message));
    let answer = world.http1(request("POST", "/ingest?name=a", &[TENANT], vec![0; 1000]));
    assert_eq!(answer.status.as_u16(), 200);

    // Without a length: the limit holds while reading.
    let chunk = format!("200\r\n{}\r\n", "x".repeat(0x200));
    let head = "POST /ingest HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = world.raw(format!("{head}{}", chunk.repeat(2)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
}

#[test]
fn a_claimed_length_is_refused_before_the_body_comes() {
    let world = World::new();
    let head = "POST /ingest HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\ncontent-length: 99999999999\r\n\r\n";
    let answer = world.raw(head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
}

#[test]
fn a_body_that_never_ends_times_out() {
    let world = World::new();
    let head =
        "POST /ingest HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\ncontent-length: 10\r\n\r\nabc";
    let answer = world.raw(head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains(r#"{"code":"unknown","message":"error reading request body: "#));
    assert!(world.api().uploads.borrow().is_empty());
}

#[test]
fn a_torn_body_stores_nothing() {
    let world = World::new();
    let mut stream = world.connect();
    world.run(async move {
        let head =
            "POST /ingest HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\ncontent-length: 10\r\n\r\nabc";
        crate::world::write_all(&mut stream, head.as_bytes()).await;
    });
    world.settle();
    assert!(world.api().uploads.borrow().is_empty());
    assert_eq!(world.server.counters().in_flight_requests(), 0);
    assert_eq!(world.server.connections_count(), 0);
}

#[test]
fn other_methods_are_405_without_a_body() {
    let answer = World::new().http1(request("GET", "/ingest?name=a", &[TENANT], Bytes::new()));
    assert_eq!((answer.status.as_u16(), answer.text()), (405, ""));
}
