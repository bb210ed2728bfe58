//! Durations counted in buckets, in plain cells of one shard.
//!
//! One set of bounds serves all: from a fast disk's sync to a request that someone gave up on. Not here: polls, whose bounds lie around
//! the 2 ms that law 9 allows (`runtime::polls`).

use std::cell::Cell;

use proto::rpc::MetricSample;

/// Upper bounds of the buckets, nanoseconds. The last bucket is open.
pub const LATENCY_BUCKETS_NS: [u64; 15] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];

/// Durations of one kind. Recording one allocates nothing.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    buckets: [Cell<u64>; LATENCY_BUCKETS_NS.len() + 1],
    total_ns: Cell<u64>,
}

impl LatencyHistogram {
    /// Counts one, nanoseconds.
    pub fn record(&self, took_ns: u64) {
        let bucket = &self.buckets[LATENCY_BUCKETS_NS.partition_point(|bound| *bound < took_ns)];
        bucket.set(bucket.get() + 1);
        self.total_ns.set(self.total_ns.get().saturating_add(took_ns));
    }

    /// Sum of all, nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.total_ns.get()
    }

    /// Adds its series under `names` and `labels`, to which the bounds come.
    pub fn add_samples(
        &self,
        names: HistogramNames,
        labels: &[(&'static str, String)],
        samples: &mut Vec<MetricSample>,
    ) {
        let buckets = self.buckets.iter().map(Cell::get);
        add_histogram(names, labels, &LATENCY_BUCKETS_NS, buckets, self.total_ns.get(), samples);
    }
}

/// Names of a histogram's series.
#[derive(Clone, Copy, Debug)]
pub struct HistogramNames {
    /// `…_bucket`.
    pub bucket: &'static str,
    /// `…_sum`.
    pub sum: &'static str,
    /// `…_count`.
    pub count: &'static str,
}

/// Makes the names of a histogram's series from its own.
macro_rules! histogram_names {
    ($name:literal) => {
        $crate::telemetry::histogram::HistogramNames {
            bucket: concat!($name, "_bucket"),
            sum: concat!($name, "_sum"),
            count: concat!($name, "_count"),
        }
    };
}
pub(crate) use histogram_names;

/// Adds the series of a histogram in seconds. `buckets` has one count more than there are bounds, not cumulated.
pub fn add_histogram(
    names: HistogramNames,
    labels: &[(&'static str, String)],
    bounds_ns: &[u64],
    buckets: impl Iterator<Item = u64>,
    total_ns: u64,
    samples: &mut Vec<MetricSample>,
) {
    const NS: f64 = 1e9;
    let bounds = bounds_ns.iter().map(|ns| (*ns as f64 / NS).to_string());
    let mut count = 0;
    for (bucket, bound) in buckets.zip(bounds.chain(["+Inf".to_owned()])) {
        count += bucket;
        let mut labels = labels.to_vec();
        labels.push(("le", bound));
        samples.push(MetricSample { name: names.bucket, labels, value: count as f64 });
    }
    let mut add = |name, value| samples.push(MetricSample { name, labels: labels.to_vec(), value });
    add(names.sum, total_ns as f64 / NS);
    add(names.count, count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cumulate_and_what_lies_on_a_bound_is_below_it() {
        let histogram = LatencyHistogram::default();
        for took_ns in [100_000, 100_001, 20_000_000_000] {
            histogram.record(took_ns);
        }
        let mut samples = Vec::new();
        let labels = [("shard", "0".to_owned())];
        histogram.add_samples(histogram_names!("x_seconds"), &labels, &mut samples);
        let bucket = |le: &str| {
            let of =
                |sample: &&MetricSample| sample.labels.last().unwrap() == &("le", le.to_owned());
            samples.iter().find(of).unwrap().value as u64
        };
        assert_eq!(
            [bucket("0.0001"), bucket("0.00025"), bucket("10"), bucket("+Inf")],
            [1, 2, 2, 3]
        );
        let [.., sum, count] = samples.as_slice() else { panic!("a sum and a count come last") };
        assert_eq!((sum.name, sum.value.to_string().as_str()), ("x_seconds_sum", "20.000200001"));
        assert_eq!((count.name, count.value as u64), ("x_seconds_count", 3));
    }
}
