//! Reads of a node of two shards under the simulated runtime: profiles enter at the distributor, questions at the querier. The
//! expected answers are the conformance kit's, where it is at hand.

mod limits;

use std::future::Future;
use std::rc::Rc;

use engine::head::HeadOptions;
use engine::limits::Limits;
use engine::route::ShardId;
use engine::spread::SpreadOptions;
use futures_util::future::poll_immediate;
use prost::Message;
use proto::pprof::{self, Profile};
use proto::rpc::select::{SelectReply, SelectRequest, Selection};
use proto::rpc::spread::{Spread, SpreadRequest};
use proto::rpc::{Code, Request};
use proto::types::{Location, StackTraceSelector, TimeSeriesAggregationType};
use serde_json::Value;

use super::*;
use crate::budget::Budget;
use crate::component::distributor::PushedSeries;
use crate::mesh;
use crate::pressure::Pressure;
use crate::readiness::Readiness;
use crate::runtime::Clock;
use crate::runtime::sim::{NodeId, Sim, World};
use crate::shard::{Shard, ShardSettings};
use crate::wal::{Log, Settings};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const SAMPLES: &str = "process_cpu:samples:count:cpu:nanoseconds";
const BASIC: [(&str, [i64; 2]); 3] = [
    ("main;work;hash", [3, 30_000_000]),
    ("main;work;hash;compress", [2, 20_000_000]),
    ("main;idle", [1, 10_000_000]),
];

/// A node whose time is `t0_ms` plus a quarter of an hour, as in the kit.
struct Node {
    world: World,
    runtimes: Vec<Sim>,
    shards: Vec<Rc<Shard<Sim>>>,
    querier: Rc<Querier<Sim>>,
    readiness: Readiness,
    budgets: Vec<ShardBudget>,
    t0_ms: i64,
}

impl Node {
    fn start() -> Self {
        let node = Self::recovering();
        for shard in 0..2 {
            node.readiness.set_recovered(ShardId(shard));
        }
        node
    }

    fn recovering() -> Self {
        const SHARDS: u16 = 2;
        let world = World::new(7);
        let limits = TenantLimits::from(Limits {
            ingestion_rate_mb: 1000.0,
            ingestion_burst_size_mb: 1000.0,
            ..Limits::default()
        });
        let pressure = Pressure::new(SHARDS);
        let budget = Budget::new(1 << 30, SHARDS);
        let readiness = Readiness::new(SHARDS);
        let (peers, inboxes) = mesh::queues(SHARDS);
        let mut runtimes = Vec::new();
        let mut shards = Vec::new();
        let budgets: Vec<_> = (0..SHARDS).map(|id| budget.of_shard(ShardId(id))).collect();
        for (id, inbox) in (0..SHARDS).zip(inboxes) {
            let rt = world.shard(NodeId(0), id);
            let settings = Settings { segment_bytes: 1 << 20, ..Settings::default() };
            let log =
                world.complete(&rt, Log::create(rt.clone(), 1, id, settings)).unwrap().unwrap();
            let settings = ShardSettings {
                limits: limits.clone(),
                budget: budgets[usize::from(id)].clone(),
                heads: HeadOptions { chunk_bytes_max: 512, ..HeadOptions::default() },
                spread: SpreadOptions::default(),
                pressure: pressure.clone(),
                origin: 1 + u128::from(id),
                cuts: crate::blocks::Settings::default(),
                retention: crate::blocks::RetentionSettings::default(),
                readiness: readiness.clone(),
            };
            let mesh = Mesh::new(ShardId(id), peers.clone());
            shards.push(Shard::start(rt.clone(), mesh, inbox, settings, log));
            runtimes.push(rt);
        }
        let mut word = 3;
        let secret = HashSecret::from_words(|| {
            word += 5;
            word
        });
        let own_budget = budgets[0].clone();
        let querier =
            Querier::new(runtimes[0].clone(), shards[0].mesh().clone(), limits, secret, own_budget);
        let t0_ms = runtimes[0].unix_ms() / 15_000 * 15_000 - 900_000;
        Self { querier: Rc::new(querier), world, runtimes, shards, readiness, budgets, t0_ms }
    }

    fn ms(&self, seconds: f64) -> i64 {
        self.t0_ms + (seconds * 1000.0) as i64
    }

    fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        self.world.complete(&self.runtimes[0], future).expect("the world goes on until it ends")
    }

    /// Pushes one profile; labels are `service_name` and more.
    fn push(
        &self,
        tenant: &str,
        labels: &[(&str, &str)],
        stacks: &[(&str, [i64; 2])],
        seconds: f64,
    ) {
        let mut all = vec![("__name__".to_owned(), "process_cpu".to_owned())];
        all.extend(labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let profile = message(stacks, self.ms(seconds) * 1_000_000).encode_to_vec();
        let pushed = PushedSeries { labels: all, naming: None, profiles: vec![profile.into()] };
        let (shard, tenant) = (Rc::clone(&self.shards[1]), TenantId::parse(tenant).unwrap());
        self.run(async move {
            shard.distributor().push_series(&tenant, vec![pushed], Vec::new()).await
        })
        .expect("a small good profile is stored");
    }

    fn ask<T: 'static, F: Future<Output = Result<T, Failure>> + 'static>(
        &self,
        tenants: &str,
        question: impl FnOnce(Rc<Querier<Sim>>, Vec<TenantId>) -> F,
    ) -> Result<T, Failure> {
        let tenants = TenantId::parse_joined(tenants).unwrap();
        self.run(question(Rc::clone(&self.querier), tenants))
    }

    fn stacks(&self, selector: &str) -> SelectMergeStacktracesRequest {
        SelectMergeStacktracesRequest {
            profile_type_id: CPU.to_owned(),
            label_selector: selector.to_owned(),
            start: self.ms(-300.0),
            end: self.ms(600.0),
            ..SelectMergeStacktracesRequest::default()
        }
    }

    fn merged(
        &self,
        tenants: &str,
        request: SelectMergeStacktracesRequest,
    ) -> Result<SelectMergeStacktracesResponse, Failure> {
        self.ask(tenants, |q, t| async move { q.select_merge_stacktraces(t, request).await })
    }

    fn time_series(
        &self,
        change: impl FnOnce(&mut SelectSeriesRequest),
    ) -> Vec<(String, Vec<(i64, f64)>)> {
        let mut request = SelectSeriesRequest {
            profile_type_id: CPU.to_owned(),
            label_selector: "{}".to_owned(),
            start: self.ms(0.0),
            end: self.ms(60.0),
            step: 15.0,
            ..SelectSeriesRequest::default()
        };
        change(&mut request);
        let response =
            self.ask("t", |q, t| async move { q.select_series(t, request).await }).unwrap();
        let labels = |labels: &[proto::types::LabelPair]| {
            labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect::<Vec<_>>().join(",")
        };
        let points = |series: &proto::types::Series| {
            series.points.iter().map(|p| (p.timestamp - self.t0_ms, p.value)).collect()
        };
        response.series.iter().map(|s| (labels(&s.labels), points(s))).collect()
    }

    fn rendered(&self, query: String) -> Result<(&'static str, String), Failure> {
        let rendered = self.ask("t", |q, t| async move {
            if query.contains("leftQuery") {
                q.render_diff(t, &query).await
            } else {
                q.render(t, &query).await
            }
        })?;
        Ok((rendered.content_type, String::from_utf8(rendered.body.to_vec()).unwrap()))
    }
}

/// A pprof of two sample types, as the kit makes it.
fn message(stacks: &[(&str, [i64; 2])], time_nanos: i64) -> Profile {
    let mut texts: Vec<String> =
        ["", "samples", "count", "cpu", "nanoseconds", "bin/app"].map(str::to_owned).to_vec();
    let mut profile = Profile {
        sample_type: vec![
            pprof::ValueType { r#type: 1, unit: 2 },
            pprof::ValueType { r#type: 3, unit: 4 },
        ],
        period_type: Some(pprof::ValueType { r#type: 3, unit: 4 }),
        period: 10_000_000,
        mapping: vec![pprof::Mapping {
            id: 1,
            filename: 5,
            has_functions: true,
            ..pprof::Mapping::default()
        }],
        time_nanos,
        ..Profile::default()
    };
    for (stack, values) in stacks {
        let mut location_id = Vec::new();
        for name in stack.rsplit(';') {
            let known =
                profile.function.iter().find(|f| texts[f.name as usize] == name).map(|f| f.id);
            location_id.push(known.unwrap_or_else(|| {
                texts.push(name.to_owned());
                let (id, name) = (profile.function.len() as u64 + 1, texts.len() as i64 - 1);
                profile.function.push(pprof::Function { id, name, ..pprof::Function::default() });
                let line = vec![pprof::Line { function_id: id, line: id as i64 * 10 }];
                profile.location.push(pprof::Location {
                    id,
                    mapping_id: 1,
                    line,
                    ..pprof::Location::default()
                });
                id
            }));
        }
        profile.sample.push(pprof::Sample {
            location_id,
            value: values.to_vec(),
            ..pprof::Sample::default()
        });
    }
    profile.string_table = texts;
    profile
}

fn times(stacks: &[(&'static str, [i64; 2])], factor: i64) -> Vec<(&'static str, [i64; 2])> {
    stacks.iter().map(|(stack, values)| (*stack, values.map(|v| v * factor))).collect()
}

/// An answer of the conformance kit; its amendments replace steps.
fn kit_answers(set: &str, case: &str) -> Option<Value> {
    let shared = std::env::var("PYRITE_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").to_owned());
    let path = format!("{shared}/conformance/expected/{set}/{case}.json");
    let Ok(bytes) = std::fs::read(&path) else {
        println!("skipped: no {path}; set PYRITE_SHARED");
        return None;
    };
    let mut answers: Value = serde_json::from_slice(&bytes).unwrap();
    let amended = format!("{shared}/conformance/expected/amended/{set}/{case}.json");
    if let Ok(bytes) = std::fs::read(amended) {
        let amended: Value = serde_json::from_slice(&bytes).unwrap();
        for (step, answer) in amended.as_object().unwrap() {
            answers[step] = answer.clone();
        }
    }
    Some(answers)
}

/// Rows of four or seven numbers as the kit tells them: `path total self`, twice for a diff.
fn nodes(names: &[String], rows: &[Vec<i64>], size: usize) -> Vec<String> {
    let mut above: Vec<([i64; 2], [i64; 2], String)> = Vec::new();
    let mut all = Vec::new();
    for row in rows {
        let (mut here, mut x) = (Vec::new(), [0_i64; 2]);
        for group in row.chunks(size) {
            let sums = if size == 4 { [group[1], 0] } else { [group[1], group[4]] };
            x[0] += group[0];
            x[1] += if size == 4 { 0 } else { group[3] };
            let inside = |from: &[i64; 2], of: &[i64; 2]| {
                (0..2).all(|s| from[s] <= x[s] && x[s] + sums[s] <= from[s] + of[s])
            };
            let parent = above.iter().find(|(from, of, _)| inside(from, of));
            let name = &names[group[size - 1] as usize];
            let path = parent.map_or_else(|| name.clone(), |(.., path)| format!("{path};{name}"));
            all.push(if size == 4 {
                format!("{path} {} {}", group[1], group[2])
            } else {
                format!("{path} {} {} {} {}", group[1], group[2], group[4], group[5])
            });
            here.push((x, sums, path));
            x = [x[0] + sums[0], x[1] + sums[1]];
        }
        above = here;
    }
    all.sort();
    all
}

fn flame_nodes(response: &SelectMergeStacktracesResponse) -> Vec<String> {
    let graph = response.flamegraph.as_ref().expect("the format asked for");
    let rows: Vec<_> = graph.levels.iter().map(|level| level.values.clone()).collect();
    nodes(&graph.names, &rows, 4)
}

/// A rendered answer in the kit's canonical form.
fn flamebearer(text: &str, t0_ms: i64) -> Value {
    fn relative(value: &mut Value, t0_ms: i64) {
        if let Some(object) = value.as_object_mut() {
            object.remove("watermarks");
            for (key, value) in object {
                if key == "startTime" {
                    *value = format!("T0{:+}ms", value.as_i64().unwrap() * 1000 - t0_ms).into();
                } else {
                    relative(value, t0_ms);
                }
            }
        }
    }
    let body: Value = serde_json::from_str(text).unwrap();
    let bearer = &body["flamebearer"];
    let names: Vec<String> = serde_json::from_value(bearer["names"].clone()).unwrap();
    let rows: Vec<Vec<i64>> = serde_json::from_value(bearer["levels"].clone()).unwrap();
    let size = if body["metadata"]["format"] == "double" { 7 } else { 4 };
    assert_eq!(body["version"], 1);
    assert!(body.as_object().unwrap().contains_key("heatmap"));
    let mut told = serde_json::json!({
        "total": bearer["numTicks"].to_string(), "maxSelf": bearer["maxSelf"].to_string(),
        "metadata": body["metadata"], "timeline": body["timeline"], "groups": body["groups"],
        "leftTicks": body["leftTicks"], "rightTicks": body["rightTicks"],
        "nodes": nodes(&names, &rows, size),
    });
    relative(&mut told, t0_ms);
    told
}

/// A query string; the test's own values need only these characters encoded.
fn query(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.replace('{', "%7B")
            .replace('}', "%7D")
            .replace('"', "%22")
            .replace('=', "%3D")
            .replace(' ', "+")
    };
    pairs.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect::<Vec<_>>().join("&")
}

#[test]
fn the_kits_renders_come_out() {
    let Some(answers) = kit_answers("monolith", "render_and_render_diff") else { return };
    let node = Node::start();
    let a = [("service_name", "a"), ("env", "x")];
    node.push("t", &a, &BASIC, 0.0);
    node.push("t", &a, &times(&BASIC, 2), 60.0);
    node.push("t", &[("service_name", "b"), ("env", "y")], &times(&BASIC, 4), 0.0);
    let (from, until) = (node.ms(-60.0).to_string(), node.ms(120.0).to_string());
    let of = |service: &str| format!("{CPU}{{service_name=\"{service}\"}}");
    let (of_a, of_b, of_all) = (of("a"), of("b"), format!("{CPU}{{}}"));
    let range = [("from", from.as_str()), ("until", until.as_str())];
    let render = |more: &[(&str, &str)]| {
        let (kind, text) = node.rendered(query(&[&range[..], more].concat())).unwrap();
        assert_eq!(kind, "application/json");
        flamebearer(&text, node.t0_ms)
    };
    assert_eq!(render(&[("query", &of_a)]), answers["render"]);
    assert_eq!(render(&[("query", &of_all), ("groupBy", "service_name")]), answers["grouped"]);
    assert_eq!(render(&[("query", &of_all), ("max-nodes", "2")]), answers["max_nodes"]);
    let sides = [
        ("leftQuery", of_a.as_str()),
        ("leftFrom", &from),
        ("leftUntil", &until),
        ("rightQuery", &of_b),
        ("rightFrom", &from),
        ("rightUntil", &until),
    ];
    let (_, text) = node.rendered(query(&sides)).unwrap();
    assert_eq!(flamebearer(&text, node.t0_ms), answers["diff"]);

    let (kind, dot) = node
        .rendered(query(&[&range[..], &[("query", &of_a), ("format", "dot")]].concat()))
        .unwrap();
    assert_eq!(kind, "text/plain");
    let legend =
        |line: &&str| ["Showing nodes", "Type:", "Dropped"].iter().any(|s| line.starts_with(s));
    let mut lines: Vec<&str> = dot.split("\\l").map(str::trim).filter(legend).collect();
    lines.sort_unstable();
    assert_eq!(serde_json::json!(lines), answers["dot"]);
}

type Change = fn(&Node, &mut SelectMergeStacktracesRequest);

#[test]
fn the_kits_errors_come_out() {
    let Some(answers) = kit_answers("errors", "query_errors") else { return };
    let node = Node::start();
    let check = |step: &str, failure: Failure| {
        let body = &answers[step]["body"];
        assert_eq!(failure.code, Code::InvalidArgument, "{step}: {failure:?}");
        match body["message"]["starts"].as_str() {
            Some(start) => {
                assert!(failure.message.starts_with(start), "{step}: {}", failure.message);
            }
            None => assert_eq!(body["message"], failure.message, "{step}"),
        }
    };
    let changes: [(&str, Change); 10] = [
        ("no_type", |_, r| r.profile_type_id = String::new()),
        ("bad_type", |_, r| r.profile_type_id = "cpu".to_owned()),
        ("bad_selector", |_, r| r.label_selector = "{a=}".to_owned()),
        ("empty_selector", |_, r| r.label_selector = String::new()),
        ("bad_regex", |_, r| r.label_selector = "{a=~\"(\"}".to_owned()),
        ("no_range", |_, r| (r.start, r.end) = (0, 0)),
        ("backwards", |n, r| (r.start, r.end) = (n.ms(600.0), n.ms(-300.0))),
        ("too_long", |n, r| r.start = n.ms(-300.0 - 86_400.0 * 3.0)),
        ("too_many_nodes", |_, r| r.max_nodes = Some(2_000_000)),
        ("negative_nodes", |_, r| r.max_nodes = Some(-1)),
    ];
    for (name, change) in changes {
        let mut request = node.stacks("{}");
        change(&node, &mut request);
        check(&format!("merge.{name}"), node.merged("t", request.clone()).unwrap_err());
        if name.ends_with("nodes") {
            continue;
        }
        let profile = SelectMergeProfileRequest {
            profile_type_id: request.profile_type_id.clone(),
            label_selector: request.label_selector.clone(),
            start: request.start,
            end: request.end,
            ..SelectMergeProfileRequest::default()
        };
        let failure = node.ask("t", |q, t| async move { q.select_merge_profile(t, profile).await });
        check(&format!("pprof.{name}"), failure.unwrap_err());
        let series = SelectSeriesRequest {
            profile_type_id: request.profile_type_id,
            label_selector: request.label_selector,
            start: request.start,
            end: request.end,
            step: 15.0,
            ..SelectSeriesRequest::default()
        };
        let failure = node.ask("t", |q, t| async move { q.select_series(t, series).await });
        check(&format!("series.{name}"), failure.unwrap_err());
    }
    let diff = DiffRequest { left: Some(node.stacks("{}")), right: None };
    check("diff.one_side", node.ask("t", |q, t| async move { q.diff(t, diff).await }).unwrap_err());
    let values = LabelValuesRequest {
        start: node.ms(0.0),
        end: node.ms(1.0),
        ..LabelValuesRequest::default()
    };
    check(
        "values.no_name",
        node.ask("t", |q, t| async move { q.label_values(t, values).await }).unwrap_err(),
    );
    let step = SelectSeriesRequest {
        profile_type_id: CPU.to_owned(),
        label_selector: "{}".to_owned(),
        start: node.ms(0.0),
        end: node.ms(1.0),
        ..SelectSeriesRequest::default()
    };
    check(
        "series.step_0",
        node.ask("t", |q, t| async move { q.select_series(t, step).await }).unwrap_err(),
    );

    let (from, until) = (node.ms(-60.0).to_string(), node.ms(120.0).to_string());
    let of_all = format!("{CPU}{{}}");
    for (step, from, until, text) in [
        ("render.no_query", &from, &until, None),
        ("render.no_type", &from, &until, Some("{a=\"b\"}")),
        ("render.bad_type", &from, &until, Some("cpu{}")),
        ("render.backwards", &until, &from, Some(of_all.as_str())),
    ] {
        let mut pairs = vec![("from", from.as_str()), ("until", until)];
        pairs.extend(text.map(|text| ("query", text)));
        check(step, node.rendered(query(&pairs)).unwrap_err());
    }
    let bad_nodes =
        [("query", of_all.as_str()), ("from", &from), ("until", &until), ("max-nodes", "x")];
    assert!(node.rendered(query(&bad_nodes)).is_ok(), "what is no number is absent");
    let samples = format!("{SAMPLES}{{}}");
    let types = [("leftQuery", of_all.as_str()), ("rightQuery", &samples)];
    check("diff.types", node.rendered(query(&types)).unwrap_err());
}

#[test]
fn one_profile_is_found_by_every_method() {
    let node = Node::start();
    node.push("t", &[("service_name", "shop"), ("env", "prod"), ("dotted.name", "v")], &BASIC, 0.0);
    let (start, end) = (node.ms(-300.0), node.ms(600.0));
    let types = ProfileTypesRequest { start, end };
    let types = node.ask("t", |q, t| async move { q.profile_types(t, types).await }).unwrap();
    let ids: Vec<_> = types.profile_types.iter().map(|t| t.id.as_str()).collect();
    assert_eq!(ids, [CPU, SAMPLES]);
    assert_eq!(types.profile_types[1].sample_unit, "count");
    let without_range = ProfileTypesRequest::default();
    let types =
        node.ask("t", |q, t| async move { q.profile_types(t, without_range).await }).unwrap();
    assert_eq!(types.profile_types.len(), 2, "no range is the last hour");

    let names = |charset| {
        let request = LabelNamesRequest { start, end, ..LabelNamesRequest::default() };
        node.ask("t", move |q, t| async move { q.label_names(t, charset, request).await })
            .unwrap()
            .names
    };
    let legacy = names(NameCharset::Legacy);
    assert!(
        legacy.contains(&"__profile_type__".to_owned())
            && !legacy.contains(&"dotted.name".to_owned())
    );
    assert!(names(NameCharset::Utf8).contains(&"dotted.name".to_owned()));

    let series = |names: &[&str]| {
        let label_names = names.iter().map(ToString::to_string).collect();
        let request = SeriesRequest { start, end, label_names, ..SeriesRequest::default() };
        node.ask("t", |q, t| async move { q.series(t, NameCharset::Legacy, request).await })
            .unwrap()
            .labels_set
    };
    assert_eq!(series(&["service_name"]).len(), 1);
    assert_eq!(series(&["__type__"]).len(), 2);
    assert!(series(&["nope"]).is_empty());
    assert!(series(&[]).iter().all(|set| set.labels.iter().all(|l| l.name != "dotted.name")));

    assert_eq!(
        flame_nodes(&node.merged("t", node.stacks("{\"dotted.name\"=\"v\"}")).unwrap()).len(),
        6
    );
    let format = |format: proto::querier::ProfileFormat| {
        let request =
            SelectMergeStacktracesRequest { format: format.into(), ..node.stacks("{env='prod'}") };
        node.merged("t", request).unwrap()
    };
    assert!(!format(proto::querier::ProfileFormat::Tree).tree.is_empty());
    assert!(format(proto::querier::ProfileFormat::Dot).dot.contains("Type: cpu"));
    let pprof = format(proto::querier::ProfileFormat::Pprof).pprof.unwrap().profile.unwrap();
    assert_eq!(pprof.sample.iter().map(|s| s.value[0]).sum::<i64>(), 60_000_000);
    assert_eq!((pprof.time_nanos, pprof.period), (end * 1_000_000, 1_000_000_000));

    let stats = node
        .ask("t", |q, t| async move { q.get_profile_stats(t, GetProfileStatsRequest {}).await })
        .unwrap();
    assert_eq!((stats.data_ingested, stats.oldest_profile_time), (true, node.t0_ms));
    let (_, labels) = node.rendered_labels("label=__name__");
    assert_eq!(labels, format!("[\"{CPU}\",\"{SAMPLES}\"]\n"));
    assert_eq!(node.rendered_labels("label=env").1, "[\"prod\"]\n");
}

impl Node {
    fn rendered_labels(&self, query: &'static str) -> (&'static str, String) {
        let rendered = self
            .ask("t", move |q, t| async move { q.label_values_legacy(t, query).await })
            .unwrap();
        (rendered.content_type, String::from_utf8(rendered.body.to_vec()).unwrap())
    }
}

#[test]
fn nothing_is_answered_as_clients_expect_nothing() {
    let node = Node::start();
    let empty = node.merged("t", node.stacks("{}")).unwrap().flamegraph.unwrap();
    assert_eq!(
        (empty.names.as_slice(), empty.levels.len(), empty.total),
        (&["total".to_owned()][..], 1, 0)
    );
    assert_eq!(empty.levels[0].values, [0, 0, 0, 0]);
    let request = SelectMergeProfileRequest {
        profile_type_id: CPU.to_owned(),
        label_selector: "{}".to_owned(),
        start: node.ms(0.0),
        end: node.ms(1.0),
        ..SelectMergeProfileRequest::default()
    };
    let profile =
        node.ask("t", |q, t| async move { q.select_merge_profile(t, request).await }).unwrap();
    assert_eq!(profile, WrittenProfile::default());
    assert!(node.time_series(|_| ()).is_empty());
    let stats = |tenants: &str| {
        node.ask(
            tenants,
            |q, t| async move { q.get_profile_stats(t, GetProfileStatsRequest {}).await },
        )
    };
    assert_eq!(stats("t").unwrap(), GetProfileStatsResponse::default());
    assert_eq!(stats("a|b").unwrap_err().message, "expected 1 tenant, got 2");
    // what lies before the lookback is not even looked for
    let month = 30.0 * 86_400.0;
    let old = SelectMergeStacktracesRequest {
        start: node.ms(-month),
        end: node.ms(10.0 - month),
        ..node.stacks("{}")
    };
    assert_eq!(node.merged("t", old).unwrap().flamegraph.unwrap().levels.len(), 1);
}

#[test]
fn services_of_both_shards_and_tenants_asked_for_are_merged() {
    let node = Node::start();
    for service in ["a", "b", "c", "d", "e", "f"] {
        node.push("t", &[("service_name", service)], &[("main", [1, 10])], 0.0);
    }
    node.push("u", &[("service_name", "a")], &[("main", [1, 1000])], 0.0);
    node.push("v", &[("service_name", "a")], &[("main", [1, 100_000])], 0.0);
    let shards: std::collections::BTreeSet<_> = ["a", "b", "c", "d", "e", "f"]
        .map(|service| engine::route::shard_of("t", service, 0, 2))
        .into_iter()
        .collect();
    assert_eq!(shards.len(), 2, "both shards own some of the services");
    for (tenants, total) in [("t", 60), ("t|u", 1060), ("v|u|v", 101_000), ("w", 0)] {
        let graph = node.merged(tenants, node.stacks("{}")).unwrap().flamegraph.unwrap();
        assert_eq!(graph.total, total, "{tenants}");
    }
}

/// Its profiles lie in two heads of two shards; nobody who asks can tell.
#[test]
fn a_series_from_before_and_after_a_change_of_splits_is_one() {
    let node = Node::start();
    let labels = |pod| [("service_name", "hot"), ("pod", pod)];
    let pods: Vec<String> = (0..8).map(|pod| pod.to_string()).collect();
    for splits in [1, 2] {
        let spread = Some(Spread { splits, deal: 0 });
        let (tenant, service_name) = ("t".to_owned(), "hot".to_owned());
        let mesh = node.shards[1].mesh().clone();
        let request = Request::Spread(SpreadRequest { tenant, service_name, spread });
        node.run(async move { mesh.call(ShardId(1), request).await }).expect("it is told");
        for pod in &pods {
            node.push("t", &labels(pod), &[("main", [1, 10])], 0.0);
        }
    }
    let has_data = |shard: &Rc<Shard<Sim>>| shard.log().metrics().records.get() > 0;
    assert!(node.shards.iter().all(has_data), "some pods have moved");
    let request = SeriesRequest {
        start: node.ms(-60.0),
        end: node.ms(60.0),
        label_names: vec!["pod".to_owned()],
        ..SeriesRequest::default()
    };
    let sets = node.ask("t", |q, t| async move { q.series(t, NameCharset::Utf8, request).await });
    assert_eq!(sets.unwrap().labels_set.len(), pods.len());
    let each: Vec<_> = pods.iter().map(|pod| (format!("pod={pod}"), vec![(0, 20.0)])).collect();
    let mut grouped = node.time_series(|r| r.group_by = vec!["pod".to_owned()]);
    grouped.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(grouped, each);
    let graph = node.merged("t", node.stacks("{}")).unwrap().flamegraph.unwrap();
    assert_eq!(graph.total, 160);
}

#[test]
fn averages_limits_and_call_sites_of_series_are_honoured() {
    let node = Node::start();
    node.push(
        "t",
        &[("service_name", "g"), ("pod", "1")],
        &[("main;a", [1, 10]), ("other", [1, 7])],
        0.0,
    );
    node.push("t", &[("service_name", "g"), ("pod", "1")], &[("main;b", [1, 30])], 5.0);
    node.push("t", &[("service_name", "h"), ("pod", "2")], &[("main;a", [1, 100])], 5.0);
    let grouped = node.time_series(|r| r.group_by = vec!["pod".to_owned()]);
    assert_eq!(
        grouped,
        [
            ("pod=2".to_owned(), vec![(15_000, 100.0)]),
            ("pod=1".to_owned(), vec![(0, 17.0), (15_000, 30.0)])
        ]
    );
    let limited = node.time_series(|r| (r.group_by, r.limit) = (vec!["pod".to_owned()], Some(1)));
    assert_eq!(limited, grouped[..1]);
    let average =
        node.time_series(|r| r.aggregation = Some(TimeSeriesAggregationType::Average.into()));
    assert_eq!(average, [(String::new(), vec![(0, 17.0), (15_000, 65.0)])]);
    let main =
        StackTraceSelector { call_site: vec![Location { name: "main".to_owned() }], go_pgo: None };
    let below = node.time_series(|r| r.stack_trace_selector = Some(main));
    assert_eq!(below, [(String::new(), vec![(0, 10.0), (15_000, 130.0)])]);
}

#[test]
fn reads_wait_for_recovery_and_what_is_not_kept_is_refused_in_words() {
    let node = Node::recovering();
    let failure = node.merged("t", node.stacks("{}")).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("recovery has read"), "{}", failure.message);

    let node = Node::start();
    let spans =
        SelectMergeStacktracesRequest { span_selector: vec!["0".repeat(16)], ..node.stacks("{}") };
    let failure = node.merged("t", spans.clone()).unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (Code::Unimplemented, "span_selector is not supported yet")
    );
    let both = SelectMergeStacktracesRequest { trace_id_selector: vec!["0".repeat(32)], ..spans };
    assert_eq!(
        node.merged("t", both).unwrap_err().message,
        "span_selector and trace_id_selector cannot be combined"
    );
    assert_eq!(node.querier.samples()[0].value as i64, 0, "every slot is given back");
}

/// A matcher that is written out again for the second question must mean the same.
#[test]
fn a_rendered_selector_keeps_every_character() {
    let node = Node::start();
    node.push("t", &[("service_name", "a \"b\\c\nd")], &[("main", [1, 10])], 0.0);
    let (from, until) = (node.ms(-60.0).to_string(), node.ms(60.0).to_string());
    let text = format!("{CPU}{{service_name=\"a \\\"b\\\\c\\nd\"}}");
    let encoded =
        query(&[("query", &text), ("from", &from), ("until", &until)]).replace('\\', "%5C");
    let (_, body) = node.rendered(encoded).unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["flamebearer"]["numTicks"], 10);
    assert_eq!(
        body["timeline"]["samples"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_u64)
            .sum::<u64>(),
        10
    );
}

/// A body of 4 MiB may name 700,000 labels, and every shard would compare them for every series in one step.
#[test]
fn long_lists_of_names_are_refused_before_a_shard_sees_them() {
    let node = Node::start();
    let names = |count: usize| (0..count).map(|i| format!("l{i}")).collect::<Vec<_>>();
    assert!(node.time_series(|r| r.group_by = names(256)).is_empty());
    let (start, end) = (node.ms(0.0), node.ms(60.0));
    let series = SelectSeriesRequest {
        profile_type_id: CPU.to_owned(),
        label_selector: "{}".to_owned(),
        start,
        end,
        step: 15.0,
        ..SelectSeriesRequest::default()
    };
    let of_groups = SelectSeriesRequest { group_by: names(257), ..series.clone() };
    let call_site = names(1025).into_iter().map(|name| Location { name }).collect();
    let stack_trace_selector = Some(StackTraceSelector { call_site, go_pgo: None });
    let of_stacks = SelectSeriesRequest { stack_trace_selector, ..series };
    for (request, text) in [
        (of_groups, "group_by has 257 entries, limit 256"),
        (of_stacks, "call_site has 1025 entries, limit 1024"),
    ] {
        let failure =
            node.ask("t", |q, t| async move { q.select_series(t, request).await }).unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (Code::InvalidArgument, text));
    }
    let of_labels = SeriesRequest { label_names: names(257), ..SeriesRequest::default() };
    let of_selectors =
        SeriesRequest { matchers: vec!["{}".to_owned(); 257], ..SeriesRequest::default() };
    for (request, text) in [
        (of_labels, "label_names has 257 entries, limit 256"),
        (of_selectors, "matchers has 257 entries, limit 256"),
    ] {
        let ask =
            |q: Rc<Querier<Sim>>, t| async move { q.series(t, NameCharset::Utf8, request).await };
        assert_eq!(node.ask("t", ask).unwrap_err().message, text);
    }
}

/// A request that a shard has taken from the mesh, and the call that waits for it.
async fn asked(rt: &Sim) -> (mesh::Responder, impl Future<Output = ()>) {
    let (peers, mut inboxes) = mesh::queues(1);
    let own = Mesh::new(ShardId(0), peers);
    let (calling, pumping, rt) = (own.clone(), own, rt.clone());
    let mut call = Box::pin(async move {
        let _ = calling.call(ShardId(0), Request::Metrics).await;
    });
    assert!(poll_immediate(&mut call).await.is_none(), "no reply yet");
    let (taken, mut takes) = futures_channel::mpsc::unbounded();
    let inbox = inboxes.remove(0);
    let mut pump = Box::pin(async move {
        pumping.pump(&rt, inbox, |_, responder| taken.unbounded_send(responder).unwrap()).await;
    });
    while poll_immediate(&mut pump).await.is_none() {
        if let Ok(responder) = takes.try_recv() {
            return (responder, call);
        }
    }
    unreachable!("the mesh lives as long as its call")
}

fn tree_request() -> SelectRequest {
    let selection = Selection {
        tenants: vec!["t".to_owned()],
        matchers: Vec::new(),
        start_ms: 1,
        end_ms: i64::MAX,
    };
    SelectRequest::Tree { selection, call_site: Vec::new() }
}

/// Dropping a question gave its slot back while every shard went on with a read that nobody waited for.
#[test]
fn a_shard_gives_up_a_read_that_nobody_waits_for() {
    let node = Node::start();
    node.push("t", &[("service_name", "a")], &[("main", [1, 10])], 0.0);
    let (shard, rt) = (Rc::clone(&node.shards[0]), node.runtimes[0].clone());
    node.run(async move {
        let (responder, call) = asked(&rt).await;
        let whole = shard.run_select(tree_request(), &responder).await;
        assert!(matches!(whole, SelectReply::Tree(_)), "{whole:?}");
        drop(call);
        let given_up = shard.run_select(tree_request(), &responder).await;
        let SelectReply::Failed(failure) = given_up else { panic!("it went on: {given_up:?}") };
        assert_eq!(failure.code, Code::Canceled);
    });
}

/// Reads held dense sums as long as a head's tree, 256 of them at a time, beside the memory limit.
#[test]
fn a_read_stays_within_the_memory_limit() {
    let node = Node::start();
    let stack: Vec<_> = (0..100).map(|i| format!("f{i}")).collect();
    node.push("t", &[("service_name", "a")], &[(stack.join(";").as_str(), [1, 10])], 0.0);
    let owner = usize::from(engine::route::shard_of("t", "a", 0, 2).0);
    let budget = node.budgets[owner].clone();
    let left = budget.budget().limit_bytes() - budget.budget().accounted_bytes();
    let read = |spare: u64| {
        let (shard, rt) = (Rc::clone(&node.shards[owner]), node.runtimes[owner].clone());
        let before = budget.budget().accounted_bytes();
        let held = budget.hold(left - spare);
        let reply = node.run(async move {
            let (responder, _call) = asked(&rt).await;
            shard.run_select(tree_request(), &responder).await
        });
        drop(held);
        assert_eq!(budget.budget().accounted_bytes(), before, "what was held is given back");
        reply
    };
    let refused = read(100 * 8);
    let SelectReply::Failed(failure) = refused else { panic!("it was let through: {refused:?}") };
    assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, "memory_limit"));
    assert!(matches!(read(64 << 10), SelectReply::Tree(_)));
}
