//! Calls of procedures: pushes and queries, by whatever protocol they come.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use engine::tenant::TenantId;
use http::header::ACCEPT;
use http::{HeaderMap, Request, Version};
use hyper::body::{Body as _, Incoming};
use proto::procedure::Procedure;
use proto::push::PushResponse;
use proto::rpc::Failure;

use super::{body_failure, check_ready, inflate_failure, run_in};
use crate::http::app::{Api, Claim, NameCharset, Reads, Writes};
use crate::http::body::{self, BodyLimits};
use crate::http::codec::Codec;
use crate::http::protocol::{Encoding, Form, Protocol, deadline_exceeded};
use crate::http::reply::{self, Reply};
use crate::http::rope::{BLOCK_BYTES, Rope};
use crate::http::server::Server;
use crate::http::tenant_header::{tenant_of_write, tenants_of_read};
use crate::http::{gzip, push_message};
use crate::runtime::{Class, Clock, Spawn};

/// A push that is no longer than this, neither compressed nor JSON, is handed on by the connection's task: nothing of it is copied,
/// and its parts are read in steps.
const SHORT_PUSH_BYTES_MAX: usize = BLOCK_BYTES;

/// Whose data a call is about.
enum Caller {
    Write(TenantId),
    Read(Vec<TenantId>),
}

/// Answers a call.
pub(in crate::http) async fn answer<R, A>(
    server: &Rc<Server<R, A>>,
    procedure: Procedure,
    request: Request<Incoming>,
) -> Reply
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let form = match form_of(&request) {
        Ok(form) => form,
        Err(formless) => return formless.reply(),
    };
    let outcome = match form.timeout(request.headers()) {
        Err(failure) => Err(failure),
        Ok(None) => call(server, procedure, form, request).await,
        // Time that is over already is nobody's race.
        Ok(Some(Duration::ZERO)) => {
            // A connection that is closed over an unread body may reach the client before the answer does.
            body::discard(&server.rt, request.into_body()).await;
            Err(deadline_exceeded())
        }
        Ok(Some(limit)) => {
            let called = call(server, procedure, form, request);
            let late = || Err(deadline_exceeded());
            body::within(&server.rt, limit, called).await.unwrap_or_else(late)
        }
    };
    outcome.unwrap_or_else(|failure| form.failure(&failure))
}

/// How a call is written.
pub(super) fn form_of<B>(request: &Request<B>) -> Result<Form, Formless> {
    let form = Form::of_request(request.headers()).ok_or(Formless::ContentType)?;
    if form.protocol == Protocol::Grpc && request.version() < Version::HTTP_2 {
        return Err(Formless::Http1);
    }
    Ok(form)
}

/// Why no procedure takes a request.
pub(super) enum Formless {
    /// Its content type.
    ContentType,
    /// gRPC without trailers.
    Http1,
}

impl Formless {
    /// The reply: no failure of any protocol, because there is none to write it in.
    pub(super) fn reply(self) -> Reply {
        match self {
            Self::ContentType => reply::unknown_content_type(),
            Self::Http1 => reply::wants_http2(),
        }
    }
}

/// Whose call it is and how long its body may be, or why it is refused, by its head alone.
fn admit_head<R, A>(
    server: &Rc<Server<R, A>>,
    procedure: Procedure,
    headers: &HeaderMap,
    claim: Claim,
) -> Result<(Caller, BodyLimits, Class), Failure>
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    if procedure == Procedure::Push {
        let tenant = tenant_of_write(server.config.tenancy, headers)?;
        let bytes_max = server.api.writes().admit_head(&tenant, claim)?;
        return Ok((Caller::Write(tenant), server.push_body_limits(bytes_max), Class::Ingest));
    }
    let tenants = tenants_of_read(server.config.tenancy, headers)?;
    check_ready(server)?;
    Ok((Caller::Read(tenants), server.query_body_limits(), Class::Query))
}

/// Everything that can be refused on the headers is refused before the body is read.
async fn call<R, A>(
    server: &Rc<Server<R, A>>,
    procedure: Procedure,
    form: Form,
    request: Request<Incoming>,
) -> Result<Reply, Failure>
where
    R: Clock + Spawn + Clone + 'static,
    A: Api,
{
    let (head, body) = request.into_parts();
    let body_bytes = body.size_hint().exact().unwrap_or(0);
    let is_base64 = form.codec == Codec::Json || form.protocol == Protocol::GrpcWebText;
    let claim = if is_base64 { Claim::of_base64(body_bytes) } else { Claim::of_bytes(body_bytes) };
    let admitted = admit_head(server, procedure, &head.headers, claim);
    let (caller, limits, class) = match admitted {
        Ok(admitted) => admitted,
        Err(failure) => {
            body::discard(&server.rt, body).await;
            return Err(failure);
        }
    };
    let mut opener = form.opener(&head.headers, limits.bytes_max)?;
    let received = body::read_message(&server.rt, body, &limits, &mut opener).await;
    let (received, encoding) = (received.map_err(body_failure)?, opener.encoding()?);
    // A short push is little more than its way to the owner: each turn of a class that decodes would cost it a millisecond.
    let is_short = class == Class::Ingest
        && form.codec == Codec::Proto
        && encoding == Encoding::Identity
        && received.len() <= SHORT_PUSH_BYTES_MAX;
    let work = {
        let server = server.clone();
        async move {
            let (rt, codec) = (&server.rt, form.codec);
            let message = decoded(rt, encoding, received, limits).await?;
            let answer = match caller {
                Caller::Write(tenant) => push(&server, codec, tenant, message).await?,
                Caller::Read(tenants) => {
                    let charset = charset_of(&head.headers);
                    read(&server, procedure, codec, tenants, charset, message).await?
                }
            };
            Ok(form.success(rt, &server.budget, &head.headers, answer).await)
        }
    };
    if is_short { work.await } else { run_in(&server.rt, class, work).await? }
}

/// Undoes the transport's encoding; the message is still accounted.
pub(super) async fn decoded(
    rt: &impl Spawn,
    encoding: Encoding,
    received: Rope,
    limits: BodyLimits,
) -> Result<Rope, Failure> {
    match encoding {
        Encoding::Identity => Ok(received),
        Encoding::Gzip => {
            let BodyLimits { bytes_max, budget, .. } = limits;
            // Messages compress to about a third; that only sizes the first block.
            let inflated = Rope::new(budget, bytes_max, 3 * received.len() as u64);
            let (blocks, _held) = received.into_blocks();
            gzip::inflate(rt, blocks, inflated).await.map_err(inflate_failure)
        }
    }
}

async fn push<R: Spawn, A: Api>(
    server: &Server<R, A>,
    codec: Codec,
    tenant: TenantId,
    message: Rope,
) -> Result<Vec<Bytes>, Failure> {
    let joined = message.join(&server.rt).await?;
    let request = push_message::decode(&server.rt, codec, joined.bytes).await?;
    server.api.writes().push(tenant, request, joined.held).await?;
    Ok(codec.encode(&PushResponse {}))
}

async fn read<R: Spawn, A: Api>(
    server: &Server<R, A>,
    procedure: Procedure,
    codec: Codec,
    tenants: Vec<TenantId>,
    charset: NameCharset,
    message: Rope,
) -> Result<Vec<Bytes>, Failure> {
    let body: Bytes = message.join(&server.rt).await?.bytes;
    let (reads, rt) = (server.api.reads(), &server.rt);
    Ok(match procedure {
        Procedure::Push => unreachable!("pushes are no reads"),
        Procedure::ProfileTypes => {
            let answer = reads.profile_types(tenants, codec.decode(body)?).await?;
            codec.encode_in_pieces(rt, answer).await
        }
        Procedure::LabelValues => {
            let answer = reads.label_values(tenants, codec.decode(body)?).await?;
            codec.encode_in_pieces(rt, answer).await
        }
        Procedure::LabelNames => {
            let answer = reads.label_names(tenants, charset, codec.decode(body)?).await?;
            codec.encode_in_pieces(rt, answer).await
        }
        Procedure::Series => {
            let answer = reads.series(tenants, charset, codec.decode(body)?).await?;
            codec.encode_in_pieces(rt, answer).await
        }
        Procedure::SelectMergeStacktraces => {
            let answer = reads.select_merge_stacktraces(tenants, codec.decode(body)?).await?;
            codec.encode_in_pieces(rt, answer).await
        }
        Procedure::SelectMergeSpanProfile => {
            codec.encode(&reads.select_merge_span_profile(tenants, codec.decode(body)?).await?)
        }
        Procedure::SelectMergeProfile => {
            let profile = reads.select_merge_profile(tenants, codec.decode(body)?).await?;
            codec.encode_in_pieces(rt, profile).await
        }
        Procedure::SelectSeries => {
            let answer = reads.select_series(tenants, codec.decode(body)?).await?;
            codec.encode_in_pieces(rt, answer).await
        }
        Procedure::SelectHeatmap => {
            codec.encode(&reads.select_heatmap(tenants, codec.decode(body)?).await?)
        }
        Procedure::Diff => {
            let answer = reads.diff(tenants, codec.decode(body)?).await?;
            codec.encode_in_pieces(rt, answer).await
        }
        Procedure::GetProfileStats => {
            codec.encode(&reads.get_profile_stats(tenants, codec.decode(body)?).await?)
        }
        Procedure::AnalyzeQuery => {
            codec.encode(&reads.analyze_query(tenants, codec.decode(body)?).await?)
        }
    })
}

/// Which label names the client can take: a parameter of any media range of `Accept`.
fn charset_of(headers: &HeaderMap) -> NameCharset {
    let allows_utf8 = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|part| part.split_once('='))
        .any(|(name, value)| {
            name.trim().eq_ignore_ascii_case("allow-utf8-labelnames")
                && value.trim().trim_matches('"') == "true"
        });
    if allows_utf8 { NameCharset::Utf8 } else { NameCharset::Legacy }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn utf8_label_names_are_asked_for_in_accept() {
        for (accept, charset) in [
            ("*/*;allow-utf8-labelnames=true", NameCharset::Utf8),
            ("*/*; allow-utf8-labelnames=true", NameCharset::Utf8),
            ("application/json, */*;q=0.8;Allow-UTF8-LabelNames=\"true\"", NameCharset::Utf8),
            ("*/*;allow-utf8-labelnames=false", NameCharset::Legacy),
            ("*/*", NameCharset::Legacy),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(charset_of(&headers), charset, "{accept}");
        }
        assert_eq!(charset_of(&HeaderMap::new()), NameCharset::Legacy);
    }
}
