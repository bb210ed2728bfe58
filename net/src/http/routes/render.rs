//! The plain read routes under `/pyroscope/`.

use std::rc::Rc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use proto::rpc::Failure;

use super::{check_ready, run_in};
use crate::http::app::{Api, Reads, Rendered};
use crate::http::reply::{self, Reply};
use crate::http::router::Route;
use crate::http::server::Server;
use crate::http::tenant_header::tenants_of_read;
use crate::runtime::{Class, Clock, Spawn};

/// Answers a read route.
pub(in crate::http) async fn answer<R, A>(
    server: &Rc<Server<R, A>>,
    route: Route,
    request: Request<Incoming>,
) -> Reply
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let outcome = rendered(server, route, request).await;
    outcome.unwrap_or_else(|failure| reply::plain_failure(&failure.into()))
}

async fn rendered<R, A>(
    server: &Rc<Server<R, A>>,
    route: Route,
    request: Request<Incoming>,
) -> Result<Reply, Failure>
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let (head, _) = request.into_parts();
    let tenants = tenants_of_read(server.config.tenancy, &head.headers)?;
    check_ready(server)?;
    let work = {
        let server = server.clone();
        async move {
            let (reads, query) = (server.api.reads(), head.uri.query().unwrap_or_default());
            let Rendered { content_type, body } = match route {
                Route::Render => reads.render(tenants, query).await?,
                Route::RenderDiff => reads.render_diff(tenants, query).await?,
                Route::LabelValuesLegacy => reads.label_values_legacy(tenants, query).await?,
                other => unreachable!("{other:?} is no plain read route"),
            };
            let reply = reply::full(StatusCode::OK, content_type, body.into());
            Ok(reply::compressed(&server.rt, &server.budget, &head.headers, reply).await)
        }
    };
    run_in(&server.rt, Class::Query, work).await?
}
