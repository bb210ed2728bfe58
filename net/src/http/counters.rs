//! What the HTTP server of a shard counts.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proto::rpc::MetricSample;

use crate::telemetry::histogram::{LatencyHistogram, histogram_names};

/// Plain counters of one shard; gathered as samples for `/metrics`.
#[derive(Debug, Default)]
pub struct HttpCounters {
    connections: Cell<u64>,
    refused_connections: Cell<u64>,
    write_timeouts: Cell<u64>,
    in_flight_requests: Cell<u64>,
    health_watches: Cell<usize>,
    /// By route and status. Both come from this module's own tables, so the number of entries is bounded by them.
    requests: RefCell<BTreeMap<(&'static str, u16), u64>>,
    /// How long requests took, by route: as bounded.
    durations: RefCell<BTreeMap<&'static str, LatencyHistogram>>,
}

impl HttpCounters {
    pub(super) fn count_connection(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    pub(super) fn count_refused_connection(&self) {
        self.refused_connections.set(self.refused_connections.get() + 1);
    }

    pub(super) fn count_write_timeout(&self) {
        self.write_timeouts.set(self.write_timeouts.get() + 1);
    }

    pub(super) fn count_request(&self, route: &'static str, status: u16, took_ns: u64) {
        *self.requests.borrow_mut().entry((route, status)).or_insert(0) += 1;
        self.durations.borrow_mut().entry(route).or_default().record(took_ns);
    }

    /// Health watches open now.
    pub fn health_watches(&self) -> usize {
        self.health_watches.get()
    }

    pub(super) fn set_health_watches(&self, count: usize) {
        self.health_watches.set(count);
    }

    /// Requests from their head until their reply is made, or until it has ended if it is a stream.
    pub fn in_flight_requests(&self) -> u64 {
        self.in_flight_requests.get()
    }

    pub(super) fn begin_request(&self) {
        self.in_flight_requests.set(self.in_flight_requests.get() + 1);
    }

    pub(super) fn end_request(&self) {
        let now = self.in_flight_requests.get().checked_sub(1);
        self.in_flight_requests.set(now.expect("a request ends once"));
    }

    /// The counters as samples; `open_connections` is the server's own count.
    pub fn samples(&self, open_connections: usize) -> Vec<MetricSample> {
        let plain = |name, value| MetricSample { name, labels: Vec::new(), value };
        let mut samples = vec![
            plain("pyrite_http_open_connections", open_connections as f64),
            plain("pyrite_http_connections_total", self.connections.get() as f64),
            plain("pyrite_http_connections_refused_total", self.refused_connections.get() as f64),
            plain("pyrite_http_write_timeouts_total", self.write_timeouts.get() as f64),
            plain("pyrite_http_health_watches", self.health_watches.get() as f64),
            plain("pyrite_http_requests_in_flight", self.in_flight_requests.get() as f64),
        ];
        samples.extend(self.requests.borrow().iter().map(|((route, status), count)| {
            MetricSample {
                name: "pyrite_http_requests_total",
                labels: vec![("route", (*route).to_owned()), ("status", status.to_string())],
                value: *count as f64,
            }
        }));
        for (route, durations) in &*self.durations.borrow() {
            let labels = [("route", (*route).to_owned())];
            let names = histogram_names!("pyrite_http_request_seconds");
            durations.add_samples(names, &labels, &mut samples);
        }
        samples
    }
}
