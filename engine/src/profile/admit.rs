//! Under which labels a profile is stored: the last decisions before the log.
//!
//! ```text
//! labels as pushed ─► __name__ by the sample types (/ingest) ─► session, default relabelling ─► ∪ group ─► checked
//!                                                                                                 └─► + derived = series
//! ```
//! The default relabelling rules see the labels that were pushed, as in Pyroscope 2.2: `__type__` decides only where a client
//! sends that label, and what a sample is labelled with changes no name.

use proto::rpc::Failure;
use proto::rpc::append::IngestNaming;

use super::check::refused;
use super::normalise::Grouper;
use super::{Admission, Outcome, Profile, ValueType};
use crate::labels::{LabelSet, name, validate};
use crate::limits::Limits;

/// Series one profile may make: its groups times its columns. A profile within the limits makes a few dozen; each costs a
/// decision in the log and, when it is new, an entry in the head.
const SERIES_PER_PROFILE_MAX: usize = 1 << 16;

/// Cost of a group in units of [`super::intake`]'s budget, nanoseconds.
const GROUP_COST: i64 = 100;

const GODELTAPROF: &str = "godeltaprof_";

/// `__name__` of an upload by its sample types (api.md §1.1.5).
pub(super) fn name_of_ingest<'a>(profile: &'a Profile, naming: &'a IngestNaming) -> &'a str {
    let sample_types = || profile.sample_types.iter().map(|t| profile.string(t.kind));
    if sample_types().any(|kind| kind == "wall") {
        return "wall";
    }
    let mut last = "";
    for kind in sample_types() {
        last = naming
            .display_names
            .iter()
            .find(|(sample_type, display)| sample_type == kind && !display.is_empty())
            .map_or(kind, |(_, display)| display);
        if last.contains("cpu") {
            return "process_cpu";
        }
        let memory = ["alloc_", "inuse_"].iter().any(|part| last.contains(part));
        if memory || last == "space" || last == "objects" {
            return "memory";
        }
        for (part, name) in [("mutex_", "mutex"), ("block_", "block"), ("goroutines", "goroutines")]
        {
            if last.contains(part) {
                return name;
            }
        }
    }
    last
}

/// The series labels that admission leaves: without empty values and sessions, relabelled by the default rules.
pub(super) fn admitted_labels(pushed: &LabelSet, limits: &Limits) -> LabelSet {
    let pairs = pushed.pairs().iter().filter(|(_, value)| !value.is_empty());
    let mut labels = LabelSet::from_pairs(pairs.cloned().collect());
    if let Some(session) = labels.remove(name::SESSION_ID)
        && let Some(reduced) = reduce_session(&session, limits.max_sessions_per_series)
    {
        labels.set(name::SESSION_ID, reduced);
    }
    relabel(&mut labels);
    labels
}

/// A session id, 8 bytes in hex, modulo the number of sessions that a series may have; `None` removes it.
fn reduce_session(session: &str, sessions_max: usize) -> Option<String> {
    if sessions_max == 0 || session.len() != 16 || !session.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let id = u64::from_str_radix(session, 16).ok()?.swap_bytes();
    // Pyroscope divides a signed number; the remainder has its sign.
    let reduced = id.cast_signed() % i64::try_from(sessions_max).unwrap_or(i64::MAX);
    Some(format!("{:016x}", reduced.cast_unsigned().swap_bytes()))
}

fn relabel(labels: &mut LabelSet) {
    let profile_name = labels.get(name::NAME).unwrap_or_default().to_owned();
    if let Some(rest) = profile_name.strip_prefix(GODELTAPROF) {
        labels.set(name::NAME_REPLACED, profile_name.as_str());
        labels.set(name::DELTA, "false");
        if rest.is_empty() {
            labels.remove(name::NAME);
        } else {
            labels.set(name::NAME, rest);
        }
    }
    if labels.get(name::NAME) == Some("wall") && labels.get(name::TYPE) == Some("cpu") {
        labels.set(name::NAME_REPLACED, "wall");
        labels.set(name::NAME, "process_cpu");
    }
}

/// Decides (group, column) by (group, column), resumably; the number of decided groups is in `outcomes`.
pub(super) fn decide(
    profile: &Profile,
    grouper: &Grouper,
    labels: &LabelSet,
    limits: Option<&Limits>,
    outcomes: &mut Vec<Outcome>,
    budget: &mut i64,
) -> Result<bool, Failure> {
    let (groups, columns) = (profile.groups_count(), profile.sample_types.len());
    if outcomes.is_empty() {
        if groups * columns > SERIES_PER_PROFILE_MAX {
            let message = format!(
                "profile makes {} series; limit {SERIES_PER_PROFILE_MAX}",
                groups * columns
            );
            return Err(refused("series_limit", message));
        }
        outcomes.reserve_exact(groups * columns);
    }
    let limits = limits.map(|limits| (limits, validate(labels, limits).is_ok()));
    for group in outcomes.len() / columns..groups {
        if *budget <= 0 {
            return Ok(false);
        }
        *budget -= GROUP_COST + 10 * columns as i64;
        if let Some((limits, series_is_legal)) = limits
            && !(series_is_legal && group_is_legal(profile, group, labels, limits))
        {
            validate(&with_group(profile, group, labels), limits)?;
        }
        let outcome = |column| {
            if grouper.has_values(group, column, columns) {
                Outcome::Plain
            } else {
                Outcome::Dropped
            }
        };
        outcomes.extend((0..columns).map(outcome));
    }
    Ok(true)
}

/// Whether a group's labels break nothing, when those of the series do not; a `false` has to be looked at closely.
fn group_is_legal(profile: &Profile, group: usize, labels: &LabelSet, limits: &Limits) -> bool {
    let group = profile.labels_of_group(group);
    labels.len() + group.len() <= limits.max_label_names_per_series
        && group.iter().all(|label| {
            let len = |row: u32| profile.strings[row as usize].len as usize;
            (1..=limits.max_label_name_length).contains(&len(label.key))
                && len(label.value) <= limits.max_label_value_length
        })
}

/// Labels of the series ∪ those of the group; series labels win.
fn with_group(profile: &Profile, group: usize, labels: &LabelSet) -> LabelSet {
    let mut labels = labels.clone();
    for label in profile.labels_of_group(group) {
        let name = profile.string(label.key);
        if labels.get(name).is_none() {
            labels.set(name, profile.string(label.value));
        }
    }
    labels
}

/// The labels a series is stored under: those admitted, those of the group, and what the column says (api.md §1.3.1).
///
/// `outcome` is the one of (group, column). Allocates; for series that are new.
pub fn series_labels(
    profile: &Profile,
    admission: &Admission,
    group: usize,
    column: usize,
    outcome: &Outcome,
) -> LabelSet {
    let mut labels = match outcome {
        Outcome::Relabelled(labels) => labels.clone(),
        Outcome::Plain | Outcome::Dropped => with_group(profile, group, &admission.labels),
    };
    for name in [name::DELTA, name::ORDER, name::OTEL] {
        labels.remove(name);
    }
    let text = |labels: &LabelSet, name| labels.get(name).unwrap_or_default().to_owned();
    let service_name = text(&labels, name::SERVICE_NAME);
    let profile_name = text(&labels, name::NAME);
    let ValueType { kind, unit } = profile.sample_types[column];
    let (kind, unit) = (profile.string(kind), profile.string(unit));
    let period = profile.period_type.map(|t| (profile.string(t.kind), profile.string(t.unit)));
    let mut derive = |name: &str, value: &str| {
        if value.is_empty() {
            labels.remove(name);
        } else {
            labels.set(name, value);
        }
    };
    if !service_name.is_empty() {
        derive(name::SERVICE_NAME_PRIVATE, &service_name);
    }
    if let Some((period_type, period_unit)) = period {
        derive(name::PERIOD_TYPE, period_type);
        derive(name::PERIOD_UNIT, period_unit);
    }
    derive(name::TYPE, kind);
    derive(name::UNIT, unit);
    let (period_type, period_unit) = period.unwrap_or_default();
    derive(
        name::PROFILE_TYPE,
        &format!("{profile_name}:{kind}:{unit}:{period_type}:{period_unit}"),
    );
    labels
}

#[cfg(test)]
mod tests;
