//! The plain reads of older clients: `/pyroscope/render`, `/render-diff`, `/label-values`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use engine::flamegraph;
use engine::ingest::attime;
use engine::labels::{name, parse_selector};
use engine::pace::Pace;
use engine::profile_type::ProfileType;
use engine::query::{Timeline, timeline_step_s};
use engine::tenant::TenantId;
use proto::querier::{DiffRequest, Level, SelectMergeStacktracesRequest, SelectSeriesRequest};
use proto::rpc::Failure;
use proto::rpc::select::{MatchOp, MatcherText};
use proto::types::{LabelValuesRequest, Series, TimeSeriesAggregationType};

use super::Querier;
use super::request::{StacksRequest, refused};
use crate::http::Rendered;
use crate::runtime::Runtime;

const JSON: &str = "application/json";

/// What one side of a render asks for.
struct Side {
    profile_type: ProfileType,
    request: SelectMergeStacktracesRequest,
}

/// A query string: of a parameter given twice the first counts, an empty one is absent.
struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    fn parse(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    fn get(&self, wanted: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_ref()).filter(|value| !value.is_empty())
    }

    fn all(&self, wanted: &str) -> Vec<String> {
        let found = self.0.iter().filter(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone().into_owned()).collect()
    }

    /// `maxNodes` before `max-nodes`; what is no number is absent.
    fn max_nodes(&self) -> Option<i64> {
        let number = |name| self.get(name).and_then(|text| text.parse().ok()).filter(|n| *n != 0);
        number("maxNodes").or_else(|| number("max-nodes"))
    }

    /// `query`, `from` and `until` under the given names.
    fn side(&self, [query, from, until]: [&str; 3], now_ns: i64) -> Result<Side, Failure> {
        let text = self.get(query).ok_or_else(|| refused(format!("{query:?} is required")))?;
        let parsed = parse_selector(text)
            .map_err(|error| refused(format!("failed to parse {query:?}: {error}")))?;
        let (names, matchers): (Vec<_>, Vec<_>) = parsed.iter().partition(|m| m.name == name::NAME);
        let profile_type = names
            .last()
            .ok_or_else(|| refused(format!("{query:?} must contain a profile-type selection")))?;
        let profile_type = ProfileType::parse(&profile_type.value)
            .map_err(|_| refused(format!("failed to parse {query:?}")))?;
        let time_ms = |name| {
            let time_ns = self.get(name).map_or(now_ns, |text| attime(text, now_ns));
            time_ns.div_euclid(1_000_000)
        };
        let request = SelectMergeStacktracesRequest {
            profile_type_id: profile_type.id().to_owned(),
            label_selector: selector_of(&matchers),
            start: time_ms(from),
            end: time_ms(until),
            max_nodes: self.max_nodes(),
            ..SelectMergeStacktracesRequest::default()
        };
        Ok(Side { profile_type, request })
    }
}

/// Matchers as a selector again.
fn selector_of(matchers: &[&MatcherText]) -> String {
    let mut text = String::from("{");
    for MatcherText { name, op, value } in matchers.iter().copied() {
        let op = match op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        put(&mut text, format_args!("{}{op}{},", quoted(name), quoted(value)));
    }
    text.push('}');
    text
}

/// A string of selectors; of Go's escapes it needs those three.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

impl<R: Runtime> Querier<R> {
    fn now_ns(&self) -> i64 {
        self.rt.unix_ms().saturating_mul(1_000_000)
    }

    /// `/pyroscope/render`.
    pub(super) async fn rendered(
        &self,
        tenants: &[TenantId],
        query: &str,
    ) -> Result<Rendered, Failure> {
        let params = Params::parse(query);
        let Side { profile_type, request } =
            params.side(["query", "from", "until"], self.now_ns())?;
        if params.get("format") == Some("dot") {
            let dot = self.dot(tenants, request.into()).await?;
            return Ok(Rendered { content_type: "text/plain", body: Bytes::from(dot) });
        }
        let (start_ms, end_ms) = (request.start, request.end);
        let step_s = timeline_step_s(start_ms, end_ms);
        let group_by = params.all("groupBy");
        let aggregation = match params.get("aggregation") {
            Some("avg") => TimeSeriesAggregationType::Average,
            _ => TimeSeriesAggregationType::Sum,
        };
        let series_request = SelectSeriesRequest {
            profile_type_id: request.profile_type_id.clone(),
            label_selector: request.label_selector.clone(),
            start: start_ms,
            end: end_ms,
            group_by: group_by.clone(),
            step: step_s as f64,
            aggregation: Some(aggregation.into()),
            ..SelectSeriesRequest::default()
        };
        let pace = Pace::new();
        let (tree, nodes_max) = self.tree(tenants, &StacksRequest::from(request), &pace).await?;
        let graph = flamegraph::flame_graph(&tree, nodes_max, &pace).await;
        drop(tree);
        let series = self.time_series(tenants, &series_request).await?;

        let timeline_of = |series: &Series| Timeline::of(series, start_ms, end_ms, step_s);
        let only = match series.as_slice() {
            [one] => timeline_of(one),
            _ => timeline_of(&Series::default()),
        };
        let mut json = Json::default();
        json.flamebearer(&graph.names, &graph.levels, graph.total, graph.max_self, &pace).await;
        json.metadata("single", &profile_type);
        json.raw(",\"timeline\":").timeline(&only, &pace).await;
        json.raw(",\"groups\":");
        match group_by.first() {
            None => {
                json.raw("null");
            }
            Some(name) => {
                // Only the first name tells the groups apart; of equal ones the last counts.
                let groups: BTreeMap<_, _> =
                    series.iter().map(|series| (group_of(series, name), series)).collect();
                json.raw("{");
                for (at, (name, series)) in groups.into_iter().enumerate() {
                    json.raw(if at > 0 { "," } else { "" }).text(name).raw(":");
                    json.timeline(&timeline_of(series), &pace).await;
                }
                json.raw("}");
            }
        }
        json.raw(",\"heatmap\":null}\n");
        Ok(json.finish())
    }

    /// `/pyroscope/render-diff`.
    pub(super) async fn rendered_diff(
        &self,
        tenants: &[TenantId],
        query: &str,
    ) -> Result<Rendered, Failure> {
        let params = Params::parse(query);
        let now_ns = self.now_ns();
        let left = params.side(["leftQuery", "leftFrom", "leftUntil"], now_ns)?;
        let right = params.side(["rightQuery", "rightFrom", "rightUntil"], now_ns)?;
        if left.profile_type != right.profile_type {
            return Err(refused("profile types must match"));
        }
        let request = DiffRequest { left: Some(left.request), right: Some(right.request) };
        let graph = self.flame_graph_diff(tenants, request).await?;
        let pace = Pace::new();
        let mut json = Json::default();
        json.flamebearer(&graph.names, &graph.levels, graph.total, graph.max_self, &pace).await;
        json.metadata("double", &left.profile_type);
        json.raw(",\"timeline\":null,\"groups\":null,\"heatmap\":null");
        for (name, ticks) in [("leftTicks", graph.left_ticks), ("rightTicks", graph.right_ticks)] {
            if ticks != 0 {
                put(&mut json.0, format_args!(",\"{name}\":{ticks}"));
            }
        }
        json.raw("}\n");
        Ok(json.finish())
    }

    /// `/pyroscope/label-values`: values of the last hour; `__name__` stands for the profile types.
    pub(super) async fn rendered_label_values(
        &self,
        tenants: &[TenantId],
        query: &str,
    ) -> Result<Rendered, Failure> {
        let params = Params::parse(query);
        let label = params.get("label").ok_or_else(|| refused("label parameter is required"))?;
        let values = if label == name::NAME {
            let types = self.types_of(tenants, self.range_or_last_hour(tenants, 0, 0)?).await?;
            types.into_iter().map(|profile_type| profile_type.id).collect()
        } else {
            let name = label.to_owned();
            self.values_of(tenants, LabelValuesRequest { name, ..LabelValuesRequest::default() })
                .await?
        };
        let (mut json, pace) = (Json::default(), Pace::new());
        json.raw("[");
        for (at, value) in values.iter().enumerate() {
            json.raw(if at > 0 { "," } else { "" }).text(value);
            pace.spend(2).await;
        }
        json.raw("]\n");
        Ok(json.finish())
    }
}

/// The value by which a group is told from others.
fn group_of<'a>(series: &'a Series, name: &str) -> &'a str {
    series.labels.iter().find(|label| label.name == name).map_or("*", |label| &label.value)
}

/// JSON written piece by piece: a flame graph may have a million numbers, and a tree of values would hold the shard.
#[derive(Default)]
struct Json(String);

impl Json {
    async fn flamebearer(
        &mut self,
        names: &[String],
        levels: &[Level],
        total: i64,
        max_self: i64,
        pace: &Pace,
    ) {
        self.raw("{\"version\":1,\"flamebearer\":{\"names\":[");
        for (at, name) in names.iter().enumerate() {
            self.raw(if at > 0 { "," } else { "" }).text(name);
            pace.spend(2).await;
        }
        self.raw("],\"levels\":[");
        for (at, level) in levels.iter().enumerate() {
            self.raw(if at > 0 { ",[" } else { "[" });
            for (at, value) in level.values.iter().enumerate() {
                put(&mut self.0, format_args!("{}{value}", if at > 0 { "," } else { "" }));
                pace.spend(1).await;
            }
            self.raw("]");
        }
        put(&mut self.0, format_args!("],\"numTicks\":{total},\"maxSelf\":{max_self}}}"));
    }

    /// Units and rates are what the flame graph component of older Grafanas knows.
    fn metadata(&mut self, format: &str, profile_type: &ProfileType) {
        let (units, sample_rate) = match profile_type.sample_type() {
            "inuse_objects" | "alloc_objects" | "goroutine" | "samples" => ("objects", 100),
            "cpu" => ("samples", 1_000_000_000),
            _ => (profile_type.sample_unit(), 100),
        };
        put(
            &mut self.0,
            format_args!(
                ",\"metadata\":{{\"format\":\"{format}\",\"spyName\":\"\",\"sampleRate\":{sample_rate},\"units\":"
            ),
        );
        self.text(units).raw(",\"name\":").text(profile_type.sample_type()).raw("}");
    }

    async fn timeline(&mut self, timeline: &Timeline, pace: &Pace) {
        put(&mut self.0, format_args!("{{\"startTime\":{},\"samples\":[", timeline.start_s));
        for (at, sample) in timeline.samples.iter().enumerate() {
            put(&mut self.0, format_args!("{}{sample}", if at > 0 { "," } else { "" }));
            pace.spend(1).await;
        }
        let step_s = timeline.step_s;
        put(&mut self.0, format_args!("],\"durationDelta\":{step_s},\"watermarks\":null}}"));
    }

    fn text(&mut self, text: &str) -> &mut Self {
        let quoted = serde_json::to_string(text).expect("a text is JSON");
        self.raw(&quoted)
    }

    fn raw(&mut self, json: &str) -> &mut Self {
        self.0.push_str(json);
        self
    }

    fn finish(self) -> Rendered {
        Rendered { content_type: JSON, body: Bytes::from(self.0) }
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}
