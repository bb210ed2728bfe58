//! The text form of label matchers: the body of a PromQL vector selector.
//!
//! ```text
//! selector = [ name ] [ "{" [ matcher { "," matcher } [ "," ] ] "}" ]      at least one of the two
//! matcher  = label op string | string op string | string                   a lone string is a metric name
//! op       = "=" | "!=" | "=~" | "!~"
//! string   = "…" | '…' with Go's escapes | `…` raw
//! ```
//! A name (before the braces, or a lone string in them) is a matcher on `__name__`; before the braces it may hold colons, so
//! that `/pyroscope/render` can put a profile type id there. Patterns are checked, not compiled: that is the
//! shards' part. Not here: what a matcher means ([`super::Matcher`]).

use proto::rpc::select::{MatchOp, MatcherText};

use super::name;
use crate::labels::matcher::{PatternCheck, PatternError};

/// Longest selector, bytes: far above what a person or a dashboard writes, far below what is worth parsing.
pub const SELECTOR_BYTES_MAX: usize = 256 << 10;

/// Most matchers of one selector; each is asked for each series.
pub const MATCHERS_MAX: usize = 256;

/// Why a selector does not parse; positions count bytes from 1.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectorError {
    /// Nothing but blanks.
    #[error("unknown position: parse error: unexpected end of input")]
    Empty,
    /// Something else stands where `expected` should.
    #[error("1:{at}: parse error: unexpected {found}{context}, expected {expected}")]
    Unexpected {
        /// Position.
        at: usize,
        /// What stands there, quoted.
        found: String,
        /// Where we are, with a leading blank.
        context: &'static str,
        /// What may stand there.
        expected: &'static str,
    },
    /// A string that does not end.
    #[error("1:{at}: parse error: unterminated quoted string")]
    Unterminated {
        /// Where it starts.
        at: usize,
    },
    /// An escape that Go does not know.
    #[error("1:{at}: parse error: invalid escape sequence in string")]
    Escape {
        /// Where its backslash is.
        at: usize,
    },
    /// A pattern that is wrong or too costly.
    #[error("1:{at}: parse error: {source}")]
    Pattern {
        /// Where the matcher starts.
        at: usize,
        /// What is wrong with it.
        source: PatternError,
    },
    /// Over [`SELECTOR_BYTES_MAX`] or [`MATCHERS_MAX`].
    #[error("1:1: parse error: selector is larger than {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// `bytes` or `matchers`.
        unit: &'static str,
    },
}

/// Parses a selector; `{}` is no matcher at all, which everything satisfies.
pub fn parse_selector(text: &str) -> Result<Vec<MatcherText>, SelectorError> {
    parse_selector_within(text, &mut PatternCheck::default())
}

/// Parses one of several selectors whose patterns share a budget.
pub fn parse_selector_within(
    text: &str,
    patterns: &mut PatternCheck,
) -> Result<Vec<MatcherText>, SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(SelectorError::TooLarge { limit: SELECTOR_BYTES_MAX, unit: "bytes" });
    }
    let mut parser = Parser { text, at: 0, matchers: Vec::new(), patterns };
    parser.selector()?;
    Ok(parser.matchers)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    matchers: Vec<MatcherText>,
    patterns: &'a mut PatternCheck,
}

impl Parser<'_> {
    fn selector(&mut self) -> Result<(), SelectorError> {
        self.blanks();
        if self.peek().is_none() {
            return Err(SelectorError::Empty);
        }
        let start = self.at;
        let metric = self.word(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        if !metric.is_empty() {
            if metric.starts_with(|c: char| c.is_ascii_digit()) {
                self.at = start;
                return Err(self.unexpected("", "metric name or \"{\""));
            }
            let metric = metric.to_owned();
            self.push(start, name::NAME.to_owned(), MatchOp::Equal, metric)?;
        }
        self.blanks();
        match self.peek() {
            Some('{') => self.braces()?,
            None => {}
            Some(_) if self.matchers.is_empty() => {
                return Err(self.unexpected("", "metric name or \"{\""));
            }
            Some(_) => return Err(self.unexpected("", "\"{\" or end of input")),
        }
        self.blanks();
        if self.peek().is_some() {
            return Err(self.unexpected("", "end of input"));
        }
        Ok(())
    }

    fn braces(&mut self) -> Result<(), SelectorError> {
        self.at += 1;
        loop {
            self.blanks();
            if self.eat("}") {
                return Ok(());
            }
            self.matcher()?;
            self.blanks();
            if !self.eat(",") && self.peek() != Some('}') {
                return Err(self.unexpected(" in label matching", "\",\" or \"}\""));
            }
        }
    }

    fn matcher(&mut self) -> Result<(), SelectorError> {
        let start = self.at;
        let quoted = matches!(self.peek(), Some('"' | '\'' | '`'));
        let label = if quoted {
            self.string()?
        } else {
            let word = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
            if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
                self.at = start;
                return Err(self.unexpected(" in label matching", "identifier or \"}\""));
            }
            word.to_owned()
        };
        self.blanks();
        let op = if self.eat("=~") {
            MatchOp::Regex
        } else if self.eat("!~") {
            MatchOp::NotRegex
        } else if self.eat("!=") {
            MatchOp::NotEqual
        } else if self.eat("=") {
            MatchOp::Equal
        } else if quoted && matches!(self.peek(), Some(',' | '}')) {
            return self.push(start, name::NAME.to_owned(), MatchOp::Equal, label);
        } else {
            return Err(self.unexpected(" in label matching", "label matching operator"));
        };
        self.blanks();
        if !matches!(self.peek(), Some('"' | '\'' | '`')) {
            return Err(self.unexpected(" in label matching", "string"));
        }
        let value = self.string()?;
        self.push(start, label, op, value)
    }

    fn push(
        &mut self,
        start: usize,
        label: String,
        op: MatchOp,
        value: String,
    ) -> Result<(), SelectorError> {
        if self.matchers.len() == MATCHERS_MAX {
            return Err(SelectorError::TooLarge { limit: MATCHERS_MAX, unit: "matchers" });
        }
        let matcher = MatcherText { name: label, op, value };
        self.patterns
            .check(&matcher)
            .map_err(|source| SelectorError::Pattern { at: start + 1, source })?;
        self.matchers.push(matcher);
        Ok(())
    }

    /// A quoted string; the parser stands on its quote.
    fn string(&mut self) -> Result<String, SelectorError> {
        let start = self.at;
        let quote = self.next().expect("the caller saw a quote");
        let mut value = Vec::new();
        loop {
            let at = self.at;
            match self.next() {
                None => return Err(SelectorError::Unterminated { at: start + 1 }),
                Some(c) if c == quote => break,
                Some('\n') if quote != '`' => {
                    return Err(SelectorError::Unterminated { at: start + 1 });
                }
                Some('\\') if quote != '`' => {
                    self.escape(quote, &mut value).ok_or(SelectorError::Escape { at: at + 1 })?;
                }
                Some(c) => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // `\x` and octal escapes may name bytes that are no text; no label value is.
        String::from_utf8(value).map_err(|_| SelectorError::Escape { at: start + 1 })
    }

    /// One escape of Go's, behind its backslash.
    fn escape(&mut self, quote: char, into: &mut Vec<u8>) -> Option<()> {
        let (digits, radix) = match self.next()? {
            c @ ('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => {
                const NAMES: &[u8] = b"abfnrtv\\";
                const BYTES: &[u8] = b"\x07\x08\x0c\n\r\t\x0b\\";
                into.push(BYTES[NAMES.iter().position(|n| char::from(*n) == c)?]);
                return Some(());
            }
            c if c == quote => {
                into.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return None,
        };
        let text = self.text.get(self.at..self.at + digits)?;
        let number = u32::from_str_radix(text, radix).ok().filter(|_| !text.starts_with('+'))?;
        self.at += digits;
        if digits <= 3 {
            into.push(u8::try_from(number).ok()?);
        } else {
            into.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Some(())
    }

    fn blanks(&mut self) {
        self.word(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, token: &str) -> bool {
        let there = self.text[self.at..].starts_with(token);
        self.at += if there { token.len() } else { 0 };
        there
    }

    fn unexpected(&self, context: &'static str, expected: &'static str) -> SelectorError {
        let found = self.peek().map_or_else(
            || "end of input".to_owned(),
            |c| {
                let rest = &self.text[self.at..];
                let len = if c.is_ascii_alphanumeric() || c == '_' {
                    rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                        .unwrap_or(rest.len())
                        .min(64)
                } else {
                    c.len_utf8()
                };
                format!("{:?}", &rest[..len])
            },
        );
        SelectorError::Unexpected { at: self.at + 1, found, context, expected }
    }
}

#[cfg(test)]
mod tests;
