//! One request on its way to a push, in resumable steps.

use bytes::Bytes;
use proto::rpc::append::IngestNaming;

use super::error::{IngestError, Origin};
use super::folded::FoldedPass;
use super::format::Format;
use super::multipart::{Form, FormPass};
use super::params::Params;
use super::pprof_writer::Header;
use super::rewrite::{Rewrite, RewriteError, RewritePass};
use super::{IngestPush, IngestRequest, sample_types, text_type};
use crate::gzip::{Gunzip, GunzipError, has_magic};
use crate::labels::{LabelSet, name};
use crate::profile::{PROFILE_BYTES_MAX, Step};

/// What one step may spend on inflating, nanoseconds.
const INFLATE_BUDGET: i64 = 1_000_000;

/// A request being converted; most are done at once.
#[derive(Debug)]
pub struct Conversion {
    params: Params,
    format: Format,
    content_type: String,
    profile_bytes_max: usize,
    /// Of the buffers that the phase reads or keeps slices of.
    source_bytes: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The content encoding of a text or a form is undone.
    Decode(Inflation),
    /// The same of a pprof, which may be gzip again inside: only then is it undone, else taken as received.
    Peek { inflation: Inflation, received: Bytes },
    /// A form is split.
    Split(Box<FormPass>),
    /// Text becomes a pprof.
    Text { labels: Vec<(String, String)>, pass: Box<FoldedPass> },
    /// A pprof to be rewritten is inflated; as received it stays beside.
    Inflate { inflation: Inflation, rewrite: Rewrite, push: Box<IngestPush> },
    /// A pprof is rewritten.
    Rewrite { pass: Box<RewritePass>, push: Box<IngestPush> },
    /// Nothing is left to do.
    Done(Option<Box<IngestPush>>),
}

#[derive(Debug)]
struct Inflation {
    gunzip: Gunzip,
    inflated: Vec<u8>,
}

impl Inflation {
    fn new(body: Bytes, bytes_max: usize) -> Self {
        Self { gunzip: Gunzip::new(body, bytes_max), inflated: Vec::new() }
    }

    fn step(&mut self) -> Result<Step, GunzipError> {
        self.gunzip.step(&mut self.inflated, &mut { INFLATE_BUDGET })
    }
}

impl Conversion {
    /// Reads the parameters and chooses the parser.
    pub fn begin(request: IngestRequest<'_>) -> Result<Self, IngestError> {
        let IngestRequest { query, content_type, body, now_ns, .. } = request;
        let params = Params::parse(query, now_ns)?;
        // Lengths are 32 bits wide behind here, also where a limit is off.
        let allowed = |limit: usize, off: usize| if limit == 0 { off } else { limit };
        let body_bytes_max = allowed(request.body_bytes_max, u32::MAX as usize);
        if body.len() > body_bytes_max {
            return Err(IngestError::body_too_large());
        }
        let encoded = request.content_encoding_gzip && has_magic(&body);
        // Under an encoding the first bytes tell nothing of what is inside.
        let format = Format::of(&params.format, content_type, if encoded { b"--" } else { &body });
        if let Format::NotBuilt(format) = format {
            return Err(IngestError::not_built_yet(format));
        }
        let mut conversion = Self {
            params,
            format,
            content_type: content_type.to_owned(),
            profile_bytes_max: allowed(request.profile_bytes_max, PROFILE_BYTES_MAX),
            source_bytes: body.len(),
            phase: Phase::Done(None),
        };
        conversion.phase = if !encoded {
            conversion.open(body)?
        } else if format == Format::Pprof {
            Phase::Peek { inflation: Inflation::new(body.clone(), body_bytes_max), received: body }
        } else {
            Phase::Decode(Inflation::new(body, body_bytes_max))
        };
        Ok(conversion)
    }

    /// Works for about a millisecond.
    pub fn step(&mut self) -> Result<Step, IngestError> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Done(None)) {
            Phase::Decode(mut inflation) => match inflation.step() {
                Ok(Step::More) => Phase::Decode(inflation),
                Ok(Step::Done) => self.open_decoded(inflation.inflated)?,
                Err(error) => return Err(not_decoded(error)),
            },
            Phase::Peek { mut inflation, received } => match inflation.step() {
                Ok(Step::More) if inflation.inflated.len() < 2 => {
                    Phase::Peek { inflation, received }
                }
                Ok(Step::More) if has_magic(&inflation.inflated) => Phase::Decode(inflation),
                Ok(Step::Done) if has_magic(&inflation.inflated) => {
                    self.open_decoded(inflation.inflated)?
                }
                Err(error) if has_magic(&inflation.inflated) => return Err(not_decoded(error)),
                // Gzip round a plain pprof is as good as the profile's own: the owner of its partition undoes it.
                _ => self.open(received)?,
            },
            Phase::Split(mut pass) => match pass.step().map_err(|error| bad_form(&error))? {
                Step::More => Phase::Split(pass),
                Step::Done => self.form(&pass.finish())?,
            },
            Phase::Text { labels, mut pass } => match pass.step()? {
                Step::More => Phase::Text { labels, pass },
                Step::Done => {
                    let profile = pass.finish();
                    self.source_bytes = profile.as_ref().map_or(0, Bytes::len);
                    Phase::Done(profile.map(|profile| {
                        Box::new(IngestPush { labels, naming: None, profile, origin: Origin::Text })
                    }))
                }
            },
            Phase::Inflate { mut inflation, rewrite, push } => match inflation.step() {
                Ok(Step::More) => Phase::Inflate { inflation, rewrite, push },
                Ok(Step::Done) => {
                    self.source_bytes += inflation.inflated.capacity();
                    self.begin_rewrite(rewrite, inflation.inflated.into(), push)
                }
                Err(_) => Phase::Done(Some(push)), // the owner refuses it in its own words
            },
            Phase::Rewrite { mut pass, mut push } => match pass.step() {
                Ok(Step::More) => Phase::Rewrite { pass, push },
                Ok(Step::Done) => {
                    push.profile = pass.finish();
                    self.source_bytes = push.profile.len();
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

    /// Heap bytes held: buffers as they are, tables estimated. Grows by a small multiple of what one step reads.
    pub fn bytes_held(&self) -> usize {
        self.source_bytes
            + match &self.phase {
                Phase::Decode(inflation)
                | Phase::Peek { inflation, .. }
                | Phase::Inflate { inflation, .. } => inflation.inflated.capacity(),
                Phase::Split(pass) => pass.bytes_held(),
                Phase::Text { pass, .. } => pass.bytes_held(),
                Phase::Rewrite { pass, .. } => pass.bytes_held(),
                Phase::Done(_) => 0,
            }
    }

    /// A pprof without a format looks like text while it is encoded.
    fn open_decoded(&mut self, inflated: Vec<u8>) -> Result<Phase, IngestError> {
        self.source_bytes = inflated.capacity();
        let body = Bytes::from(inflated);
        self.format = Format::of(&self.params.format, &self.content_type, &body);
        self.open(body)
    }

    fn open(&self, body: Bytes) -> Result<Phase, IngestError> {
        match self.format {
            Format::Pprof => Ok(self.pprof(body, None)),
            Format::PprofForm => {
                let pass = FormPass::new(&self.content_type, body);
                Ok(Phase::Split(Box::new(pass.map_err(|error| bad_form(&error))?)))
            }
            Format::Folded | Format::Lines => self.text(body),
            Format::NotBuilt(format) => Err(IngestError::not_built_yet(format)),
        }
    }

    fn form(&self, form: &Form) -> Result<Phase, IngestError> {
        let part = |name| form.part(name).filter(|content| !content.is_empty());
        if part("prev_profile").is_some() {
            return Err(bad_form(
                &"unsupported client version. Please update github.com/grafana/pyroscope-go to the latest version",
            ));
        }
        let Some(profile) = form.part("profile") else {
            return Err(bad_form(&"form has no part \"profile\""));
        };
        let configs = part("sample_type_config")
            .map(|json| sample_types::parse(json))
            .transpose()
            .map_err(|error| bad_form(&format_args!("sample_type_config: {error}")))?
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
            Some(rewrite) if has_magic(&profile) => Phase::Inflate {
                inflation: Inflation::new(profile, self.profile_bytes_max),
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

fn not_decoded(error: GunzipError) -> IngestError {
    match error {
        GunzipError::OverLimit => IngestError::body_too_large(),
        GunzipError::Gzip(error) => IngestError::unreadable("body", error),
    }
}

fn bad_form(what: &dyn std::fmt::Display) -> IngestError {
    IngestError::unreadable(
        "pprof",
        format_args!("failed to parse pprof /ingest multipart form {what}"),
    )
}
