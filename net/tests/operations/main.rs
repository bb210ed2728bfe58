//! `docs/alerts.yaml` and `docs/dashboard.json` against the table of metrics: what is not counted cannot be alerted on.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod exposition;
mod revision;
mod scrape;

use std::path::Path;

use net::config::yaml::{self, Node, Value};
use net::telemetry::metrics::{Metric, metric_of};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap()
}

fn get<'a>(node: &'a Node, key: &str) -> &'a Node {
    let Value::Map(entries) = &node.value else { panic!("line {}: a map with {key}", node.line) };
    let entry = entries.iter().find(|entry| entry.key == key);
    &entry.unwrap_or_else(|| panic!("line {}: {key} is missing", node.line)).value
}

fn text(node: &Node) -> &str {
    let Value::Scalar(text) = &node.value else { panic!("line {}: a text", node.line) };
    text
}

fn list(node: &Node) -> &[Node] {
    let Value::List(nodes) = &node.value else { panic!("line {}: a list", node.line) };
    nodes
}

/// The metrics that a query or a text names; one that does not exist ends the test.
fn metrics_of(text: &str) -> Vec<&'static Metric> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("pyrite_") || word.starts_with("pyroscope_"))
        .map(|word| {
            // A text may name a histogram's family, a query only its series.
            let family = || net::telemetry::metrics::METRICS.iter().find(|m| m.name == word);
            metric_of(word)
                .or_else(family)
                .unwrap_or_else(|| panic!("{word} does not exist: {text}"))
        })
        .collect()
}

/// Checks the names of a query's metrics and of the labels it groups by.
fn check_query(query: &str) {
    let metrics = metrics_of(query);
    assert!(!metrics.is_empty(), "no metric: {query}");
    for grouping in query.split(" by (").skip(1) {
        for label in grouping.split(')').next().unwrap().split(", ") {
            let is_known = matches!(label, "instance" | "le")
                || metrics.iter().any(|metric| metric.labels.contains(&label));
            assert!(is_known, "no metric has the label {label}: {query}");
        }
    }
    let opened = query.matches('(').count() + query.matches('{').count();
    assert_eq!(opened, query.matches(')').count() + query.matches('}').count(), "{query}");
}

#[test]
fn every_alert_asks_for_metrics_that_exist_and_says_what_to_do() {
    let page = page("alerts.yaml");
    let alerts = yaml::read(&page).unwrap();
    let mut names = Vec::new();
    for group in list(get(&alerts, "groups")) {
        for rule in list(get(group, "rules")) {
            let name = text(get(rule, "alert"));
            check_query(text(get(rule, "expr")));
            assert!(
                matches!(text(get(get(rule, "labels"), "severity")), "page" | "ticket"),
                "{name}"
            );
            let annotations = get(rule, "annotations");
            for key in ["summary", "description"] {
                let text = text(get(annotations, key));
                metrics_of(text);
                assert!(text.len() > 20, "{name}: {key}");
            }
            names.push(name.to_owned());
        }
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert!(count > 10 && names.len() == count, "an alert's name means one rule: {names:?}");
}

#[test]
fn every_panel_of_the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(&page("dashboard.json")).unwrap();
    let mut ids = Vec::new();
    let mut rows = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        ids.push(panel["id"].as_u64().unwrap());
        if panel["type"] == "row" {
            rows.push(panel["title"].as_str().unwrap());
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            check_query(target["expr"].as_str().unwrap());
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{place}");
    }
    assert_eq!(rows, ["Pushes", "Refusals", "Latency", "Log", "Memory", "Shards", "Queries"]);
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "a panel's id is its own");
}
