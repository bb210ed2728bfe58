//! Answers of the stand-in, worked out from the profiles it kept.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use proto::pprof::{Function, Line, Location, Profile, Sample, ValueType};
use proto::querier::{
    SelectMergeProfileRequest, SelectSeriesRequest, SelectSeriesResponse, SeriesRequest,
    SeriesResponse,
};
use proto::types::{LabelPair, Labels, Point, Series};

use super::Kept;

/// Answers a question; `None` for one that it does not know.
pub(super) fn answer(path: &str, body: &[u8], kept: &[Kept]) -> Option<Vec<u8>> {
    Some(match path.strip_prefix("/querier.v1.QuerierService/")? {
        "SelectMergeProfile" => {
            let asked = SelectMergeProfileRequest::decode(body).unwrap();
            let range = (asked.start, asked.end);
            merged(&sums(kept, &asked.label_selector, &asked.profile_type_id, range))
                .encode_to_vec()
        }
        "SelectSeries" => {
            let asked = SelectSeriesRequest::decode(body).unwrap();
            let range = (asked.start + 1, asked.end);
            let sums = sums(kept, &asked.label_selector, &asked.profile_type_id, range);
            let value = sums.values().sum::<i64>() as f64;
            let point = Point { value, timestamp: asked.end, ..Point::default() };
            let series = Series { points: vec![point], ..Series::default() };
            let series = if value > 0.0 { vec![series] } else { Vec::new() };
            SelectSeriesResponse { series }.encode_to_vec()
        }
        "Series" => {
            let asked = SeriesRequest::decode(body).unwrap();
            let found = |profile_type: &String| {
                let range = (asked.start, asked.end);
                !sums(kept, &asked.matchers[0], profile_type, range).is_empty()
            };
            let types: BTreeSet<String> = kept.iter().flat_map(types).collect();
            let label = |value| LabelPair { name: "__profile_type__".to_owned(), value };
            let labels_set =
                types.into_iter().filter(found).map(|value| Labels { labels: vec![label(value)] });
            SeriesResponse { labels_set: labels_set.collect() }.encode_to_vec()
        }
        _ => return None,
    })
}

fn types(kept: &Kept) -> Vec<String> {
    let text = |row: i64| &kept.profile.string_table[row as usize];
    let period = kept.profile.period_type.unwrap();
    let id = |t: &ValueType| {
        let (name, period) = (&kept.labels["__name__"], (text(period.r#type), text(period.unit)));
        format!("{name}:{}:{}:{}:{}", text(t.r#type), text(t.unit), period.0, period.1)
    };
    kept.profile.sample_type.iter().map(id).collect()
}

/// Values by the names of stacks, leaf first.
fn sums(
    kept: &[Kept],
    selector: &str,
    profile_type: &str,
    (start_ms, end_ms): (i64, i64),
) -> BTreeMap<Vec<String>, i64> {
    let mut sums = BTreeMap::new();
    for kept in kept {
        let ms = kept.profile.time_nanos.div_euclid(1_000_000);
        let column = types(kept).iter().position(|id| id == profile_type);
        let (Some(column), true) = (column, is_selected(kept, selector)) else { continue };
        if ms < start_ms || ms > end_ms {
            continue;
        }
        for sample in kept.profile.sample.iter().filter(|sample| sample.value[column] != 0) {
            let names = sample.location_id.iter().map(|id| name(&kept.profile, *id)).collect();
            *sums.entry(names).or_default() += sample.value[column];
        }
    }
    sums
}

fn is_selected(kept: &Kept, selector: &str) -> bool {
    let pairs = selector.strip_prefix('{').unwrap().strip_suffix('}').unwrap().split(',');
    pairs.filter(|pair| !pair.is_empty()).all(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        kept.labels.get(name).map_or("", String::as_str) == value.trim_matches('"')
    })
}

fn name(profile: &Profile, location: u64) -> String {
    let location = profile.location.iter().find(|l| l.id == location).unwrap();
    let id = location.line[0].function_id;
    let function = profile.function.iter().find(|function| function.id == id).unwrap();
    profile.string_table[function.name as usize].clone()
}

fn merged(sums: &BTreeMap<Vec<String>, i64>) -> Profile {
    let mut profile = Profile { string_table: vec![String::new()], ..Profile::default() };
    for (names, value) in sums {
        let mut stack = Vec::new();
        for name in names {
            let id = profile.string_table.len() as u64;
            profile.string_table.push(name.clone());
            let function = Function { id, name: id as i64, ..Function::default() };
            profile.function.push(function);
            let line = vec![Line { function_id: id, line: 0 }];
            profile.location.push(Location { id, line, ..Location::default() });
            stack.push(id);
        }
        profile.sample.push(Sample { location_id: stack, value: vec![*value], label: Vec::new() });
    }
    profile
}
