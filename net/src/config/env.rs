//! `${NAME}` in a configuration file (`-config.expand-env`), before it is read as YAML.
//!
//! Forms: `${NAME}` (empty where the variable is not set), `${NAME:-default}` and `${NAME:=default}` (also for an empty variable),
//! `${NAME-default}` and `${NAME=default}` (only for one that is not set), `${NAME:default}` (as Mimir and Cortex write it, also for an
//! empty one), and `$${` for a `${` that stays. A default is text; it ends at the first `}`. Any other form is an error, rather
//! than a value nobody meant.

use super::yaml::{DOCUMENT_BYTES_MAX, YamlError};

/// A text with its variables filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Line of the original, by line of `text` (from 0): a value may bring lines of its own.
    lines: Vec<u32>,
}

impl Expanded {
    /// A text without variables.
    pub(super) fn unchanged(text: String) -> Self {
        Self { text, lines: Vec::new() }
    }

    /// The line of the original that a line of the expanded text comes from; both from 1.
    pub(super) fn line(&self, expanded: u32) -> u32 {
        let index = (expanded as usize).saturating_sub(1);
        self.lines.get(index).or_else(|| self.lines.last()).copied().unwrap_or(expanded)
    }
}

/// Fills the variables in.
pub(super) fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded, YamlError> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), lines: vec![1] };
    let mut line = 1;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let is_escaped = rest[..at].ends_with('$');
        let before = if is_escaped { &rest[..at - 1] } else { &rest[..at] };
        expanded.push_original(before, &mut line);
        if is_escaped {
            expanded.text.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        let Some(length) = rest[at + 2..].find('}') else {
            return Err(YamlError::new(line, "a variable's ${ without its }"));
        };
        let reference = &rest[at + 2..at + 2 + length];
        let value = value(reference, variable).ok_or_else(|| {
            let form = "expected ${NAME}, ${NAME:-default} or ${NAME:default}";
            YamlError::new(line, format!("{form}, found ${{{reference}}}"))
        })?;
        expanded.push_value(&value, line);
        line += newlines(reference);
        rest = &rest[at + 2 + length + 1..];
        if expanded.text.len() > DOCUMENT_BYTES_MAX {
            return Err(YamlError::new(line, "the file is too large with its variables filled in"));
        }
    }
    expanded.push_original(rest, &mut line);
    Ok(expanded)
}

impl Expanded {
    fn push_original(&mut self, text: &str, line: &mut u32) {
        self.text.push_str(text);
        for _ in 0..newlines(text) {
            *line += 1;
            self.lines.push(*line);
        }
    }

    fn push_value(&mut self, value: &str, line: u32) {
        self.text.push_str(value);
        for _ in 0..newlines(value) {
            self.lines.push(line);
        }
    }
}

fn newlines(text: &str) -> u32 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u32
}

/// What a reference stands for; `None` when it has none of the forms.
fn value(reference: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = reference.find(|c| !is_part(c)).unwrap_or(reference.len());
    let (name, rest) = reference.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let set = variable(name);
    let (is_also_for_empty, default) = match rest.strip_prefix(':') {
        Some(default) => (true, default.strip_prefix(['-', '=']).unwrap_or(default)),
        None if rest.is_empty() => return Some(set.unwrap_or_default()),
        None => (false, rest.strip_prefix(['-', '='])?),
    };
    let set = set.filter(|value| !is_also_for_empty || !value.is_empty());
    Some(set.unwrap_or_else(|| default.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            "LINES" => Some("a\nb".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_stand_for_the_variable_or_their_default() {
        for (text, want) in [
            ("a: ${HOST}\n", "a: db\n"),
            ("${HOST}${HOST}", "dbdb"),
            ("${NONE}|${EMPTY}", "|"),
            ("${NONE:-x y}|${EMPTY:-x}|${HOST:-x}", "x y|x|db"),
            ("${NONE:=x}|${NONE=x}|${EMPTY=x}", "x|x|"),
            ("${NONE-x}|${EMPTY-x}|${NONE:-}", "x||"),
            ("${NONE:4040}|${EMPTY:4040}|${HOST:4040}|${NONE:}", "4040|4040|db|"),
            ("$HOST $5 $ {HOST} }", "$HOST $5 $ {HOST} }"),
            ("$${HOST}", "${HOST}"),
            ("ä${HOST}ö", "ädbö"),
        ] {
            assert_eq!(expand(text, &variable).unwrap().text, want, "{text}");
        }
    }

    #[test]
    fn other_forms_are_refused_with_their_line() {
        for (text, line) in [
            ("a\n${}", 2),
            ("${HOST", 1),
            ("a\n\n${HOST^^}", 3),
            ("${1A}", 1),
            ("${HOST/a/b}", 1),
            ("${ä}", 1),
        ] {
            assert_eq!(expand(text, &variable).unwrap_err().line, line, "{text}");
        }
    }

    #[test]
    fn lines_are_those_of_the_file_although_a_value_has_several() {
        let expanded = expand("x: ${LINES}\ny: ${NONE:-a\nb}\nz", &variable).unwrap();
        assert_eq!(expanded.text, "x: a\nb\ny: a\nb\nz");
        assert_eq!([1, 2, 3, 4, 5, 6].map(|line| expanded.line(line)), [1, 1, 2, 2, 4, 4]);
    }

    #[test]
    fn variables_cannot_make_a_file_endless() {
        let long = |_: &str| Some("x".repeat(DOCUMENT_BYTES_MAX / 2));
        assert!(expand("${A}${A}${A}", &long).is_err());
    }

    #[test]
    fn no_text_panics() {
        const PARTS: [&str; 10] = ["$", "{", "}", "HOST", ":", "-", "\n", "ä", "${", "LINES"];
        bolero::check!().with_type::<(String, Vec<u8>)>().for_each(|(text, picks)| {
            let _ = expand(text, &variable);
            let text: String =
                picks.iter().map(|pick| PARTS[*pick as usize % PARTS.len()]).collect();
            if let Ok(expanded) = expand(&text, &variable) {
                let lines = 1 + newlines(&expanded.text);
                assert!((1..=lines).all(|line| expanded.line(line) <= 1 + newlines(&text)));
            }
        });
    }
}
