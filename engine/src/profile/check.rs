//! What a decoded profile must be to be taken: the checks, texts and order of api.md §1.4.
//!
//! The order is the one clients see: window, samples, labels of a sample, ids, values, string references, sample type names,
//! UTF-8. (The size is enforced while inflating; stacks and symbols are cut while decoding.) A replayed profile is checked for
//! its structure only: what a limit decides was decided when it was pushed.

use std::fmt::Write as _;

use proto::rpc::{Code, Failure};

use super::Profile;
use super::decode::Facts;
use super::time::format_time_ms;
use crate::labels::LabelSet;
use crate::limits::Limits;

/// `reason` of profiles that are no valid pprof.
pub(super) const MALFORMED: &str = "malformed_profile";

/// Sample types of one profile: far above any profiler's (.NET sends 6), and what keeps series per profile countable.
const SAMPLE_TYPES_MAX: usize = 256;

/// A refusal that is the client's to mend.
pub(super) fn refused(reason: &'static str, message: String) -> Failure {
    Failure::new(Code::InvalidArgument, reason, message)
}

fn malformed(message: &str) -> Failure {
    refused(MALFORMED, message.to_owned())
}

/// What the limits are held against.
#[derive(Debug)]
pub(super) struct Pushed<'a> {
    pub(super) limits: &'a Limits,
    /// Labels as pushed, for the texts.
    pub(super) labels: &'a LabelSet,
    /// The profile's own time; 0 where none was sent.
    pub(super) time_ns: i64,
    pub(super) now_ms: i64,
}

/// All checks; `pushed` is absent for a replayed profile.
pub(super) fn check(
    profile: &Profile,
    facts: &Facts,
    pushed: Option<&Pushed<'_>>,
) -> Result<(), Failure> {
    if profile.sample_types.is_empty() {
        return Err(malformed("empty profile"));
    }
    if profile.sample_types.len() > SAMPLE_TYPES_MAX {
        let count = profile.sample_types.len();
        let message = format!("profile has {count} sample types; limit {SAMPLE_TYPES_MAX}");
        return Err(refused(MALFORMED, message));
    }
    if let Some(pushed) = pushed {
        check_limits(profile, facts, pushed)?;
    }
    check_ids(facts)?;
    let values_count = profile.sample_types.len() as u32;
    if facts.values_differ || facts.values_of_first.is_some_and(|count| count != values_count) {
        return Err(malformed("sample value length mismatch"));
    }
    check_strings(profile, facts)
}

fn check_limits(profile: &Profile, facts: &Facts, pushed: &Pushed<'_>) -> Result<(), Failure> {
    if pushed.time_ns > 0 {
        check_window(pushed)?;
    }
    let Pushed { limits, labels, .. } = pushed;
    let (samples, samples_max) = (profile.samples_count(), limits.max_profile_stacktrace_samples);
    if samples_max != 0 && samples > samples_max {
        return Err(refused(
            "samples_limit",
            format!(
                "the profile with labels '{labels}' exceeds the samples count limit \
                 (max_profile_stacktrace_samples, actual: {samples}, limit: {samples_max})"
            ),
        ));
    }
    if let Some(labels_count) = facts.sample_labels_over {
        let labels_max = limits.max_profile_stacktrace_sample_labels;
        return Err(refused(
            "sample_labels_limit",
            format!(
                "the profile with labels '{labels}' exceeds the sample labels limit \
                 (max_profile_stacktrace_sample_labels, actual: {labels_count}, limit: {labels_max})"
            ),
        ));
    }
    Ok(())
}

/// The window is open at both ends: a time on its edge is outside.
fn check_window(pushed: &Pushed<'_>) -> Result<(), Failure> {
    let Pushed { limits, labels, time_ns, now_ms } = pushed;
    let time_ms = time_ns / 1_000_000;
    let edge = |distance_ms: i64, edge_ms: i64| (distance_ms != 0).then_some(edge_ms);
    let from =
        edge(limits.reject_older_than_ms, now_ms.saturating_sub(limits.reject_older_than_ms));
    let to = edge(limits.reject_newer_than_ms, now_ms.saturating_add(limits.reject_newer_than_ms));
    if from.is_none_or(|from| time_ms > from) && to.is_none_or(|to| time_ms < to) {
        return Ok(());
    }
    let window = match (from.map(format_time_ms), to.map(format_time_ms)) {
        (Some(from), None) => format!("starts at {from}"),
        (None, Some(to)) => format!("ends at {to}"),
        (from, to) => {
            format!("starts at {} and ends at {}", from.unwrap_or_default(), to.unwrap_or_default())
        }
    };
    Err(refused(
        "not_in_ingestion_window",
        format!(
            "profile with labels '{labels}' is outside of ingestion window \
             (profile timestamp: {}, the ingestion window {window})",
            format_time_ms(time_ms)
        ),
    ))
}

fn check_ids(facts: &Facts) -> Result<(), Failure> {
    if facts.location_ids.contains(&0) {
        return Err(malformed("location id is 0"));
    }
    if facts.function_ids.contains(&0) {
        return Err(malformed("function id is 0"));
    }
    Ok(())
}

fn check_strings(profile: &Profile, facts: &Facts) -> Result<(), Failure> {
    let count = profile.strings.len() as u32;
    if count == 0 || facts.string_zero_is_not_empty {
        return Err(malformed("string 0 should be empty string"));
    }
    if profile.sample_types.iter().any(|t| t.kind >= count) {
        return Err(malformed("sample type type string index out of range"));
    }
    if facts.label_string_max >= count {
        return Err(malformed("sample label string index out of range"));
    }
    for function in &profile.functions {
        if function.name >= count {
            return Err(malformed("function name string index out of range"));
        }
        if function.system_name >= count {
            return Err(malformed("function system name index string out of range"));
        }
        if function.filename >= count {
            return Err(malformed("function file name string index out of range"));
        }
    }
    for mapping in &profile.mappings {
        if mapping.filename >= count {
            return Err(malformed("mapping file name string index out of range"));
        }
        if mapping.build_id >= count {
            return Err(malformed("mapping build id string index out of range"));
        }
    }
    if profile.sample_types.iter().any(|t| profile.string_bytes(t.kind).contains(&b'-')) {
        return Err(malformed("sample type contains -"));
    }
    if let Some(row) = facts.utf8_invalid {
        let mut message = "invalid utf8 string hex: ".to_owned();
        for byte in &profile.bytes[row.start as usize..(row.start + row.len) as usize] {
            write!(message, "{byte:02x}").expect("a String takes any text");
        }
        return Err(refused(MALFORMED, message));
    }
    Ok(())
}
