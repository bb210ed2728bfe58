//! Probes, scrapers, and paths that are not there.

use std::sync::Arc;

use engine::limits::{Limits, Overrides};
use net::config::{Config, Pages};
use net::http::{HttpConfig, Tenancy};
use net::overrides::Update;
use serde_json::json;

use crate::world::{World, json_call, request};

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
fn limits_of_tenants_are_shown_as_their_files_say_them() {
    let world = World::new();
    let shown = |path| {
        let answer = world.http1(request("GET", path, &[], ""));
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        (answer.status.as_u16(), answer.text().to_owned())
    };
    assert_eq!(shown("/runtime_config"), (200, "runtime config file doesn't exist".to_owned()));
    let own = Limits {
        ingestion_rate_mb: 12.5,
        ingestion_burst_size_mb: 25.0,
        max_global_series_per_tenant: 7,
        ..Limits::default()
    };
    let overrides = Overrides::new(Arc::default(), [("t".to_owned(), own)]);
    let update = Update { overrides: Arc::new(overrides), is_successful: true };
    world.api().limits.update(update);
    let changed = "overrides:\n  \"t\":\n    ingestion_burst_size_mb: 25\n    ingestion_rate_mb: 12.5\n    max_global_series_per_tenant: 7\n";
    assert_eq!(shown("/runtime_config?mode=diff"), (200, changed.to_owned()));
    let (_, all) = shown("/runtime_config");
    let is_there = |line: &str| all.contains(&format!("\n    {line}\n"));
    assert!(is_there("max_query_length: 1d") && is_there("ingestion_rate_mb: 12.5"), "{all}");

    let limits = |tenant: &str| {
        let headers = [("x-scope-orgid", tenant)];
        let answer = world.http1(request("GET", "/api/v1/tenant_limits", &headers, ""));
        assert_eq!(answer.header("content-type"), "application/json");
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()
    };
    let told = |rate: f64, burst, series| json!({"ingestion_rate": rate, "ingestion_burst_size": burst, "max_global_series_per_user": series});
    assert_eq!(limits("t"), told(12.5, 25, 7));
    assert_eq!(limits("u"), told(4.0, 2, 5000));
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
        ("POST", "/flush/"),
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

#[test]
fn the_configuration_is_told_without_a_tenant_as_yaml() {
    let mut config = Config { shards: 3, ..Config::default() };
    config.limits.ingestion_rate_mb = 12.5;
    let config_pages = Pages::of(&config);
    let http = HttpConfig { config_pages, tenancy: Tenancy::Multi, ..HttpConfig::default() };
    let world = World::with(http, 1 << 30);
    let page = |path: &str| {
        let answer = world.http1(request("GET", path, &[], ""));
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, "text/plain; charset=utf-8")
        );
        answer.text().to_owned()
    };
    let (config, diff, default) = (
        page("/api/v1/status/config"),
        page("/api/v1/status/config/diff"),
        page("/api/v1/status/config/default"),
    );
    assert!(
        config.contains("  ingestion_rate_mb: 12.5\n") && config.contains("shards: 3\n"),
        "{config}"
    );
    assert!(config.contains("  log_level: info\n"), "{config}");
    assert_eq!(diff, "limits:\n  ingestion_rate_mb: 12.5\nshards: 3\n");
    assert!(!default.contains("12.5") && default.contains("shards: 0\n"), "{default}");
    let post = world.http1(request("POST", "/api/v1/status/config", &[], ""));
    assert_eq!((post.status.as_u16(), post.header("allow")), (405, "GET, HEAD"));
}

#[test]
fn all_routes_are_below_the_prefix() {
    let http = HttpConfig {
        path_prefix: "/profiles".to_owned(),
        tenancy: Tenancy::Multi,
        ..HttpConfig::default()
    };
    let world = World::with(http, 1 << 30);
    for path in ["/ready", "/metrics", "/api/v1/status/buildinfo"] {
        let status = |path: &str| world.http1(request("GET", path, &[], "")).status.as_u16();
        assert_eq!(status(&format!("/profiles{path}")), 200, "{path}");
        for wrong in [path.to_owned(), format!("/profile{path}"), format!("/profilesx{path}")] {
            assert_eq!(status(&wrong), 404, "{wrong}");
        }
    }
    let series = "/querier.v1.QuerierService/Series";
    let call = |path: &str| world.http1(json_call(path, &b"{}"[..])).status.as_u16();
    assert_eq!((call(&format!("/profiles{series}")), call(series)), (200, 404));
}

#[test]
fn a_flush_is_answered_when_it_is_done_or_says_why_it_is_not() {
    let world = World::new();
    let flush = |method| world.http1(request(method, "/flush", &[], ""));
    let answer = flush("POST");
    assert_eq!((answer.status.as_u16(), answer.text()), (204, ""));
    assert_eq!(flush("GET").status.as_u16(), 405);
    *world.api().failure.borrow_mut() = Some(proto::rpc::Failure::new(
        proto::rpc::Code::Internal,
        "",
        "flushing tenant t: no space left on device",
    ));
    let answer = flush("POST");
    assert_eq!(answer.status.as_u16(), 500);
    assert!(answer.text().contains("no space left on device"), "{}", answer.text());
}
