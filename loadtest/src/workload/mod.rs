//! What is pushed: everything about push `number` follows from the number and the [`Spec`].
//!
//! Pushes are dealt to the targets (pods of services) in turn. A target sends consecutive profiles of its kind, each target
//! from another one on. Every push carries a leaf frame that no other has, with a known value ([`leaf_name`], [`leaf_value`]), so
//! that it can be found again, counted and told apart from any other.
//!
//! Not here: when pushes are sent (`schedule`), what is expected of the server afterwards (`verify`).

mod generated;
mod series;
mod template;

use std::fmt::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use generated::{DEPTH_MAX, Drawn, FUNCTIONS, SAMPLES_MAX, Shape, function_name};
pub use series::Kind;
pub use template::{Template, leaf_name, leaf_value, number_of_leaf};

use crate::random::mix;
use crate::wire;

/// Targets at most: each has labels of its own in memory.
pub const TARGETS_MAX: u64 = 1_000_000;

/// What a workload is made from; written into journals, so that the same can be made again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Where profiles come from.
    pub source: Source,
    /// Services; service `j` is of kind `j` modulo the kinds there are.
    pub services: u64,
    /// Number of the first of them: those of other workloads at the same server have other numbers.
    #[serde(default)]
    pub first_service: u64,
    /// Pods of each service.
    pub pods: u64,
    /// Decides what is made up.
    pub seed: u64,
    /// What the profiles' times are.
    pub times: Times,
}

/// Where profiles come from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A folder with consecutive profiles of several programs, `program/kind/*.pb.gz`.
    Series(PathBuf),
    /// A folder of profile files.
    Files(PathBuf),
    /// Made-up profiles.
    Generated(Shape),
}

/// The times that profiles carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// The time of sending.
    Sending,
    /// Those of an agent that sends one profile of each target every so often.
    Consecutive {
        /// Time of the first, Unix nanoseconds.
        from_ns: i64,
        /// Nanoseconds between two of a target.
        interval_ns: i64,
    },
}

/// One pod of one service.
#[derive(Debug)]
pub struct Target {
    /// Labels of its series, in order of their names.
    pub labels: Vec<(String, String)>,
    /// Row of its kind.
    pub kind: usize,
    /// Where in its kind's profiles it begins.
    pub offset: u64,
    /// The labels as fields of a `RawProfileSeries`.
    encoded: Vec<u8>,
    /// Path and parameters of `/ingest`, where `__name__` follows from the profile's sample types.
    ingest_path: String,
}

/// Everything that can be pushed.
#[derive(Debug)]
pub struct Workload {
    spec: Spec,
    kinds: Vec<Kind>,
    targets: Vec<Target>,
}

/// One push's place in the workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Row of the target.
    pub target: usize,
    /// How many pushes of this target are before it.
    pub round: u64,
    /// Row of the template within the target's kind.
    pub template: usize,
}

/// A request's body, in three parts of which the middle one is shared.
#[derive(Debug)]
pub struct Body<'a> {
    /// What stands in front.
    pub head: Vec<u8>,
    /// The template's bytes.
    pub shared: &'a [u8],
    /// The push's own end.
    pub own: Vec<u8>,
}

impl Body<'_> {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.head.len() + self.shared.len() + self.own.len()
    }

    /// Never: a push says something.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Workload {
    /// Reads or makes the templates.
    pub fn new(spec: Spec) -> Result<Self, String> {
        let kinds = match &spec.source {
            Source::Series(folder) => series::kinds_of(folder)?,
            Source::Files(folder) => vec![series::kind_of_files(folder)?],
            Source::Generated(shape) => {
                if shape.samples > SAMPLES_MAX || !(1..=DEPTH_MAX).contains(&shape.depth) {
                    return Err(format!(
                        "at most {SAMPLES_MAX} samples and 1 to {DEPTH_MAX} frames can be made up"
                    ));
                }
                let templates = vec![Template::new(generated::tables())?];
                let (service, profile_name) = ("loadtest".to_owned(), "process_cpu");
                vec![Kind { service, profile_name, templates }]
            }
        };
        let targets = spec.services.checked_mul(spec.pods).unwrap_or(0);
        if !(1..=TARGETS_MAX).contains(&targets) {
            return Err(format!("services times pods must be 1 to {TARGETS_MAX}"));
        }
        let targets = (0..targets).map(|row| target(&kinds, &spec, row)).collect();
        Ok(Self { spec, kinds, targets })
    }

    /// What it was made from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The kinds of profiles.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Pods of services, in the order in which they are served.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Where a push belongs.
    pub fn place(&self, number: u64) -> Place {
        let targets = self.targets.len() as u64;
        let (row, round) = (number % targets, number / targets);
        let target = usize::try_from(row).expect("a row of the targets");
        let Target { kind, offset, .. } = self.targets[target];
        let templates = self.kinds[kind].templates.len() as u64;
        let template = usize::try_from((round + offset) % templates).expect("a row of templates");
        Place { target, round, template }
    }

    /// The time push `number` carries when it is sent at `now_ns`, Unix nanoseconds.
    pub fn time_ns(&self, number: u64, now_ns: i64) -> i64 {
        match self.spec.times {
            Times::Sending => now_ns,
            Times::Consecutive { from_ns, interval_ns } => {
                let Place { target, round, .. } = self.place(number);
                // Agents are not in step: each target has its own moment within the interval.
                let moment = i128::from(interval_ns) * target as i128 / self.targets.len() as i128;
                let time =
                    i128::from(from_ns) + i128::from(interval_ns) * i128::from(round) + moment;
                i64::try_from(time).unwrap_or(i64::MAX)
            }
        }
    }

    /// The profile of a push, gzip'd: the shared first part and the push's own rest.
    pub fn profile(&self, number: u64, time_ns: i64) -> (&[u8], Vec<u8>) {
        let place = self.place(number);
        let template = &self.kinds[self.targets[place.target].kind].templates[place.template];
        let mut own = Vec::new();
        if let Source::Generated(shape) = self.spec.source {
            shape.add_samples(self.spec.seed, number, place.round, &mut own);
        }
        template.add_own(number, time_ns, &mut own);
        let mut rest = Vec::with_capacity(own.len() + 64);
        template.opening.finish(&own, &mut rest);
        (template.opening.bytes(), rest)
    }

    /// The body of a `push.v1.PushRequest`: one series with one profile.
    pub fn push_request(&self, number: u64, time_ns: i64) -> Body<'_> {
        let (shared, own) = self.profile(number, time_ns);
        let labels = &self.targets[self.place(number).target].encoded;
        let mut sample = Vec::with_capacity(32);
        wire::bytes_field(&mut sample, 2, number.to_string().as_bytes()); // RawSample.ID
        wire::bytes_field_head(&mut sample, 1, shared.len() + own.len()); // RawSample.raw_profile
        let sample_len = sample.len() + shared.len() + own.len();
        let mut series = Vec::with_capacity(labels.len() + 64);
        series.extend_from_slice(labels);
        wire::bytes_field_head(&mut series, 2, sample_len); // RawProfileSeries.samples
        let mut head = Vec::with_capacity(series.len() + sample.len() + 8);
        wire::bytes_field_head(&mut head, 1, series.len() + sample_len); // PushRequest.series
        head.extend_from_slice(&series);
        head.extend_from_slice(&sample);
        Body { head, shared, own }
    }

    /// What `/ingest` is asked for push `number`, and the body: the profile itself.
    pub fn ingest_request(&self, number: u64, time_ns: i64) -> (&str, Body<'_>) {
        let (shared, own) = self.profile(number, time_ns);
        let path = &self.targets[self.place(number).target].ingest_path;
        (path, Body { head: Vec::new(), shared, own })
    }

    /// A number that tells workloads apart whose specs are equal and whose files are not.
    pub fn digest(&self) -> u64 {
        let templates = self.kinds.iter().flat_map(|kind| &kind.templates);
        templates.fold(0, |digest, template| {
            let bytes = template.message.chunks(8);
            bytes.fold(digest, |digest, chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                mix(digest ^ u64::from_le_bytes(word)).rotate_left(1)
            })
        })
    }
}

fn target(kinds: &[Kind], spec: &Spec, row: u64) -> Target {
    let (service, pod) = (spec.first_service + row / spec.pods, row % spec.pods);
    let kinds_count = kinds.len() as u64;
    let (kind, copy) = ((service % kinds_count) as usize, service / kinds_count);
    let service_name = format!("{}-{copy}", kinds[kind].service);
    let labels = vec![
        ("__name__".to_owned(), kinds[kind].profile_name.to_owned()),
        ("instance".to_owned(), format!("10.{}.{}.{pod}:4040", copy >> 8 & 0xff, copy & 0xff)),
        ("namespace".to_owned(), "shop".to_owned()),
        ("pod".to_owned(), format!("{service_name}-{pod}")),
        ("service_name".to_owned(), service_name),
    ];
    let mut encoded = Vec::new();
    for (name, value) in &labels {
        let mut pair = Vec::new();
        wire::bytes_field(&mut pair, 1, name.as_bytes()); // LabelPair.name
        wire::bytes_field(&mut pair, 2, value.as_bytes()); // LabelPair.value
        wire::bytes_field(&mut encoded, 1, &pair); // RawProfileSeries.labels
    }
    let ingest_path = ingest_path(&labels);
    // Pods of a service are a few profiles apart, services further.
    let offset = pod * 7 + copy * 3;
    Target { labels, kind, offset, encoded, ingest_path }
}

/// `/ingest?format=pprof&name=SERVICE{NAME=VALUE,…}`, escaped where it must be.
fn ingest_path(labels: &[(String, String)]) -> String {
    let is_service = |name: &str| name == "service_name";
    let service = labels.iter().find(|(name, _)| is_service(name)).map_or("", |(_, value)| value);
    let others = labels.iter().filter(|(name, _)| !is_service(name) && name != "__name__");
    let others: Vec<String> = others.map(|(name, value)| format!("{name}={value}")).collect();
    let mut path = String::from("/ingest?format=pprof&name=");
    for byte in format!("{service}{{{}}}", others.join(",")).bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            write!(path, "%{byte:02X}").expect("a string takes all");
        }
    }
    path
}

#[cfg(test)]
mod tests;
