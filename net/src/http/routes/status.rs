//! What probes and scrapers ask.

use bytes::Bytes;
use engine::limits::Limits;
use http::{HeaderMap, Request, StatusCode};
use serde_json::json;

use crate::http::app::{Api, HttpFailure};
use crate::http::reply::{self, Reply, ReplyBody};
use crate::http::server::Server;
use crate::http::tenant_header::tenant_of_write;
use crate::overrides;
use crate::runtime::Spawn;

const TEXT: &str = "text/plain; charset=utf-8";

/// `/ready`.
pub(in crate::http) fn ready<R, A: Api>(server: &Server<R, A>) -> Reply {
    match server.api.readiness() {
        Ok(()) => reply::full(StatusCode::OK, TEXT, "ready\n".into()),
        Err(reason) => {
            reply::full(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n").into())
        }
    }
}

/// `/flush`: answers when everything that was acknowledged before is in blocks.
pub(in crate::http) async fn flush<R: Spawn, A: Api>(server: &Server<R, A>) -> Reply {
    match server.api.flush().await {
        Ok(()) => reply::empty(StatusCode::NO_CONTENT),
        Err(failure) => reply::plain_failure(&HttpFailure::from(failure)),
    }
}

/// `/metrics`.
pub(in crate::http) async fn metrics<R: Spawn, A: Api>(
    server: &Server<R, A>,
    headers: &HeaderMap,
) -> Reply {
    const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
    let text = server.api.metrics().await;
    let reply = reply::full(StatusCode::OK, EXPOSITION, text.into());
    reply::compressed(&server.rt, &server.budget, headers, reply).await
}

/// `/api/v1/status/config`, `…/diff` and `…/default`: YAML.
pub(in crate::http) fn config(page: &Bytes) -> Reply {
    reply::full(StatusCode::OK, TEXT, page.clone().into())
}

/// `/runtime_config`: the limits of every tenant that has some of its own; with `?mode=diff` only those that are not the default.
pub(in crate::http) async fn runtime_config<R: Spawn, A: Api, B>(
    server: &Server<R, A>,
    request: &Request<B>,
) -> Reply {
    let limits = server.api.limits();
    if !limits.has_files() {
        return reply::full(StatusCode::OK, TEXT, "runtime config file doesn't exist".into());
    }
    let query = request.uri().query().unwrap_or_default();
    let only_changed = query.split('&').any(|parameter| parameter == "mode=diff");
    let blocks = overrides::page(&server.rt, &limits.snapshot(), only_changed).await;
    let held = server.budget.hold(blocks.iter().map(|block| block.len() as u64).sum());
    let body = ReplyBody::of_blocks(blocks, vec![held]);
    let reply = reply::full(StatusCode::OK, TEXT, body);
    reply::compressed(&server.rt, &server.budget, request.headers(), reply).await
}

/// `/api/v1/tenant_limits`: what Pyroscope tells a tenant of its limits, by the names it has for them there.
pub(in crate::http) fn tenant_limits<R, A: Api>(
    server: &Server<R, A>,
    headers: &HeaderMap,
) -> Reply {
    let tenant = match tenant_of_write(server.config.tenancy, headers) {
        Ok(tenant) => tenant,
        Err(failure) => return reply::plain_failure(&HttpFailure::from(failure)),
    };
    let limits = server.api.limits().of(tenant.as_str());
    let Limits { ingestion_rate_mb, ingestion_burst_size_mb, max_global_series_per_tenant, .. } =
        &*limits;
    let body = json!({
        "ingestion_rate": ingestion_rate_mb,
        "ingestion_burst_size": *ingestion_burst_size_mb as u64,
        "max_global_series_per_user": max_global_series_per_tenant,
    });
    reply::full(StatusCode::OK, "application/json", body.to_string().into())
}

/// `/api/v1/status/buildinfo`, in the shape Prometheus' clients know. What a Go build would name and ours has not is empty.
pub(in crate::http) fn build_info() -> Reply {
    let body = json!({"status": "success", "data": {
        "version": env!("CARGO_PKG_VERSION"),
        "revision": crate::telemetry::REVISION,
        "branch": crate::telemetry::BRANCH,
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }});
    reply::full(StatusCode::OK, "application/json", body.to_string().into())
}
