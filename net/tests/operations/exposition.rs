//! A strict reader of Prometheus' text format, written from its description and not from our writer: it takes less than Prometheus does.

use std::collections::{BTreeMap, BTreeSet};

/// Label names and values, in the order of the text.
pub(crate) type Labels = Vec<(String, String)>;

/// The samples of one metric.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    /// By name of the series and labels.
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

/// Reads a whole exposition; the error says what is wrong with which line.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current: Option<(String, Family)> = None;
    let mut help = None;
    let mut series = BTreeSet::new();
    let mut end = |current: Option<(String, Family)>| {
        let Some((name, family)) = current else { return Ok(()) };
        check(&name, &family)?;
        match families.insert(name.clone(), family) {
            None => Ok(()),
            Some(_) => Err(format!("{name} comes twice")),
        }
    };
    let lines = text.strip_suffix('\n').ok_or("the last line has no end")?.split('\n');
    for line in lines {
        let wrong = |what: &str| format!("{what}: {line:?}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
            check_escapes(words, &['\\', 'n']).map_err(|what| wrong(&what))?;
            end(current.take())?;
            help = Some(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            if help.take() != Some(name) {
                return Err(wrong("TYPE follows the HELP of its metric"));
            }
            if !is_name(name, ":") || !["counter", "gauge", "histogram", "summary"].contains(&kind)
            {
                return Err(wrong("name or type"));
            }
            current =
                Some((name.to_owned(), Family { kind: kind.to_owned(), ..Family::default() }));
        } else {
            let (name, labels, value) = sample(line).map_err(|what| wrong(&what))?;
            let (family_name, family) =
                current.as_mut().ok_or_else(|| wrong("a sample without HELP and TYPE"))?;
            let suffix = name.strip_prefix(family_name.as_str());
            let allowed: &[&str] = match family.kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                "summary" => &["_sum", "_count"],
                _ => &[""],
            };
            if !suffix.is_some_and(|suffix| allowed.contains(&suffix)) {
                return Err(wrong("a sample of another metric"));
            }
            let mut sorted = labels.clone();
            sorted.sort();
            if !series.insert((name.clone(), sorted)) {
                return Err(wrong("the series comes twice"));
            }
            family.samples.push((name, labels, value));
        }
    }
    end(current)?;
    Ok(families)
}

/// What holds for a metric as a whole.
fn check(name: &str, family: &Family) -> Result<(), String> {
    if family.samples.is_empty() {
        return Err(format!("{name} has no sample"));
    }
    let names_of = |labels: &Labels| -> Vec<String> {
        labels.iter().map(|(name, _)| name.clone()).filter(|name| name != "le").collect()
    };
    let names = names_of(&family.samples[0].1);
    if family.samples.iter().any(|(_, labels, _)| names_of(labels) != names) {
        return Err(format!("{name}: series have different labels"));
    }
    let only_grows = family.kind != "gauge";
    if only_grows
        && family.samples.iter().any(|(_, _, value)| !(*value >= 0.0 && value.is_finite()))
    {
        return Err(format!("{name}: what only grows is a number, and not negative"));
    }
    if family.kind == "histogram" { check_histogram(name, family) } else { Ok(()) }
}

/// Buckets rise to `+Inf`, which holds as many as `_count`.
fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    #[derive(Default)]
    struct One {
        buckets: Vec<(f64, f64)>,
        sum: Option<f64>,
        count: Option<f64>,
    }
    let mut all: BTreeMap<Labels, One> = BTreeMap::new();
    for (series, labels, value) in &family.samples {
        let (le, labels): (Vec<_>, Vec<_>) =
            labels.iter().cloned().partition(|(name, _)| name == "le");
        let one = all.entry(labels).or_default();
        match (&series[name.len()..], le.as_slice()) {
            ("_bucket", [(_, bound)]) => one.buckets.push((number(bound)?, *value)),
            ("_sum", []) => one.sum = Some(*value),
            ("_count", []) => one.count = Some(*value),
            _ => return Err(format!("{series}: le belongs to buckets alone")),
        }
    }
    for (labels, One { buckets, sum, count }) in all {
        let rise = buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
        let last = buckets.last().copied();
        if !rise
            || sum.is_none()
            || last.is_none_or(|last| last.0 != f64::INFINITY || Some(last.1) != count)
        {
            return Err(format!("{name}{labels:?}: buckets do not rise to +Inf = count"));
        }
    }
    Ok(())
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, ":") {
        return Err("a name of the wrong form".to_owned());
    }
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").ok_or("no label")?;
            if !is_name(label, "") || labels.iter().any(|(name, _)| name == label) {
                return Err(format!("label {label:?} is wrong or comes twice"));
            }
            let end = closing_quote(value).ok_or("a value without end")?;
            check_escapes(&value[..end], &['\\', 'n', '"'])?;
            labels.push((label.to_owned(), unescaped(&value[..end])));
            rest = &value[end + 1..];
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            rest = rest.strip_prefix(',').ok_or("neither , nor } behind a label")?;
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    Ok((name.to_owned(), labels, number(value)?))
}

/// Rust reads more than the format allows: `infinity`, `+1`.
fn number(text: &str) -> Result<f64, String> {
    let is_plain =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if is_plain => text.parse().map_err(|_| format!("{text:?} is no number")),
        _ => Err(format!("{text:?} is no number")),
    }
}

fn is_name(name: &str, more: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(c);
    name.starts_with(|c: char| is_part(c) && !c.is_ascii_digit()) && name.chars().all(is_part)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end.then_some(at)
    })
}

fn check_escapes(text: &str, known: &[char]) -> Result<(), String> {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' && !chars.next().is_some_and(|c| known.contains(&c)) {
            return Err("an escape that does not exist".to_owned());
        }
    }
    Ok(())
}

fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => break,
            },
            c => c,
        });
    }
    out
}

#[test]
fn the_reader_refuses_what_prometheus_would_or_might() {
    let head = "# HELP a x\n# TYPE a counter\n";
    let histogram = "# HELP h x\n# TYPE h histogram\n";
    let good = format!(
        "{head}a{{l=\"q\\\"\\\\\\n\"}} 1\n{histogram}h_bucket{{le=\"1\"}} 2\nh_bucket{{le=\"+Inf\"}} 3\nh_sum 9\nh_count 3\n"
    );
    let families = read(&good).unwrap();
    assert_eq!(families["a"].samples[0].1, [("l".to_owned(), "q\"\\\n".to_owned())]);
    for (bad, why) in [
        ("a 1\n".to_owned(), "without HELP"),
        ("# TYPE a counter\na 1\n".to_owned(), "follows the HELP"),
        (format!("{head}a 1"), "no end"),
        (format!("{head}\n"), "no value"),
        (head.to_owned(), "no sample"),
        (format!("{head}a 1\na 1\n"), "twice"),
        (format!("{head}a{{x=\"1\",y=\"2\"}} 1\na{{y=\"2\",x=\"1\"}} 1\n"), "twice"),
        (format!("{head}a{{x=\"1\"}} 1\na{{y=\"1\"}} 1\n"), "different labels"),
        (format!("{head}a 1\n{head}a{{x=\"1\"}} 1\n"), "comes twice"),
        (format!("{head}b 1\n"), "another metric"),
        (format!("{head}a -1\n"), "not negative"),
        (format!("{head}a inf\n"), "no number"),
        (format!("{head}a{{x=\"\\q\"}} 1\n"), "escape"),
        (format!("{head}a{{x=\"1}} 1\n"), "without end"),
        (format!("{head}a{{1x=\"1\"}} 1\n"), "wrong or comes twice"),
        (format!("{head}a  1\n"), "no number"),
        (format!("{histogram}h_bucket{{le=\"+Inf\"}} 3\nh_sum 9\nh_count 4\n"), "do not rise"),
        (format!("{histogram}h_bucket{{le=\"1\"}} 3\nh_sum 9\nh_count 3\n"), "do not rise"),
        (
            format!(
                "{histogram}h_bucket{{le=\"1\"}} 4\nh_bucket{{le=\"+Inf\"}} 3\nh_sum 9\nh_count 3\n"
            ),
            "do not rise",
        ),
        (format!("{histogram}h_bucket{{le=\"+Inf\"}} 3\nh_count 3\n"), "do not rise"),
    ] {
        let error = read(&bad).unwrap_err();
        assert!(error.contains(why), "{bad:?}: {error}, not {why}");
    }
}
