//! What probes and scrapers ask.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::http::app::{Api, HttpFailure};
use crate::http::reply::{self, Reply};
use crate::http::server::Server;
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
