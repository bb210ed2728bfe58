//! One condition on a label, as PromQL means it: an absent label is the empty value, a pattern matches the whole value.

use proto::rpc::select::{MatchOp, MatcherText};
use regex::{Regex, RegexBuilder};

/// Compiled size of one pattern, bytes. A few thousand alternatives of ordinary length fit; compiling to this size takes about
/// a millisecond, which is what one step of a query may take. (Alternatives without metacharacters compile to nothing.)
const PATTERN_COMPILED_BYTES_MAX: usize = 512 << 10;

/// Longest pattern, bytes.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// A matcher ready to be asked.
#[derive(Clone, Debug)]
pub struct Matcher {
    text: MatcherText,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    /// The value itself.
    Literal,
    /// One of these, sorted: a pattern that is an alternation of plain texts, as pickers of values make it.
    OneOf(Vec<String>),
    /// Anything else.
    Pattern(Regex),
}

/// Why a pattern is not usable.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// Not a regular expression of RE2's kind.
    #[error("error parsing regexp: {reason}: `{pattern}`")]
    Syntax {
        /// What is wrong.
        reason: String,
        /// The refused pattern.
        pattern: String,
    },
    /// Too large to be worth compiling.
    #[error("error parsing regexp: expression is larger than {limit} bytes {stage}")]
    TooLarge {
        /// The limit that was passed.
        limit: usize,
        /// `compiled` or `long`.
        stage: &'static str,
    },
}

impl Matcher {
    /// Compiles a matcher; only patterns can fail.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, PatternError> {
        Self::from_text(MatcherText { name: name.into(), op, value: value.into() })
    }

    /// Compiles a matcher that came as text.
    pub fn from_text(text: MatcherText) -> Result<Self, PatternError> {
        let test = match text.op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => compile(&text.value)?,
        };
        Ok(Self { text, test })
    }

    /// The label it is about.
    pub fn name(&self) -> &str {
        &self.text.name
    }

    /// Name, operator and value, as other shards get them.
    pub fn text(&self) -> &MatcherText {
        &self.text
    }

    /// Whether a label with this value (`None`: no such label) satisfies it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let value = value.unwrap_or("");
        let holds = match &self.test {
            Test::Literal => self.text.value == value,
            Test::OneOf(values) => values.binary_search_by(|v| v.as_str().cmp(value)).is_ok(),
            Test::Pattern(pattern) => pattern.is_match(value),
        };
        holds == matches!(self.text.op, MatchOp::Equal | MatchOp::Regex)
    }
}

fn compile(pattern: &str) -> Result<Test, PatternError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(PatternError::TooLarge { limit: PATTERN_BYTES_MAX, stage: "long" });
    }
    if let Some(mut values) = plain_alternatives(pattern) {
        values.sort();
        values.dedup();
        return Ok(Test::OneOf(values));
    }
    // Compiled by itself first: a pattern such as `a)(b` must not close the group put around it.
    build(pattern, pattern)?;
    build(&format!("\\A(?s:{pattern})\\z"), pattern).map(Test::Pattern)
}

fn build(wrapped: &str, pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(wrapped).size_limit(PATTERN_COMPILED_BYTES_MAX).build().map_err(|error| {
        match error {
            regex::Error::CompiledTooBig(limit) => {
                PatternError::TooLarge { limit, stage: "compiled" }
            }
            other => {
                let text = other.to_string();
                // The library draws the pattern with a marker below it; its last line says what is wrong.
                let last = text.lines().last().unwrap_or_default();
                let reason = last.strip_prefix("error: ").unwrap_or(last).to_owned();
                PatternError::Syntax { reason, pattern: pattern.to_owned() }
            }
        }
    })
}

/// The alternatives of a pattern that has no metacharacters besides `|` and escaped punctuation.
fn plain_alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut values = vec![String::new()];
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '|' => {
                values.push(String::new());
                continue;
            }
            '\\' => chars.next().filter(char::is_ascii_punctuation)?,
            '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
            c => c,
        };
        values.last_mut()?.push(plain);
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(op: MatchOp, value: &str) -> Matcher {
        Matcher::new("l", op, value).unwrap()
    }

    #[test]
    fn an_absent_label_is_the_empty_value() {
        for (op, value, holds) in [
            (MatchOp::Equal, "", true),
            (MatchOp::NotEqual, "", false),
            (MatchOp::NotEqual, "x", true),
            (MatchOp::Regex, ".*", true),
            (MatchOp::Regex, ".+", false),
            (MatchOp::Regex, "a|", true),
            (MatchOp::NotRegex, "a|b", true),
        ] {
            assert_eq!(matcher(op, value).matches(None), holds, "{op:?} {value:?}");
            assert_eq!(matcher(op, value).matches(Some("")), holds, "{op:?} {value:?}");
        }
    }

    #[test]
    fn patterns_match_whole_values_and_lines() {
        assert!(matcher(MatchOp::Regex, "p.*").matches(Some("prod")));
        assert!(!matcher(MatchOp::Regex, "p").matches(Some("prod")));
        assert!(!matcher(MatchOp::Regex, "r.d").matches(Some("prod")));
        assert!(matcher(MatchOp::Regex, "a.b").matches(Some("a\nb")));
        assert!(!matcher(MatchOp::Regex, "(a|b)c").matches(Some("a")));
        assert!(matcher(MatchOp::Regex, "a|bc").matches(Some("bc")));
        assert!(matcher(MatchOp::NotRegex, "a|bc").matches(Some("b")));
    }

    #[test]
    fn escaped_values_of_a_picker_are_taken_literally() {
        let m = matcher(MatchOp::Regex, r"a\.b|c\-d|e\|f");
        assert!(["a.b", "c-d", "e|f"].iter().all(|v| m.matches(Some(v))));
        assert!(!m.matches(Some("axb")));
        // `\d` is a class, not an escaped letter
        assert!(matcher(MatchOp::Regex, r"\d").matches(Some("7")));
    }

    #[test]
    fn bad_and_huge_patterns_are_refused() {
        for bad in ["(", "a)(b", "*", "[z-a]", r"\"] {
            assert!(Matcher::new("l", MatchOp::Regex, bad).is_err(), "{bad}");
        }
        assert_eq!(
            Matcher::new("l", MatchOp::Regex, "(((a{500}){500}){500})").unwrap_err(),
            PatternError::TooLarge { limit: PATTERN_COMPILED_BYTES_MAX, stage: "compiled" }
        );
        assert!(Matcher::new("l", MatchOp::Regex, "x".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }
}
