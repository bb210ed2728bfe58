//! `POST /ingest`: what SDKs upload. Formats and parameters are the engine's business; this is its transport.

use std::rc::Rc;

use engine::gzip::has_magic;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{Request, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::{BODY_TOO_LARGE, run_in};
use crate::http::app::{Api, Claim, HttpFailure, Upload, Writes};
use crate::http::body::{self, BodyError};
use crate::http::reply::{self, Reply};
use crate::http::server::Server;
use crate::http::tenant_header::tenant_of_write;
use crate::runtime::{Class, Clock, Spawn};

/// Answers an upload: 200 with an empty body, or the failure.
pub(in crate::http) async fn answer<R, A>(
    server: &Rc<Server<R, A>>,
    request: Request<Incoming>,
) -> Reply
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    match uploaded(server, request).await {
        Ok(()) => reply::empty(StatusCode::OK),
        Err(failure) => reply::plain_failure(&failure),
    }
}

async fn uploaded<R, A>(
    server: &Rc<Server<R, A>>,
    request: Request<Incoming>,
) -> Result<(), HttpFailure>
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let (head, body) = request.into_parts();
    let tenant = tenant_of_write(server.config.tenancy, &head.headers)?;
    let claim = Claim::of_bytes(body.size_hint().exact().unwrap_or(0));
    let bytes_max = match server.api.writes().admit_head(&tenant, claim) {
        Ok(bytes_max) => bytes_max,
        Err(failure) => {
            body::discard(&server.rt, body).await;
            return Err(failure.into());
        }
    };
    let limits = server.push_body_limits(bytes_max);
    let received = body::read(&server.rt, body, &limits).await.map_err(body_failure)?;
    let work = {
        let server = server.clone();
        async move {
            let joined = received.join(&server.rt).await?;
            let upload = Upload {
                query: head.uri.query().unwrap_or_default(),
                content_type: header(&head, CONTENT_TYPE.as_str()),
                gzip_encoded: header(&head, CONTENT_ENCODING.as_str()) == "gzip"
                    && has_magic(&joined.bytes),
                body: joined.bytes,
            };
            server.api.writes().ingest(tenant, upload, joined.held).await
        }
    };
    run_in(&server.rt, Class::Ingest, work).await?
}

fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn body_failure(error: BodyError) -> HttpFailure {
    match error {
        BodyError::TooLarge => HttpFailure::of_status(413, BODY_TOO_LARGE),
        BodyError::Memory(failure) | BodyError::Call(failure) => failure.into(),
        BodyError::Read(text) => {
            HttpFailure::of_status(408, format!("error reading request body: {text}"))
        }
        BodyError::Timeout => {
            HttpFailure::of_status(408, "error reading request body: it was not sent in time")
        }
    }
}
