//! Probes, scrapers, and paths that are not there.

use crate::world::{World, request};

#[test]
fn ready_says_why_not() {
    let world = World::new();
    let answer = world.http1(request("GET", "/ready", &[], ""));
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "ready\n"));
    *world.api().not_ready.borrow_mut() = Some("starting".to_owned());
    let answer = world.http1(request("GET", "/ready", &[], ""));
    assert_eq!((answer.status.as_u16(), answer.text()), (503, "starting\n"));
}

#[test]
fn metrics_are_prometheus_text() {
    let answer = World::new().http1(request("GET", "/metrics", &[], ""));
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "# TYPE x counter\nx 1\n"));
}

#[test]
fn build_info_has_prometheus_shape() {
    let answer = World::new().http1(request("GET", "/api/v1/status/buildinfo", &[], ""));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["status"], "success");
    assert_eq!(body["data"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_head_request_is_answered_as_a_get_without_the_body() {
    let world = World::new();
    let headers = [("x-scope-orgid", "t"), ("accept-encoding", "gzip")];
    world.api().rendered_bytes.set(5000);
    for path in ["/ready", "/metrics", "/api/v1/status/buildinfo", "/pyroscope/render?query=x"] {
        let get = world.http1(request("GET", path, &headers, ""));
        let heads = [
            world.http1(request("HEAD", path, &headers, "")),
            world.http2(vec![request("HEAD", path, &headers, "")]).remove(0),
        ];
        for head in heads {
            assert_eq!((head.status.as_u16(), head.text()), (200, ""), "{path}");
            for name in ["content-type", "content-encoding"] {
                assert_eq!(head.header(name), get.header(name), "{path}");
            }
            assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
        }
    }
    let answer = world.http1(request("HEAD", "/ingest", &headers, ""));
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "POST"));
}

#[test]
fn unknown_paths_are_404() {
    let world = World::new();
    for (method, path) in [
        ("GET", "/"),
        ("POST", "/flush"),
        ("GET", "/render"),
        ("POST", "/querier.v1.QuerierService/Nope"),
        ("POST", "/push.v1.PusherService/Push/"),
    ] {
        let answer = world.http1(request(method, path, &[("x-scope-orgid", "t")], ""));
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
}

#[test]
fn requests_are_counted_by_route_and_status() {
    let world = World::new();
    world.http1(request("GET", "/ready", &[], ""));
    world.http1(request("GET", "/ready", &[], ""));
    world.http1(request("GET", "/secret-1", &[], ""));
    world.http1(request("GET", "/secret-2", &[], ""));
    let samples = world.server.counters().samples(world.server.connections_count());
    let value = |name: &str, labels: &[(&str, &str)]| {
        samples
            .iter()
            .find(|sample| {
                sample.name == name
                    && sample
                        .labels
                        .iter()
                        .map(|(k, v)| (*k, v.as_str()))
                        .eq(labels.iter().copied())
            })
            .map(|sample| sample.value)
    };
    let requests = |route, status| {
        value("pyrite_http_requests_total", &[("route", route), ("status", status)])
    };
    assert_eq!(requests("/ready", "200"), Some(2.0));
    assert_eq!(requests("other", "404"), Some(2.0), "paths of clients are no label values");
    assert_eq!(value("pyrite_http_connections_total", &[]), Some(4.0));
    assert_eq!(value("pyrite_http_open_connections", &[]), Some(0.0));
}
