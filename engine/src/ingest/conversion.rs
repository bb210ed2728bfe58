//! One request on its way to a push, in resumable steps.

use bytes::Bytes;
use proto::rpc::append::IngestNaming;

use super::error::{IngestError, Origin};
use super::folded::FoldedPass;
use super::format::Format;
use super::gunzip::{Gunzip, GunzipError, holds_gzip, is_gzip};
use super::multipart::Form;
use super::params::Params;
use super::pprof_writer::Header;
use super::rewrite::{Rewrite, RewriteError, RewritePass};
use super::{IngestPush, IngestRequest, sample_types, text_type};
use crate::labels::{LabelSet, name};
use crate::profile::Step;

/// What a limit of 0 (off) still allows: lengths are 32 bits wide behind here.
const BYTES_MAX: usize = u32::MAX as usize;

/// A request being converted; most are done at once.
#[derive(Debug)]
pub struct Conversion {
    params: Params,
    format: Format,
    content_type: String,
    profile_bytes_max: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The content encoding of a text or a form is undone.
    Decode(Gunzip),
    /// Text becomes a pprof.
    Text { labels: Vec<(String, String)>, pass: Box<FoldedPass> },
    /// A pprof to be rewritten is inflated; as received it stays beside.
    Inflate { gunzip: Gunzip, rewrite: Rewrite, push: Box<IngestPush> },
    /// A pprof is rewritten.
    Rewrite { pass: Box<RewritePass>, push: Box<IngestPush> },
    /// Nothing is left to do.
    Done(Option<Box<IngestPush>>),
}

impl Conversion {
    /// Reads the parameters and chooses the parser.
    pub fn begin(request: IngestRequest<'_>) -> Result<Self, IngestError> {
        let IngestRequest { query, content_type, body, now_ns, .. } = request;
        let params = Params::parse(query, now_ns)?;
        let allowed = |limit: usize| if limit == 0 { BYTES_MAX } else { limit };
        let body_bytes_max = allowed(request.body_bytes_max);
        if body.len() > body_bytes_max {
            return Err(IngestError::body_too_large());
        }
        let encoded = request.content_encoding_gzip && is_gzip(&body);
        // Under an encoding the first bytes tell nothing of what is inside.
        let format = Format::of(&params.format, content_type, if encoded { b"--" } else { &body });
        if let Format::NotBuilt(format) = format {
            return Err(IngestError::not_built_yet(format));
        }
        let mut conversion = Self {
            params,
            format,
            content_type: content_type.to_owned(),
            profile_bytes_max: allowed(request.profile_bytes_max),
            phase: Phase::Done(None),
        };
        // Gzip round a plain pprof is as good as the profile's own: the owner of its partition undoes it.
        conversion.phase = if encoded && (format != Format::Pprof || holds_gzip(&body)) {
            Phase::Decode(Gunzip::new(body, body_bytes_max))
        } else {
            conversion.open(body)?
        };
        Ok(conversion)
    }

    /// Works for about a millisecond.
    pub fn step(&mut self) -> Result<Step, IngestError> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Done(None)) {
            Phase::Decode(mut gunzip) => match gunzip.step() {
                Ok(false) => Phase::Decode(gunzip),
                Ok(true) => self.open_decoded(gunzip.finish())?,
                Err(GunzipError::TooLarge) => return Err(IngestError::body_too_large()),
                Err(GunzipError::Damaged(error)) => {
                    return Err(IngestError::unreadable("body", format_args!("gzip: {error}")));
                }
            },
            Phase::Text { labels, mut pass } => match pass.step()? {
                Step::More => Phase::Text { labels, pass },
                Step::Done => Phase::Done(pass.finish().map(|profile| {
                    Box::new(IngestPush { labels, naming: None, profile, origin: Origin::Text })
                })),
            },
            Phase::Inflate { mut gunzip, rewrite, push } => match gunzip.step() {
                Ok(false) => Phase::Inflate { gunzip, rewrite, push },
                Ok(true) => self.begin_rewrite(rewrite, gunzip.finish(), push),
                Err(_) => Phase::Done(Some(push)), // the owner refuses it in its own words
            },
            Phase::Rewrite { mut pass, mut push } => match pass.step() {
                Ok(Step::More) => Phase::Rewrite { pass, push },
                Ok(Step::Done) => {
                    push.profile = pass.finish();
                    Phase::Done(Some(push))
                }
                Err(RewriteError::Malformed) => Phase::Done(Some(push)),
                Err(RewriteError::TooLarge) => {
                    return Err(IngestError::profile_too_large(
                        Origin::Pprof,
                        self.profile_bytes_max,
                    ));
                }
            },
            done @ Phase::Done(_) => done,
        };
        Ok(if matches!(self.phase, Phase::Done(_)) { Step::Done } else { Step::More })
    }

    /// The push, once [`Self::step`] was done; `None` when there is nothing to store.
    pub fn finish(self) -> Option<IngestPush> {
        match self.phase {
            Phase::Done(push) => push.map(|push| *push),
            phase => panic!("a conversion is finished after its last step, not in {phase:?}"),
        }
    }

    /// A pprof without a format looks like text while it is encoded.
    fn open_decoded(&mut self, body: Bytes) -> Result<Phase, IngestError> {
        self.format = Format::of(&self.params.format, &self.content_type, &body);
        self.open(body)
    }

    fn open(&self, body: Bytes) -> Result<Phase, IngestError> {
        match self.format {
            Format::Pprof => Ok(self.pprof(body, None)),
            Format::PprofForm => self.form(&body),
            Format::Folded | Format::Lines => self.text(body),
            Format::NotBuilt(format) => Err(IngestError::not_built_yet(format)),
        }
    }

    fn form(&self, body: &Bytes) -> Result<Phase, IngestError> {
        let refused = |what: &dyn std::fmt::Display| {
            IngestError::unreadable(
                "pprof",
                format_args!("failed to parse pprof /ingest multipart form {what}"),
            )
        };
        let form = Form::parse(&self.content_type, body).map_err(|error| refused(&error))?;
        let part = |name| form.part(name).filter(|content| !content.is_empty());
        if part("prev_profile").is_some() {
            return Err(refused(
                &"unsupported client version. Please update github.com/grafana/pyroscope-go to the latest version",
            ));
        }
        let Some(profile) = form.part("profile") else {
            return Err(refused(&"form has no part \"profile\""));
        };
        let configs = part("sample_type_config")
            .map(|json| sample_types::parse(json))
            .transpose()
            .map_err(|error| refused(&format_args!("sample_type_config: {error}")))?
            .flatten();
        Ok(self.pprof(profile.clone(), configs.as_ref()))
    }

    fn pprof(&self, profile: Bytes, configs: Option<&sample_types::SampleTypeConfigs>) -> Phase {
        if profile.is_empty() {
            return Phase::Done(None);
        }
        let has_dotnet_config = configs.is_some_and(|configs| configs.contains_key("inuse-space"));
        let rewrite = Rewrite::of_spy(&self.params.spy_name, has_dotnet_config);
        let push = Box::new(IngestPush {
            labels: self.labels(&self.params.name.app).into_pairs(),
            naming: Some(IngestNaming {
                display_names: sample_types::display_names(configs),
                from_time_ns: self.params.from_ns,
            }),
            profile: profile.clone(),
            origin: Origin::Pprof,
        });
        match rewrite {
            None => Phase::Done(Some(push)),
            Some(rewrite) if is_gzip(&profile) => Phase::Inflate {
                gunzip: Gunzip::new(profile, self.profile_bytes_max),
                rewrite,
                push,
            },
            Some(rewrite) => self.begin_rewrite(rewrite, profile, push),
        }
    }

    fn begin_rewrite(&self, rewrite: Rewrite, profile: Bytes, push: Box<IngestPush>) -> Phase {
        let pass = RewritePass::new(rewrite, profile, self.profile_bytes_max);
        Phase::Rewrite { pass: Box::new(pass), push }
    }

    fn text(&self, text: Bytes) -> Result<Phase, IngestError> {
        let given = &self.params.name;
        if given.labels.get(name::PROFILE_ID).is_some_and(|id| !id.is_empty()) {
            return Ok(Phase::Done(None)); // an exemplar's: never stored
        }
        let (app, text_type) = text_type::split(&given.app).map_err(|suffix| {
            IngestError::bad_text_push(format!(
                "pyroscopeIngesterAdapter failed to convert metadata: unknown profile type: {suffix}"
            ))
        })?;
        let mut labels = self.labels(app);
        labels.set(name::NAME, text_type.name);
        if given.labels.contains_key(name::SERVICE_NAME) && labels.get("app_name").is_none() {
            labels.set("app_name", app);
        }
        let period_ns = 1_000_000_000_u64.checked_div(u64::from(self.params.sample_rate));
        let sampled = text_type.sampled_time().zip(period_ns);
        let header = Header {
            sample_type: sampled
                .map_or((text_type.kind, text_type.unit), |(kind, _)| (kind, "nanoseconds")),
            period_ns: sampled.map(|(_, period_ns)| period_ns),
            time_ns: self.params.from_ns,
        };
        let scale = sampled.map_or(1, |(_, period_ns)| period_ns as i64);
        let pass = FoldedPass::new(text, self.format, header, scale, self.profile_bytes_max);
        Ok(Phase::Text { labels: labels.into_pairs(), pass: Box::new(pass) })
    }

    /// Labels of `name` that clients may set, and what both paths add to them.
    fn labels(&self, service_name: &str) -> LabelSet {
        let given = self.params.name.labels.iter();
        let allowed = given.filter(|(key, _)| !key.starts_with("__") || *key == name::SESSION_ID);
        let mut labels = LabelSet::from_pairs(
            allowed.map(|(key, value)| (key.clone(), value.clone())).collect(),
        );
        labels.set(name::DELTA, "false");
        labels.set(name::PYROSCOPE_SPY, &*self.params.spy_name);
        if labels.get(name::SERVICE_NAME).is_none() {
            labels.set(name::SERVICE_NAME, service_name);
        }
        labels
    }
}
