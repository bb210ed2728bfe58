use std::fmt::Write as _;

use super::*;

/// A tree on one line: `{a@1: x, b@2: [1, ~]}`.
fn shown(node: &Node) -> String {
    match &node.value {
        Value::Null => "~".to_owned(),
        Value::Scalar(text) => text.clone(),
        Value::List(nodes) => {
            format!("[{}]", nodes.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|Entry { key, line, value }| format!("{key}@{line}: {}", shown(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn tree(text: &str) -> String {
    read(text).map_or_else(|error| error.to_string(), |node| shown(&node))
}

#[test]
fn keys_know_their_lines_and_scalars_stay_texts() {
    for (text, want) in [
        ("", "~"),
        ("# nothing\n", "~"),
        ("a: 1\nb:\n  c: 0x10 # why\n  d: 'it'\n", "{a@1: 1, b@2: {c@3: 0x10, d@4: it}}"),
        ("a: [1, two, ~]\n", "{a@1: [1, two, ~]}"),
        ("a:\n- x\n- y: z\n", "{a@1: [x, {y@3: z}]}"),
        ("a: null\nb: 'null'\nc: !!str null\nd:\n", "{a@1: ~, b@2: null, c@3: null, d@4: ~}"),
        ("a: |\n  two\n  lines\n", "{a@1: two\nlines\n}"),
        ("---\na: 7d\n...\n", "{a@2: 7d}"),
        ("{\"a\": {\"b\": true}}", "{a@1: {b@1: true}}"),
    ] {
        assert_eq!(tree(text), want, "{text}");
    }
}

#[test]
fn aliases_stand_for_what_they_name_and_merge_keys_fill_in_what_is_missing() {
    for (text, want) in [
        ("a: &x {k: 1}\nb: *x\n", "{a@1: {k@1: 1}, b@2: {k@1: 1}}"),
        (
            "a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\n",
            "{a@1: {k@1: 1, l@1: 2}, b@2: {k@4: 3, l@1: 2}}",
        ),
        (
            "a: &x {k: 1}\nb: &y {k: 2, l: 2}\nc:\n  <<: [*x, *y]\n",
            "{a@1: {k@1: 1}, b@2: {k@2: 2, l@2: 2}, c@3: {k@1: 1, l@2: 2}}",
        ),
    ] {
        assert_eq!(tree(text), want, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    let mut wrong = Vec::new();
    for (text, line, reason) in [
        ("a: 1\nb: 2\na: 3\n", 3, "the key \"a\" is given twice, first on line 1"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here; one is expected"),
        ("a: *nobody\n", 1, ""),
        ("a: &x [*x]\n", 1, "an alias stands inside what it names"),
        ("a: 1\nb: !!binary aGk=\n", 2, "means nothing here"),
        ("a: !include other.yaml\n", 1, "the tag !include means nothing here"),
        ("a: 1\n  b: 2\n", 2, ""),
        ("a: [1\n", 1, ""),
        ("a: \"x\n", 1, ""),
        ("? [x]\n: 1\n", 1, "expected a key, found a list"),
        ("~: 1\n", 1, "expected a key, found nothing"),
        ("a:\n  <<: 5\n", 2, "<< merges maps, found a value"),
    ] {
        match read(text) {
            Ok(node) => wrong.push(format!("{text:?} is {}", shown(&node))),
            Err(error) if error.line == line && error.reason.contains(reason) => {}
            Err(error) => wrong.push(format!("{text:?}: {error}")),
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_small_document_cannot_become_a_large_tree() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let part = format!("*a{}, ", level - 1).repeat(10);
        writeln!(text, "a{level}: &a{level} [{part}]").unwrap();
    }
    let error = read(&text).unwrap_err();
    assert_eq!(error.reason, "the document is too large once its aliases are resolved");

    // One long text, many times.
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(100));
    let error = read(&text).unwrap_err();
    assert_eq!(error.reason, "the document is too large once its aliases are resolved");
}

#[test]
fn nesting_is_bounded_also_where_aliases_do_it() {
    let flow = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
    assert!(read(&flow).is_err());
    let deepest = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    assert!(read(&deepest).is_ok());
    let mut block = String::new();
    for depth in 0..=DEPTH_MAX {
        writeln!(block, "{}a:", " ".repeat(depth)).unwrap();
    }
    assert!(read(&block).is_err());
    let mut chain = "- &a0 [x]\n".to_owned();
    for level in 1..=DEPTH_MAX {
        writeln!(chain, "- &a{level} [*a{}]", level - 1).unwrap();
    }
    let error = read(&chain).unwrap_err();
    assert_eq!(error.reason, format!("nested deeper than {DEPTH_MAX}"));
}

#[test]
fn a_long_document_is_refused_unread() {
    let error = read(&" ".repeat(DOCUMENT_BYTES_MAX + 1)).unwrap_err();
    assert!(error.reason.starts_with("the document is longer than "), "{error}");
}

#[test]
fn no_bytes_panic() {
    const PARTS: [&str; 16] =
        ["a", "b", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ", ", "&x ", "*x", "<<", "'", "|\n"];
    bolero::check!().with_type::<String>().for_each(|text| {
        let _ = read(text);
    });
    // Texts near YAML reach deeper than random ones.
    bolero::check!().with_type::<Vec<u8>>().for_each(|picks| {
        let text: String = picks.iter().map(|pick| PARTS[*pick as usize % PARTS.len()]).collect();
        let _ = read(&text);
    });
}
