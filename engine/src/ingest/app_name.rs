//! The `name` parameter: an application name with labels, `app.name{key=value,key2=value2}`.
//!
//! Values are not quoted: they reach up to the next `,` or `}`, blanks around names and values are dropped.

use std::collections::BTreeMap;

use crate::labels::{Quoted, name};

/// A name that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AppName {
    /// What stands before the brace, or the value of a `__name__` key.
    pub app: String,
    /// The labels; of equal names the last stays.
    pub labels: BTreeMap<String, String>,
}

/// Why a `name` was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing before the brace.
    #[error("service name is required")]
    ServiceNameRequired,
    /// A character that no application name has.
    #[error("invalid service name: {name}: character is not allowed: {}", quoted(*character))]
    ServiceName {
        /// The refused name.
        name: String,
        /// Its first such character.
        character: char,
    },
    /// `{=value}`.
    #[error("label name is required")]
    LabelNameRequired,
    /// A character that no label name has here.
    #[error("invalid label name: {name}: character is not allowed: {}", quoted(*character))]
    LabelName {
        /// The refused name.
        name: String,
        /// Its first such character.
        character: char,
    },
    /// `{key}`: Pyroscope drops it without a word.
    #[error("label has no value: {0}")]
    NoValue(String),
    /// Text behind the closing brace: a value with a brace inside would lose its end.
    #[error("unexpected text behind the labels: {0}")]
    Trailing(String),
    /// The label at the end would be lost.
    #[error("labels are not closed with '}}': {0}")]
    NotClosed(String),
}

impl AppName {
    /// Reads a decoded `name`.
    pub(super) fn parse(text: &str) -> Result<Self, NameError> {
        let (app, labels) = text.split_once('{').unwrap_or((text, ""));
        let app = app.trim();
        check_app(app)?;
        let mut parsed = Self { app: app.to_owned(), labels: parse_labels(labels)? };
        if let Some(replaced) = parsed.labels.remove(name::NAME) {
            parsed.app = replaced;
        }
        Ok(parsed)
    }
}

fn check_app(app: &str) -> Result<(), NameError> {
    if app.is_empty() {
        return Err(NameError::ServiceNameRequired);
    }
    let foreign = |c: &char| !(is_label_name_char(*c) || matches!(c, '-' | '/'));
    app.chars()
        .find(foreign)
        .map_or(Ok(()), |character| Err(NameError::ServiceName { name: app.to_owned(), character }))
}

fn check_label_name(key: &str) -> Result<(), NameError> {
    if key.is_empty() {
        return Err(NameError::LabelNameRequired);
    }
    key.chars()
        .find(|c| !is_label_name_char(*c))
        .map_or(Ok(()), |character| Err(NameError::LabelName { name: key.to_owned(), character }))
}

fn is_label_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

/// `labels` is what follows the opening brace.
fn parse_labels(labels: &str) -> Result<BTreeMap<String, String>, NameError> {
    let mut parsed = BTreeMap::new();
    let mut rest = labels;
    loop {
        let Some(key_end) = rest.find(['=', '}']) else {
            return if rest.trim().is_empty() {
                Ok(parsed)
            } else {
                Err(NameError::NotClosed(rest.trim().to_owned()))
            };
        };
        let key = rest[..key_end].trim();
        if rest.as_bytes()[key_end] == b'}' {
            if !key.is_empty() {
                return Err(NameError::NoValue(key.to_owned()));
            }
            return end_of_labels(&rest[key_end + 1..]).map(|()| parsed);
        }
        check_label_name(key)?;
        rest = &rest[key_end + 1..];
        let Some(value_end) = rest.find([',', '}']) else {
            return Err(NameError::NotClosed(key.to_owned()));
        };
        parsed.insert(key.to_owned(), rest[..value_end].trim().to_owned());
        let closed = rest.as_bytes()[value_end] == b'}';
        rest = &rest[value_end + 1..];
        if closed {
            return end_of_labels(rest).map(|()| parsed);
        }
    }
}

fn end_of_labels(tail: &str) -> Result<(), NameError> {
    let tail = tail.trim();
    if tail.is_empty() { Ok(()) } else { Err(NameError::Trailing(tail.to_owned())) }
}

/// A character as Go's `%q` prints it.
fn quoted(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        _ => {
            let text = Quoted(&c.to_string()).to_string();
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, Vec<(String, String)>), String> {
        AppName::parse(text)
            .map(|name| (name.app, name.labels.into_iter().collect()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_application_name_may_carry_labels() {
        type Labels = [(&'static str, &'static str)];
        let cases: [(&str, &str, &Labels); 12] = [
            ("app", "app", &[]),
            ("app{}", "app", &[]),
            ("app{", "app", &[]),
            (" my.app/x-1 { }", "my.app/x-1", &[]),
            ("app{a=1}", "app", &[("a", "1")]),
            ("app{b=2,a=1}", "app", &[("a", "1"), ("b", "2")]),
            (" app { a = 1 , b = x y } ", "app", &[("a", "1"), ("b", "x y")]),
            ("app{a=1,}", "app", &[("a", "1")]),
            ("app{a=}", "app", &[("a", "")]),
            ("app{a=1,a=2}", "app", &[("a", "2")]),
            ("app{url=http://h/?q=1}", "app", &[("url", "http://h/?q=1")]),
            ("app{__name__=other,otel.scope.name=x}", "other", &[("otel.scope.name", "x")]),
        ];
        for (text, app, labels) in cases {
            let labels: Vec<_> =
                labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(parsed(text), Ok((app.to_owned(), labels)), "{text}");
        }
    }

    #[test]
    fn a_name_that_would_lose_something_is_refused_in_words() {
        let cases = [
            ("", "service name is required"),
            ("  {a=1}", "service name is required"),
            ("a b%c{x=y}", "invalid service name: a b%c: character is not allowed: ' '"),
            ("a'b", "invalid service name: a'b: character is not allowed: '\\''"),
            ("é", "invalid service name: é: character is not allowed: 'é'"),
            ("a\u{1}", "invalid service name: a\u{1}: character is not allowed: '\\x01'"),
            ("app{=1}", "label name is required"),
            ("app{a-b=1}", "invalid label name: a-b: character is not allowed: '-'"),
            ("app{a=1,,b=2}", "invalid label name: ,b: character is not allowed: ','"),
            ("app{x}", "label has no value: x"),
            ("app{a=1}b", "unexpected text behind the labels: b"),
            ("app{p=/a}b,c=d}", "unexpected text behind the labels: b,c=d}"),
            ("app{a=1", "labels are not closed with '}': a"),
            ("app{a=1,b", "labels are not closed with '}': b"),
        ];
        for (text, error) in cases {
            assert_eq!(parsed(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused() {
        bolero::check!().with_type().for_each(|text: &String| {
            if let Ok(name) = AppName::parse(text) {
                assert!(name.labels.len() <= text.len(), "every label has its text");
                assert!(!name.labels.contains_key(name::NAME), "the app name is no label");
            }
        });
    }
}
