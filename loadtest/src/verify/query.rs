//! The questions of a verification, over the public API in protobuf.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use prost::Message;
use proto::pprof::Profile;
use proto::procedure::Procedure;
use proto::querier::{
    SelectMergeProfileRequest, SelectSeriesRequest, SelectSeriesResponse, SeriesRequest,
    SeriesResponse,
};
use proto::types::LabelPair;

use super::oracle::Group;
use crate::client::{Address, Answer, Connection};

/// A question is asked so often: servers refuse them while they are busy.
const TRIES: u32 = 20;

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A range of time, both ends included, Unix milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    /// First.
    pub(super) start_ms: i64,
    /// Last.
    pub(super) end_ms: i64,
}

/// Asks one server.
#[derive(Debug)]
pub(super) struct Querier {
    address: Address,
    tenant: Option<String>,
    connection: Option<Connection>,
}

impl Querier {
    /// Connects when it is first asked.
    pub(super) fn new(address: &Address, tenant: Option<&str>) -> Self {
        Self { address: address.clone(), tenant: tenant.map(str::to_owned), connection: None }
    }

    /// The merged profile of everything selected.
    pub(super) fn merged(
        &mut self,
        selector: &str,
        profile_type: &str,
        range: Range,
    ) -> Result<Profile, String> {
        let request = SelectMergeProfileRequest {
            profile_type_id: profile_type.to_owned(),
            label_selector: selector.to_owned(),
            start: range.start_ms,
            end: range.end_ms,
            ..SelectMergeProfileRequest::default()
        };
        self.ask(Procedure::SelectMergeProfile, &request)
    }

    /// Sums of everything selected after the range's first millisecond, by the values of some labels.
    pub(super) fn totals(
        &mut self,
        selector: &str,
        profile_type: &str,
        group_by: &BTreeSet<String>,
        range: Range,
    ) -> Result<BTreeMap<Group, f64>, String> {
        // The first point tells of what is before the range, the second of the range.
        let request = SelectSeriesRequest {
            profile_type_id: profile_type.to_owned(),
            label_selector: selector.to_owned(),
            start: range.start_ms,
            end: range.end_ms,
            group_by: group_by.iter().cloned().collect(),
            // A little more than the range's milliseconds, so that no rounding makes it less.
            step: ((range.end_ms - range.start_ms) as f64 + 1e-4) / 1000.0,
            ..SelectSeriesRequest::default()
        };
        let answer: SelectSeriesResponse = self.ask(Procedure::SelectSeries, &request)?;
        let sum = |series: proto::types::Series| {
            let points = series.points.iter().filter(|point| point.timestamp > range.start_ms);
            (group(series.labels.clone()), points.map(|point| point.value).sum())
        };
        Ok(answer.series.into_iter().map(sum).collect())
    }

    /// Label sets of everything selected, restricted to some names.
    pub(super) fn series(
        &mut self,
        selector: &str,
        names: &BTreeSet<String>,
        range: Range,
    ) -> Result<BTreeSet<Group>, String> {
        let request = SeriesRequest {
            matchers: vec![selector.to_owned()],
            label_names: names.iter().cloned().collect(),
            start: range.start_ms,
            end: range.end_ms,
        };
        let answer: SeriesResponse = self.ask(Procedure::Series, &request)?;
        Ok(answer.labels_set.into_iter().map(|set| group(set.labels)).collect())
    }

    fn ask<A: Message + Default>(
        &mut self,
        procedure: Procedure,
        request: &impl Message,
    ) -> Result<A, String> {
        let body = request.encode_to_vec();
        let mut said = String::new();
        for _ in 0..TRIES {
            match self.exchange(procedure.path(), &body) {
                Ok(Answer { status: 200, body }) => {
                    return A::decode(body.as_slice())
                        .map_err(|error| format!("{}: {error}", procedure.path()));
                }
                Ok(answer) => {
                    said = format!("{}: {}", answer.status, answer.text());
                    if !matches!(answer.status, 429 | 503) {
                        break;
                    }
                }
                Err(error) => said = error.to_string(),
            }
            std::thread::sleep(PAUSE);
        }
        Err(format!("{}: {said}", procedure.path()))
    }

    fn exchange(&mut self, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        let mut connection = match self.connection.take().filter(|open| !open.is_closed()) {
            Some(connection) => connection,
            None => Connection::open(&self.address, self.tenant.as_deref())?,
        };
        let answer = connection.post(path, "application/proto", &[body])?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// A selector of exactly these labels; of an empty value, of series without the label.
pub(super) fn selector<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (name, value) in labels {
        if text.len() > 1 {
            text.push(',');
        }
        let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|letter: char| letter.is_ascii_digit());
        if is_plain {
            text.push_str(name);
        } else {
            quote(&mut text, name);
        }
        text.push('=');
        quote(&mut text, value);
    }
    text + "}"
}

fn quote(out: &mut String, value: &str) {
    out.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control.is_control() => {
                write!(out, "\\u{:04x}", u32::from(control)).expect("a string takes all");
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn group(labels: Vec<LabelPair>) -> Group {
    labels.into_iter().map(|pair| (pair.name, pair.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_quotes_what_is_not_plain() {
        let labels = [("a_1", "x"), ("a.b", "say \"\\\"\n"), ("1a", "")];
        assert_eq!(selector(labels.into_iter()), r#"{a_1="x","a.b"="say \"\\\"\u000a","1a"=""}"#);
    }
}
