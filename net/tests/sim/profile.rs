//! Profiles of the workload: each has a stack no other has, and one it shares.

use std::io::Write;

use bytes::Bytes;
use prost::Message;
use proto::pprof::{Function, Line, Location, Profile, Sample, ValueType};

/// Value columns: type, unit.
pub(crate) const COLUMNS: [(&str, &str); 2] = [("samples", "count"), ("cpu", "nanoseconds")];

/// Names of the frames of a stack, root first: the name of the service.
pub(crate) type Stack = Vec<String>;

/// What one profile adds to the totals: per stack one value a column.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// The stack that only this profile has.
    pub(crate) own: (Stack, [i64; 2]),
    /// The stack that others have too.
    pub(crate) shared: (Stack, [i64; 2]),
}

impl Content {
    /// Of a profile that needs no more than to be told from others.
    pub(crate) fn numbered(service: &str, number: usize) -> Self {
        let stack = |leaf: String| vec![service.to_owned(), leaf];
        let value = number as i64 + 1;
        Self {
            own: (stack(format!("own-{number}")), [value, 2 * value]),
            shared: (stack("shared".to_owned()), [1, 2]),
        }
    }
}

/// Labels of a series of the workload.
pub(crate) fn labels(service: &str, pod: &str) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![pair("__name__", "process_cpu"), pair("pod", pod), pair("service_name", service)]
}

/// How the message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Plain,
    Gzip,
    /// Cut in the middle: no profile at all.
    Cut,
}

pub(crate) fn encode(content: &Content, time_ms: i64, form: Form) -> Bytes {
    let mut profile = Profile {
        string_table: vec![String::new()],
        time_nanos: time_ms * 1_000_000,
        duration_nanos: 10_000_000_000,
        period: 10_000_000,
        ..Profile::default()
    };
    for (kind, unit) in COLUMNS {
        let column = value_type(&mut profile, kind, unit);
        profile.sample_type.push(column);
    }
    profile.period_type = Some(value_type(&mut profile, "cpu", "nanoseconds"));
    for (stack, values) in [&content.own, &content.shared] {
        let location_id = stack.iter().rev().map(|name| frame(&mut profile, name)).collect();
        profile.sample.push(Sample { location_id, value: values.to_vec(), label: Vec::new() });
    }
    let message = profile.encode_to_vec();
    match form {
        Form::Plain => message.into(),
        Form::Cut => message[..message.len() / 2].to_vec().into(),
        Form::Gzip => {
            let level = flate2::Compression::fast();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
            gzip.write_all(&message).expect("a vector takes any bytes");
            gzip.finish().expect("a vector takes any bytes").into()
        }
    }
}

fn text(profile: &mut Profile, text: &str) -> i64 {
    let known = profile.string_table.iter().position(|known| known == text);
    known.unwrap_or_else(|| {
        profile.string_table.push(text.to_owned());
        profile.string_table.len() - 1
    }) as i64
}

fn value_type(profile: &mut Profile, kind: &str, unit: &str) -> ValueType {
    ValueType { r#type: text(profile, kind), unit: text(profile, unit) }
}

/// The location of a function of that name; its id.
fn frame(profile: &mut Profile, name: &str) -> u64 {
    let name = text(profile, name);
    if let Some(known) = profile.function.iter().find(|function| function.name == name) {
        return known.id;
    }
    let id = profile.function.len() as u64 + 1;
    profile.function.push(Function { id, name, ..Function::default() });
    let line = vec![Line { function_id: id, line: 1 }];
    profile.location.push(Location { id, line, ..Location::default() });
    id
}
