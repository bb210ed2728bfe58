//! How a record holds the decisions of an [`Admission`].
//!
//! Outcomes are packed four to a byte (almost always: one byte for a whole profile), the label sets of relabelled ones follow.
//! So a body never makes the reader allocate more than a small multiple of its own length.

use super::RecordError;
use super::field::{Cursor, put_text, put_varint, text_len, varint_len};
use crate::labels::LabelSet;
use crate::profile::{Admission, Outcome, PIPELINE_VERSION};

/// Bit of the flags byte: truncated Go stacks were mended.
const FLAG_GO_FIXES: u8 = 1;

const TAG_PLAIN: u8 = 0;
const TAG_DROPPED: u8 = 1;
const TAG_RELABELLED: u8 = 2;
/// Outcomes in one byte, two bits each, the first in the lowest bits.
const TAGS_PER_BYTE: usize = 4;

pub(super) fn admission_len(admission: &Admission) -> usize {
    let relabelled: usize = relabelled(&admission.outcomes).map(labels_len).sum();
    varint_len(admission.pipeline_version.into())
        + size_of::<i64>()
        + varint_len(admission.stacktrace_depth_max.into())
        + varint_len(admission.symbol_bytes_max.into())
        + 1
        + labels_len(&admission.labels)
        + varint_len(admission.outcomes.len() as u64)
        + admission.outcomes.len().div_ceil(TAGS_PER_BYTE)
        + relabelled
}

pub(super) fn put_admission(into: &mut Vec<u8>, admission: &Admission) {
    put_varint(into, admission.pipeline_version.into());
    into.extend_from_slice(&admission.time_ns.to_le_bytes());
    put_varint(into, admission.stacktrace_depth_max.into());
    put_varint(into, admission.symbol_bytes_max.into());
    into.push(if admission.go_fixes { FLAG_GO_FIXES } else { 0 });
    put_labels(into, &admission.labels);
    put_varint(into, admission.outcomes.len() as u64);
    for outcomes in admission.outcomes.chunks(TAGS_PER_BYTE) {
        let tags = outcomes.iter().enumerate().map(|(i, outcome)| tag(outcome) << (2 * i));
        into.push(tags.fold(0, |byte, tag| byte | tag));
    }
    for labels in relabelled(&admission.outcomes) {
        put_labels(into, labels);
    }
}

pub(super) fn read_admission(cursor: &mut Cursor<'_>) -> Result<Admission, RecordError> {
    let at = cursor.at();
    let pipeline_version = u16::try_from(cursor.varint("pipeline version")?)
        .map_err(|_| RecordError::Varint { field: "pipeline version", at })?;
    if pipeline_version > PIPELINE_VERSION {
        return Err(RecordError::Pipeline { found: pipeline_version });
    }
    let time_ns = i64::from_le_bytes(cursor.array("profile time")?);
    let stacktrace_depth_max = cursor.varint_u32("stack depth limit")?;
    let symbol_bytes_max = cursor.varint_u32("symbol length limit")?;
    let at = cursor.at();
    let [flags] = cursor.array("admission flags")?;
    if flags & !FLAG_GO_FIXES != 0 {
        return Err(RecordError::Invalid { field: "admission flags", at });
    }
    let labels = read_labels(cursor)?;
    let outcomes = read_outcomes(cursor)?;
    Ok(Admission {
        pipeline_version,
        time_ns,
        stacktrace_depth_max,
        symbol_bytes_max,
        go_fixes: flags & FLAG_GO_FIXES != 0,
        labels,
        outcomes,
    })
}

fn read_outcomes(cursor: &mut Cursor<'_>) -> Result<Vec<Outcome>, RecordError> {
    let field = "outcomes";
    let at = cursor.at();
    let count = cursor.varint(field)?;
    let count = usize::try_from(count).map_err(|_| RecordError::Varint { field, at })?;
    let tags_at = cursor.at();
    let tags = cursor.take(count.div_ceil(TAGS_PER_BYTE), field)?;
    (0..count)
        .map(|i| match tags[i / TAGS_PER_BYTE] >> (2 * (i % TAGS_PER_BYTE)) & 3 {
            TAG_PLAIN => Ok(Outcome::Plain),
            TAG_DROPPED => Ok(Outcome::Dropped),
            TAG_RELABELLED => Ok(Outcome::Relabelled(read_labels(cursor)?)),
            _ => Err(RecordError::Invalid { field, at: tags_at + i / TAGS_PER_BYTE }),
        })
        .collect()
}

fn tag(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Plain => TAG_PLAIN,
        Outcome::Dropped => TAG_DROPPED,
        Outcome::Relabelled(_) => TAG_RELABELLED,
    }
}

fn relabelled(outcomes: &[Outcome]) -> impl Iterator<Item = &LabelSet> {
    outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Relabelled(labels) => Some(labels),
        Outcome::Plain | Outcome::Dropped => None,
    })
}

fn labels_len(labels: &LabelSet) -> usize {
    let pairs: usize = labels.iter().map(|(name, value)| text_len(name) + text_len(value)).sum();
    varint_len(labels.len() as u64) + pairs
}

fn put_labels(into: &mut Vec<u8>, labels: &LabelSet) {
    put_varint(into, labels.len() as u64);
    for (name, value) in labels.iter() {
        put_text(into, name);
        put_text(into, value);
    }
}

fn read_labels(cursor: &mut Cursor<'_>) -> Result<LabelSet, RecordError> {
    let field = "labels";
    let at = cursor.at();
    let count = cursor.varint(field)?;
    // A pair takes two bytes at least, so a count beyond that is a lie and reserves nothing.
    if count > (cursor.left() / 2) as u64 {
        return Err(RecordError::Short { field, at, left: cursor.left() });
    }
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let at = cursor.at();
        let name = cursor.text("label name")?;
        if pairs.last().is_some_and(|(last, _)| last.as_str() >= name) {
            return Err(RecordError::Invalid { field: "label name", at });
        }
        pairs.push((name.to_owned(), cursor.text("label value")?.to_owned()));
    }
    Ok(LabelSet::from_pairs(pairs))
}
