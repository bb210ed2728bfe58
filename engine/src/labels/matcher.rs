//! One condition on a label, as PromQL means it: an absent label is the empty value, a pattern matches the whole value.

use proto::rpc::select::{MatchOp, MatcherText};
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, ClassSetItem, Flag, GroupKind};

use crate::profile::Step;

/// Compiled size of one pattern, bytes. Compiling to this size takes 1.0–1.4 ms, which is what one step of a query may take.
/// Eight Unicode classes fit, or some hundred alternatives. (Alternatives without metacharacters compile to nothing.)
const PATTERN_COMPILED_BYTES_MAX: usize = 192 << 10;

/// Compiled size of all patterns of a selector, bytes: where there are many, each gets an equal share of this.
const SELECTOR_COMPILED_BYTES_MAX: usize = 1 << 20;

/// What a pattern may cache while it matches, bytes; less is as slow as no cache.
const PATTERN_CACHE_BYTES_MIN: usize = 64 << 10;

/// Longest alternation of plain texts, bytes: sorting it is all that is done with it.
const ALTERNATIVES_BYTES_MAX: usize = 64 << 10;

/// Length of all other patterns of a selector, bytes: reading them takes 0.04 µs a byte, in the one step that checks a request.
const SELECTOR_PATTERN_BYTES_MAX: usize = 16 << 10;

/// What translating a pattern may cost before its size is known, in literals, some 0.3 µs each.
const PATTERN_COST_MAX: usize = 4096;

/// A class by Unicode's tables.
const CLASS_COST: usize = 64;

/// A set of characters that is made the same in both cases: a walk through the tables, up to a millisecond.
const FOLDED_CLASS_COST: usize = 2048;

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
        /// `compiled`, `long`, or `long in all`.
        stage: &'static str,
    },
    /// Small, but slow to compile.
    #[error(
        "error parsing regexp: expression has too many character classes or characters: `{pattern}`"
    )]
    TooCostly {
        /// The refused pattern.
        pattern: String,
    },
}

impl Matcher {
    /// Compiles a matcher to at most so many bytes; only patterns can fail.
    fn compile(text: MatcherText, compiled_bytes_max: usize) -> Result<Self, PatternError> {
        let test = match text.op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => compile(&text.value, compiled_bytes_max)?,
        };
        Ok(Self { text, test })
    }

    /// The label it is about.
    pub fn name(&self) -> &str {
        &self.text.name
    }

    /// What asking it costs, about 20 ns each, where a pattern and a value are ordinary.
    pub fn cost(&self) -> usize {
        match self.test {
            Test::Literal => 1,
            Test::OneOf(_) => 4,
            Test::Pattern(_) => 8,
        }
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

/// Compiles the matchers of a selector one by one, within the size that they share.
#[derive(Debug)]
pub struct Compilation {
    left: std::vec::IntoIter<MatcherText>,
    compiled_bytes_max: usize,
    matchers: Vec<Matcher>,
}

impl Compilation {
    /// Begins.
    pub fn new(matchers: Vec<MatcherText>) -> Self {
        let patterns = matchers.iter().filter(|matcher| is_costly(matcher)).count();
        let share = SELECTOR_COMPILED_BYTES_MAX / patterns.max(1);
        Self {
            compiled_bytes_max: share.min(PATTERN_COMPILED_BYTES_MAX),
            matchers: Vec::with_capacity(matchers.len()),
            left: matchers.into_iter(),
        }
    }

    /// Compiles one pattern, and the plain matchers before it; `Done` when none is left.
    pub fn step(&mut self) -> Result<Step, PatternError> {
        for text in self.left.by_ref() {
            let matcher = Matcher::compile(text, self.compiled_bytes_max)?;
            let is_plain = matches!(matcher.test, Test::Literal);
            self.matchers.push(matcher);
            if !is_plain {
                return Ok(Step::More);
            }
        }
        Ok(Step::Done)
    }

    /// The matchers compiled so far.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }
}

/// Checks patterns without compiling them: that they are written right, and cheap enough to be compiled by every shard.
#[derive(Debug, Default)]
pub struct PatternCheck {
    pattern_bytes: usize,
}

impl PatternCheck {
    /// Checks one more matcher of the selector. What remains to be seen when compiling is the size, and whether tables of
    /// Unicode have a class.
    pub fn check(&mut self, matcher: &MatcherText) -> Result<(), PatternError> {
        let pattern = &matcher.value;
        if !is_pattern(matcher) {
            return Ok(());
        }
        if pattern.len() > ALTERNATIVES_BYTES_MAX {
            return Err(PatternError::TooLarge { limit: ALTERNATIVES_BYTES_MAX, stage: "long" });
        }
        if !is_costly(matcher) {
            return Ok(());
        }
        self.pattern_bytes += pattern.len();
        if self.pattern_bytes > SELECTOR_PATTERN_BYTES_MAX {
            let limit = SELECTOR_PATTERN_BYTES_MAX;
            return Err(PatternError::TooLarge { limit, stage: "long in all" });
        }
        parse(pattern)
    }
}

fn is_pattern(matcher: &MatcherText) -> bool {
    matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex)
}

/// Whether it has to be compiled.
fn is_costly(matcher: &MatcherText) -> bool {
    is_pattern(matcher) && plain_alternatives(&matcher.value).is_none()
}

/// Reads a pattern and weighs it.
fn parse(pattern: &str) -> Result<(), PatternError> {
    let ast = ast::parse::Parser::new().parse(pattern).map_err(|error| PatternError::Syntax {
        reason: error.kind().to_string(),
        pattern: pattern.to_owned(),
    })?;
    let cost = ast::visit(&ast, Weight::default()).unwrap_or_else(|never| match never {});
    if cost > PATTERN_COST_MAX {
        return Err(PatternError::TooCostly { pattern: pattern.to_owned() });
    }
    Ok(())
}

/// What translating a pattern costs, in literals.
#[derive(Default)]
struct Weight {
    cost: usize,
    /// Whether letters may stand for both cases from here on.
    folds: bool,
}

impl Weight {
    fn see_flags(&mut self, flags: &ast::Flags) {
        self.folds |= flags.flag_state(Flag::CaseInsensitive) == Some(true);
    }

    fn folded(&self, otherwise: usize) -> usize {
        if self.folds { FOLDED_CLASS_COST } else { otherwise }
    }
}

impl ast::Visitor for Weight {
    type Output = usize;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<usize, Self::Err> {
        Ok(self.cost)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        self.cost += match ast {
            Ast::Flags(set) => {
                self.see_flags(&set.flags);
                1
            }
            Ast::Group(group) => {
                if let GroupKind::NonCapturing(flags) = &group.kind {
                    self.see_flags(flags);
                }
                1
            }
            Ast::ClassPerl(_) => CLASS_COST,
            Ast::ClassUnicode(_) => self.folded(CLASS_COST),
            Ast::Literal(_) if self.folds => 4,
            _ => 1,
        };
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        self.cost += match item {
            ClassSetItem::Literal(literal) if literal.c.is_ascii() => 4,
            ClassSetItem::Range(range) if range.end.c.is_ascii() => 4,
            ClassSetItem::Empty(_) | ClassSetItem::Union(_) => 1,
            ClassSetItem::Ascii(class) if !class.negated => 4,
            ClassSetItem::Bracketed(_) => self.folded(4),
            _ => self.folded(CLASS_COST),
        };
        Ok(())
    }

    fn visit_class_set_binary_op_pre(
        &mut self,
        _: &ast::ClassSetBinaryOp,
    ) -> Result<(), Self::Err> {
        self.cost += self.folded(CLASS_COST);
        Ok(())
    }
}

fn compile(pattern: &str, compiled_bytes_max: usize) -> Result<Test, PatternError> {
    if let Some(mut values) = plain_alternatives(pattern) {
        values.sort();
        values.dedup();
        return Ok(Test::OneOf(values));
    }
    // Read by itself first: a pattern such as `a)(b` must not close the group put around it.
    parse(pattern)?;
    RegexBuilder::new(&format!("\\A(?s:{pattern})\\z"))
        .size_limit(compiled_bytes_max)
        .dfa_size_limit(compiled_bytes_max.max(PATTERN_CACHE_BYTES_MIN))
        .build()
        .map(Test::Pattern)
        .map_err(|error| match error {
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

    /// Checked and compiled, as between a querier and a shard.
    fn compiled(op: MatchOp, value: &str) -> Result<Matcher, PatternError> {
        let text = MatcherText { name: "l".to_owned(), op, value: value.to_owned() };
        PatternCheck::default().check(&text)?;
        let mut compilation = Compilation::new(vec![text]);
        while compilation.step()? == Step::More {}
        Ok(compilation.matchers()[0].clone())
    }

    fn matcher(op: MatchOp, value: &str) -> Matcher {
        compiled(op, value).unwrap()
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
        for bad in ["(", "a)(b", "*", "[z-a]", r"\", r"\p{Nope}"] {
            assert!(compiled(MatchOp::Regex, bad).is_err(), "{bad}");
        }
        assert_eq!(
            compiled(MatchOp::Regex, "(").unwrap_err().to_string(),
            "error parsing regexp: unclosed group: `(`"
        );
        assert_eq!(
            compiled(MatchOp::Regex, "(((a{500}){500}){500})").unwrap_err(),
            PatternError::TooLarge { limit: PATTERN_COMPILED_BYTES_MAX, stage: "compiled" }
        );
        let plain = "x".repeat(ALTERNATIVES_BYTES_MAX + 1);
        assert!(compiled(MatchOp::Regex, &plain[1..]).is_ok());
        assert!(compiled(MatchOp::Regex, &plain).is_err());
    }

    /// A thousand folded classes held every shard for a second, though not one byte of the pattern was over a limit.
    #[test]
    fn patterns_that_are_short_but_slow_to_compile_are_refused_before_they_are_compiled() {
        for slow in [
            format!("(?i){}", r"\pL".repeat(3)),
            format!("(?i){}", r"[\w]".repeat(3)),
            format!("(?i){}", "[é]".repeat(3)),
            format!("(?i){}", "[[^a]--b]".repeat(2)),
            format!("(?i:{})", "ab".repeat(600)),
            format!("{}.", "x".repeat(4096)),
            r"\w".repeat(70),
        ] {
            let failure = compiled(MatchOp::Regex, &slow).unwrap_err();
            assert!(matches!(failure, PatternError::TooCostly { .. }), "{slow}: {failure}");
        }
        for common in [
            r"(?i)api-\d+-\w+",
            "(?i)[^/]+/[^/]+/[a-z]+",
            r"\w+-\w+-\w+",
            r"(?i)\pL+",
            "[[:alpha:]]+",
        ] {
            assert!(compiled(MatchOp::Regex, common).is_ok(), "{common}");
        }
    }

    /// 256 patterns of half a megabyte each were compiled in one call, twice at the querier and again on every shard.
    #[test]
    fn the_patterns_of_a_selector_share_one_budget_and_compile_one_a_step() {
        let text = |value: String| MatcherText { name: "l".to_owned(), op: MatchOp::Regex, value };
        let mut check = PatternCheck::default();
        let long = text(format!("{}.", "x".repeat(4000)));
        let checked: Vec<_> = (0..5).map(|_| check.check(&long)).collect();
        assert!(checked[..4].iter().all(Result::is_ok));
        assert_eq!(
            checked[4],
            Err(PatternError::TooLarge { limit: SELECTOR_PATTERN_BYTES_MAX, stage: "long in all" })
        );

        let one = r"\w+-\w+-\w+".to_owned();
        assert!(compiled(MatchOp::Regex, &one).is_ok());
        let mut many = Compilation::new(vec![text(one); 64]);
        let limit = SELECTOR_COMPILED_BYTES_MAX / 64;
        assert_eq!(many.step(), Err(PatternError::TooLarge { limit, stage: "compiled" }));

        let mut small = Compilation::new(vec![text("a.*".to_owned()); 256]);
        let mut steps = 0;
        while small.step().unwrap() == Step::More {
            steps += 1;
            assert_eq!(small.matchers().len(), steps);
        }
        assert_eq!(steps, 256);
    }
}
