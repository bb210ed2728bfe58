//! What the labels of a series must be to be taken: the checks, texts and order of api.md §1.4.

use proto::rpc::{Code, Failure};

use super::{LabelSet, name};
use crate::limits::Limits;

/// `reason` of labels that are not legal.
const INVALID_LABELS: &str = "invalid_labels";

/// `reason` of labels that are absent.
const MISSING_LABELS: &str = "missing_labels";

/// Checks the labels that a series will be stored under.
///
/// Any UTF-8 text is a label name, a metric name and a label value, so that only empty names are refused.
pub fn validate(labels: &LabelSet, limits: &Limits) -> Result<(), Failure> {
    if labels.is_empty() {
        let message = "error at least one label pair is required per profile".to_owned();
        return Err(refused(MISSING_LABELS, message));
    }
    let (count, count_max) = (labels.len(), limits.max_label_names_per_series);
    if count > count_max {
        return Err(refused(
            "max_label_names_per_series",
            format!("profile series '{labels}' has {count} label names; limit {count_max}"),
        ));
    }
    if labels.get(name::NAME).is_none_or(str::is_empty) {
        let message = format!("invalid labels '{labels}' with error: invalid metric name");
        return Err(refused(INVALID_LABELS, message));
    }
    if labels.get(name::SERVICE_NAME).is_none_or(str::is_empty) {
        let message = format!("invalid labels '{labels}' with error: service name is not provided");
        return Err(refused(MISSING_LABELS, message));
    }
    for (name, value) in labels.iter() {
        if name.len() > limits.max_label_name_length {
            return Err(refused(
                "label_name_too_long",
                format!("profile with labels '{labels}' has label name too long: '{name}'"),
            ));
        }
        if value.len() > limits.max_label_value_length {
            return Err(refused(
                "label_value_too_long",
                format!("profile with labels '{labels}' has label value too long: '{value}'"),
            ));
        }
        if name.is_empty() {
            let message = format!("invalid labels '{labels}' with error: invalid label name ''");
            return Err(refused(INVALID_LABELS, message));
        }
    }
    Ok(())
}

fn refused(reason: &'static str, message: String) -> Failure {
    Failure::new(Code::InvalidArgument, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(pairs: &[(&str, &str)]) -> (&'static str, String) {
        let pairs = pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        let limits = Limits {
            max_label_names_per_series: 3,
            max_label_name_length: 20,
            max_label_value_length: 12,
            ..Limits::default()
        };
        let failure = validate(&LabelSet::from_pairs(pairs), &limits).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument);
        (failure.reason, failure.message)
    }

    #[test]
    fn labels_are_refused_with_the_texts_of_pyroscope() {
        let series = [("__name__", "process_cpu"), ("service_name", "e")];
        let text = r#"{__name__="process_cpu", service_name="e""#;
        for (pairs, reason, message) in [
            (vec![], "missing_labels", "error at least one label pair is required per profile".to_owned()),
            (
                vec![("service_name", "e")],
                "invalid_labels",
                r#"invalid labels '{service_name="e"}' with error: invalid metric name"#.to_owned(),
            ),
            (
                vec![("__name__", "process_cpu")],
                "missing_labels",
                r#"invalid labels '{__name__="process_cpu"}' with error: service name is not provided"#.to_owned(),
            ),
            (
                [&series[..], &[("a", "1"), ("b", "2")]].concat(),
                "max_label_names_per_series",
                r#"profile series '{__name__="process_cpu", a="1", b="2", service_name="e"}' has 4 label names; limit 3"#.to_owned(),
            ),
            (
                [&series[..], &[("x_23456789_123456789_", "1")]].concat(),
                "label_name_too_long",
                format!(r#"profile with labels '{text}, x_23456789_123456789_="1"}}' has label name too long: 'x_23456789_123456789_'"#),
            ),
            (
                [&series[..], &[("x", "1234567890123")]].concat(),
                "label_value_too_long",
                format!(r#"profile with labels '{text}, x="1234567890123"}}' has label value too long: '1234567890123'"#),
            ),
            (
                [&series[..], &[("", "1")]].concat(),
                "invalid_labels",
                r#"invalid labels '{="1", __name__="process_cpu", service_name="e"}' with error: invalid label name ''"#.to_owned(),
            ),
        ] {
            assert_eq!(refusal(&pairs), (reason, message));
        }
    }
}
