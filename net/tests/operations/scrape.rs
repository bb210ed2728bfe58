//! `/metrics` of the real server after some traffic, read strictly and held against the table of metrics.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use net::telemetry::metrics::{Exposition, METRICS, MetricKind, metric_of};
use proto::rpc::MetricSample;

use crate::exposition::{self, Family};

/// Longest any single step may take on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(data: &std::path::Path) -> Self {
        let runtime = std::env::var("PYRITE_RUNTIME").unwrap_or_else(|_| "auto".to_owned());
        let mut child = Command::new(env!("CARGO_BIN_EXE_pyrite"))
            .arg(format!("-data.path={}", data.display()))
            .arg(format!("-runtime={runtime}"))
            .args(["-server.http-listen-address=127.0.0.1", "-server.http-listen-port=0"])
            .args(["-shards=2", "-auth.multitenancy-enabled"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.split_once(" address=")?.1.split(' ').next()?.to_owned();
            line.contains("msg=listening").then_some(address)
        });
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let server = Self { child, address: address.expect("it listens") };
        let given_up = Instant::now() + PATIENCE;
        while server.ask("GET", "/ready", "").0 != 200 {
            assert!(Instant::now() < given_up, "ready in time");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let len = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: team-a\r\nConnection: close\r\n"
        )
        .unwrap();
        write!(stream, "Content-Length: {len}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sum of a series over all whose labels hold these.
fn sum(families: &BTreeMap<String, Family>, series: &str, labels: &[(&str, &str)]) -> f64 {
    let family = &families[metric_of(series).unwrap().name];
    let holds = |found: &exposition::Labels| {
        labels.iter().all(|(name, value)| found.iter().any(|(n, v)| n == name && v == value))
    };
    let values = family.samples.iter().filter(|(name, found, _)| name == series && holds(found));
    values.map(|(_, _, value)| value).sum()
}

#[test]
fn what_a_server_exposes_is_valid_and_says_what_happened() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    for service in ["a", "b", "c"] {
        let path = format!("/ingest?name={service}&format=folded&from=now-10s&until=now");
        assert_eq!(server.ask("POST", &path, "main;work 5\n").0, 200);
    }
    assert_eq!(server.ask("POST", "/push.v1.PusherService/Push", "no content type").0, 415);
    assert_eq!(server.ask("GET", "/nowhere", "").0, 404);
    let (status, text) = server.ask("GET", "/metrics", "");
    assert_eq!(status, 200);
    let families = exposition::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for (name, family) in &families {
        let metric = METRICS.iter().find(|metric| metric.name == name).unwrap();
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
        };
        assert_eq!(family.kind, kind, "{name}");
        for (series, labels, _) in &family.samples {
            let labels = labels.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "le");
            assert!(
                labels.eq(metric.labels.iter().copied()),
                "{series} has the labels of the table"
            );
        }
    }
    let is = |series, labels: &[(&str, &str)], want: f64| {
        let found = sum(&families, series, labels);
        assert!((found - want).abs() < 1e-9, "{series}{labels:?} is {found}, not {want}");
    };
    is("pyrite_http_requests_total", &[("route", "/ingest"), ("status", "200")], 3.0);
    is("pyrite_http_request_seconds_count", &[("route", "/ingest")], 3.0);
    is("pyrite_http_requests_total", &[("status", "415")], 1.0);
    is("pyrite_http_request_seconds_count", &[("route", "other")], 1.0);
    is("pyroscope_distributor_profiles_received_total", &[("tenant", "team-a")], 3.0);
    is("pyrite_shard_profiles_total", &[], 3.0);
    is("pyrite_wal_records_total", &[], 3.0);
    is("pyrite_wal_unsynced_age_seconds", &[], 0.0);
    is("pyrite_shard_up", &[], 2.0);
    is("pyrite_recovery_done", &[], 2.0);
    is("pyrite_mesh_full_total", &[], 0.0);
    let commits = sum(&families, "pyrite_wal_commits_total", &[]);
    is("pyrite_wal_commit_seconds_count", &[], commits);
    is("pyrite_wal_sync_seconds_count", &[], commits);
    for stage in ["intake", "log", "head"] {
        let seconds = sum(&families, "pyrite_ingest_stage_seconds_total", &[("stage", stage)]);
        assert!(seconds > 0.0, "{stage}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = now.as_secs_f64() - sum(&families, "process_start_time_seconds", &[]);
    assert!((0.0..600.0).contains(&age), "started {age} s ago");
}

#[test]
fn what_clients_name_is_escaped() {
    let mut written = Exposition::default();
    let tenant = "a\"b\\c\nd{}=, é";
    let labels = vec![("reason", "r".to_owned()), ("tenant", tenant.to_owned())];
    written.add(MetricSample { name: "pyroscope_discarded_samples_total", labels, value: 1e21 });
    let families = exposition::read(&written.lines().collect::<String>()).unwrap();
    let (_, labels, value) = &families["pyroscope_discarded_samples_total"].samples[0];
    assert_eq!((labels[1].1.as_str(), value.to_string()), (tenant, 1e21.to_string()));
}
