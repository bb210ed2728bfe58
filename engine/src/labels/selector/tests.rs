use super::*;
use MatchOp::{Equal, NotEqual, NotRegex, Regex};

fn parsed(text: &str) -> Vec<(String, MatchOp, String)> {
    let matchers = parse_selector(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    matchers.into_iter().map(|m| (m.name, m.op, m.value)).collect()
}

#[test]
fn every_form_of_a_matcher_is_read() {
    let m = |n: &str, op, v: &str| (n.to_owned(), op, v.to_owned());
    for (text, expected) in [
        ("{}", vec![]),
        (" { } ", vec![]),
        (r#"{a="b"}"#, vec![m("a", Equal, "b")]),
        ("{a='b',}", vec![m("a", Equal, "b")]),
        (r#"{a=`b\n"`}"#, vec![m("a", Equal, "b\\n\"")]),
        (
            r#"{ a != "b" , c =~ "d.*",e!~"f" }"#,
            vec![m("a", NotEqual, "b"), m("c", Regex, "d.*"), m("e", NotRegex, "f")],
        ),
        (r#"{"otel.scope.name"="x"}"#, vec![m("otel.scope.name", Equal, "x")]),
        (r#"{"a b"}"#, vec![m("__name__", Equal, "a b")]),
        ("up", vec![m("__name__", Equal, "up")]),
        (
            r#"process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="x"}"#,
            vec![
                m("__name__", Equal, "process_cpu:cpu:nanoseconds:cpu:nanoseconds"),
                m("service_name", Equal, "x"),
            ],
        ),
        (
            r#"{by="a",on="b",offset="c"}"#,
            vec![m("by", Equal, "a"), m("on", Equal, "b"), m("offset", Equal, "c")],
        ),
        (r#"{a="ü→\u00e9\x41\101\t\"'"}"#, vec![m("a", Equal, "ü→éAA\t\"'")]),
        (r#"{a='\'"'}"#, vec![m("a", Equal, "'\"")]),
        (r#"{a="\xc3\xa9"}"#, vec![m("a", Equal, "é")]),
    ] {
        assert_eq!(parsed(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, error) in [
        ("", "unknown position: parse error: unexpected end of input"),
        ("  ", "unknown position: parse error: unexpected end of input"),
        ("{a=}", "1:4: parse error: unexpected \"}\" in label matching, expected string"),
        (
            "{a}",
            "1:3: parse error: unexpected \"}\" in label matching, expected label matching operator",
        ),
        (
            r#"{a="b""#,
            "1:7: parse error: unexpected end of input in label matching, expected \",\" or \"}\"",
        ),
        (
            r#"{a="b" c="d"}"#,
            "1:8: parse error: unexpected \"c\" in label matching, expected \",\" or \"}\"",
        ),
        (r#"{a="b}"#, "1:4: parse error: unterminated quoted string"),
        (r#"{a="\q"}"#, "1:5: parse error: invalid escape sequence in string"),
        (r#"{a="\'"}"#, "1:5: parse error: invalid escape sequence in string"),
        (r#"{a="\xff"}"#, "1:4: parse error: invalid escape sequence in string"),
        (
            "{,}",
            "1:2: parse error: unexpected \",\" in label matching, expected identifier or \"}\"",
        ),
        (
            "{1a=\"b\"}",
            "1:2: parse error: unexpected \"1a\" in label matching, expected identifier or \"}\"",
        ),
        (
            "{a.b=\"c\"}",
            "1:3: parse error: unexpected \".\" in label matching, expected label matching operator",
        ),
        ("{} x", "1:4: parse error: unexpected \"x\", expected end of input"),
        ("a.b{}", "1:2: parse error: unexpected \".\", expected \"{\" or end of input"),
        ("=", "1:1: parse error: unexpected \"=\", expected metric name or \"{\""),
    ] {
        assert_eq!(parse_selector(text).unwrap_err().to_string(), error, "{text}");
    }
    let bad = parse_selector(r#"{a=~"("}"#).unwrap_err().to_string();
    assert!(bad.starts_with("1:2: parse error: error parsing regexp: "), "{bad}");
}

#[test]
fn size_is_bounded() {
    assert!(parse_selector(&format!("{{a=\"{}\"}}", "x".repeat(SELECTOR_BYTES_MAX))).is_err());
    assert!(parse_selector(&format!("{{{}}}", r#"a="b","#.repeat(MATCHERS_MAX))).is_ok());
    assert!(parse_selector(&format!("{{{}}}", r#"a="b","#.repeat(MATCHERS_MAX + 1))).is_err());
}

/// The reader must agree with a writer that knows nothing of it, whatever the values.
#[test]
fn what_is_written_is_read_back() {
    bolero::check!().with_type::<Vec<(u8, bool, String)>>().for_each(|pairs| {
        let mut text = String::from("{");
        let mut expected = Vec::new();
        for (label, equal, value) in pairs.iter().take(8) {
            let label = format!("l{label}");
            let op = if *equal { "=" } else { "!=" };
            let escaped: String = value.chars().fold(String::new(), |mut out, c| {
                match c {
                    '"' => out.push_str("\\\""),
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    c => out.push(c),
                }
                out
            });
            text += &[label.as_str(), " ", op, " \"", &escaped, "\" , "].concat();
            expected.push((label, if *equal { Equal } else { NotEqual }, value.clone()));
        }
        text.push('}');
        assert_eq!(parsed(&text), expected);
    });
}

#[test]
fn no_text_makes_it_panic() {
    bolero::check!().with_type::<String>().for_each(|text| {
        let _ = parse_selector(text);
        let _ = parse_selector(&format!("{{a=~\"{text}\"}}"));
        let _ = parse_selector(&format!("{{{text}=\"x\"}}"));
    });
}

/// Small alphabets reach the grammar that random text misses; an independent recogniser decides what is legal.
#[test]
fn a_second_recogniser_agrees_on_short_texts() {
    const ALPHABET: [&str; 8] = ["{", "}", "a", "=", "!=", "\"b\"", ",", "'c'"];
    let mut texts = vec![Vec::<&str>::new()];
    let mut checked = 0;
    while let Some(tokens) = texts.pop() {
        let text = tokens.concat();
        assert_eq!(parse_selector(&text).is_ok(), legal(&tokens), "{text}");
        checked += 1;
        if tokens.len() < 6 {
            texts.extend(ALPHABET.iter().map(|t| [&tokens[..], &[*t]].concat()));
        }
    }
    assert_eq!(checked, (0..=6).map(|n| 8_usize.pow(n)).sum::<usize>());
}

/// Decides by splitting, not by scanning. `aa` is one word and `=` directly before `=` or a string is as in the parser's grammar.
fn legal(tokens: &[&str]) -> bool {
    let named = tokens.iter().take_while(|t| **t == "a").count();
    let rest = &tokens[named..];
    if rest.is_empty() {
        return named > 0;
    }
    let [first, body @ .., last] = rest else { return false };
    if *first != "{" || *last != "}" || body.contains(&"{") || body.contains(&"}") {
        return false;
    }
    let mut parts: Vec<&[&str]> = body.split(|t| *t == ",").collect();
    if parts.last().is_some_and(|p| p.is_empty()) {
        parts.pop(); // a trailing comma, or nothing at all
    }
    let is_string = |t: &&str| t.starts_with(['"', '\'']);
    parts.iter().all(|part| {
        let words = part.iter().take_while(|t| **t == "a").count();
        match (words, &part[words..]) {
            (0, [name]) => is_string(name),
            (0, [name, op, value]) => {
                is_string(name) && matches!(*op, "=" | "!=") && is_string(value)
            }
            (0, _) => false,
            (_, [op, value]) => matches!(*op, "=" | "!=") && is_string(value),
            _ => false,
        }
    })
}
