//! Which route a request is for, and in which class it runs.

use std::rc::Rc;

use http::{Method, Request};
use hyper::body::Incoming;
use proto::procedure::{HEALTH_CHECK, HEALTH_WATCH, Procedure};
use proto::rpc::{Code, Failure};

use super::app::Api;
use super::protocol::{Form, Protocol};
use super::reply::{self, Reply};
use super::routes::{health, ingest, render, rpc, status};
use super::server::Server;
use crate::runtime::{Clock, Spawn};

/// What a path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// A procedure of Connect.
    Procedure(Procedure),
    /// The SDKs' upload.
    Ingest,
    /// Flame graph with timeline.
    Render,
    /// Two of them.
    RenderDiff,
    /// Values of a label.
    LabelValuesLegacy,
    /// Whether reads are served.
    Ready,
    /// Everything into blocks.
    Flush,
    /// Metrics.
    Metrics,
    /// Version.
    BuildInfo,
    /// The configuration in force.
    Config,
    /// What of it differs from the defaults.
    ConfigDiff,
    /// The defaults.
    ConfigDefault,
    /// The limits of tenants that have some of their own.
    RuntimeConfig,
    /// Limits of the caller.
    TenantLimits,
    /// Whether reads are served, by gRPC's protocol.
    HealthCheck,
    /// The same, as it changes.
    HealthWatch,
}

impl Route {
    fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "/ingest" | "/pyroscope/ingest" => Self::Ingest,
            "/pyroscope/render" => Self::Render,
            "/pyroscope/render-diff" => Self::RenderDiff,
            "/pyroscope/label-values" => Self::LabelValuesLegacy,
            "/ready" => Self::Ready,
            "/flush" => Self::Flush,
            "/metrics" => Self::Metrics,
            "/api/v1/status/buildinfo" => Self::BuildInfo,
            "/api/v1/status/config" => Self::Config,
            "/api/v1/status/config/diff" => Self::ConfigDiff,
            "/api/v1/status/config/default" => Self::ConfigDefault,
            "/runtime_config" => Self::RuntimeConfig,
            "/api/v1/tenant_limits" => Self::TenantLimits,
            HEALTH_CHECK => Self::HealthCheck,
            HEALTH_WATCH => Self::HealthWatch,
            path => Self::Procedure(Procedure::from_path(path)?),
        })
    }

    fn is_called_by_post(self) -> bool {
        matches!(
            self,
            Self::Procedure(_) | Self::Ingest | Self::Flush | Self::HealthCheck | Self::HealthWatch
        )
    }

    /// Name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Procedure(procedure) => procedure.path(),
            Self::Ingest => "/ingest",
            Self::Render => "/pyroscope/render",
            Self::RenderDiff => "/pyroscope/render-diff",
            Self::LabelValuesLegacy => "/pyroscope/label-values",
            Self::Ready => "/ready",
            Self::Flush => "/flush",
            Self::Metrics => "/metrics",
            Self::BuildInfo => "/api/v1/status/buildinfo",
            Self::Config => "/api/v1/status/config",
            Self::ConfigDiff => "/api/v1/status/config/diff",
            Self::ConfigDefault => "/api/v1/status/config/default",
            Self::RuntimeConfig => "/runtime_config",
            Self::TenantLimits => "/api/v1/tenant_limits",
            Self::HealthCheck => HEALTH_CHECK,
            Self::HealthWatch => HEALTH_WATCH,
        }
    }
}

/// Answers one request.
pub(super) async fn answer<R, A>(server: &Rc<Server<R, A>>, request: Request<Incoming>) -> Reply
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let begun_ns = server.rt.now_ns();
    let path = request.uri().path();
    let route = path.strip_prefix(server.config.path_prefix.as_str()).and_then(Route::of_path);
    let reply = match route {
        None => unknown(&request),
        Some(route) => called(server, route, request).await,
    };
    let name = route.map_or("other", Route::name);
    // A gRPC call that failed has status 200 in HTTP; it is counted as the same failure of a Connect call.
    let status = match reply.extensions().get::<Code>() {
        Some(code) => code.connect_http_status(),
        None => reply.status().as_u16(),
    };
    server.counters.count_request(name, status, server.rt.now_ns() - begun_ns);
    reply
}

/// gRPC has a code for what it cannot call, and its clients make less of a 404.
fn unknown<B>(request: &Request<B>) -> Reply {
    match Form::of_request(request.headers()) {
        Some(form) if form.protocol != Protocol::Connect && request.method() == Method::POST => {
            form.failure(&Failure::new(
                Code::Unimplemented,
                "",
                format!("unknown procedure {}", request.uri().path()),
            ))
        }
        _ => reply::unknown_path(),
    }
}

async fn called<R, A>(server: &Rc<Server<R, A>>, route: Route, request: Request<Incoming>) -> Reply
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let method = request.method().clone();
    match method {
        Method::POST if route.is_called_by_post() => {}
        Method::GET | Method::HEAD if !route.is_called_by_post() => {}
        _ => {
            return reply::wrong_method(if route.is_called_by_post() {
                "POST"
            } else {
                "GET, HEAD"
            });
        }
    }
    let reply = routed(server, route, request).await;
    if method == Method::HEAD { reply::without_body(reply) } else { reply }
}

async fn routed<R, A>(server: &Rc<Server<R, A>>, route: Route, request: Request<Incoming>) -> Reply
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    match route {
        Route::Procedure(procedure) => rpc::answer(server, procedure, request).await,
        Route::Ingest => ingest::answer(server, request).await,
        Route::Render | Route::RenderDiff | Route::LabelValuesLegacy => {
            render::answer(server, route, request).await
        }
        Route::Ready => status::ready(server),
        Route::Flush => status::flush(server).await,
        Route::Metrics => status::metrics(server, request.headers()).await,
        Route::BuildInfo => status::build_info(),
        Route::Config => status::config(&server.config.config_pages.in_force),
        Route::ConfigDiff => status::config(&server.config.config_pages.changed),
        Route::ConfigDefault => status::config(&server.config.config_pages.defaults),
        Route::RuntimeConfig => status::runtime_config(server, &request).await,
        Route::TenantLimits => status::tenant_limits(server, request.headers()),
        Route::HealthCheck => health::check(server, request).await,
        Route::HealthWatch => health::watch(server, request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_procedure_is_routed_and_called_by_post() {
        for procedure in Procedure::ALL {
            let route = Route::of_path(procedure.path()).unwrap();
            assert_eq!(route, Route::Procedure(*procedure));
            assert!(route.is_called_by_post());
        }
    }

    #[test]
    fn a_route_is_found_under_the_name_it_is_counted_by() {
        for path in [
            "/ingest",
            "/pyroscope/render",
            "/pyroscope/render-diff",
            "/ready",
            "/flush",
            "/metrics",
            "/runtime_config",
            "/api/v1/tenant_limits",
        ] {
            assert_eq!(Route::of_path(path).unwrap().name(), path);
        }
        assert_eq!(Route::of_path("/pyroscope/ingest"), Some(Route::Ingest));
        for unknown in
            ["/", "", "/flush/", "/render", "/ingest/", "/querier.v1.QuerierService/Nope"]
        {
            assert_eq!(Route::of_path(unknown), None, "{unknown}");
        }
    }
}
