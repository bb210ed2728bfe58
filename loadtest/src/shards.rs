//! How a server's shards share the profiles: its own count, read from `/metrics`.

use serde_json::{Map, Value, json};

use crate::client::{Address, Connection};

/// Profiles stored, by the shard that owns them.
const METRIC: &str = "pyrite_shard_profiles_total";

/// Profiles by shard, as an object; `null` where the server does not count them.
pub fn profiles(address: &Address) -> Value {
    let answer = Connection::open(address, None).and_then(|mut open| open.get("/metrics"));
    answer
        .ok()
        .filter(|answer| answer.status == 200)
        .map_or(Value::Null, |page| parse(&page.text()))
}

fn parse(page: &str) -> Value {
    let counts: Map<String, Value> = page.lines().filter_map(count).collect();
    if counts.is_empty() { Value::Null } else { Value::Object(counts) }
}

fn count(line: &str) -> Option<(String, Value)> {
    let labels = line.strip_prefix(METRIC)?.strip_prefix('{')?;
    let (labels, value) = labels.split_once('}')?;
    let shard = labels.split(',').find_map(|label| label.strip_prefix("shard=\""))?;
    let value: f64 = value.trim().parse().ok()?;
    Some((shard.trim_end_matches('"').to_owned(), json!(value as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_read_by_number() {
        let page = "# TYPE pyrite_shard_profiles_total counter\n\
                    pyrite_shard_profiles_total{shard=\"0\"} 12\n\
                    pyrite_shard_profiles_total{shard=\"1\"} 7\n\
                    pyrite_shard_profiles_replayed_total{shard=\"1\"} 9\n";
        assert_eq!(parse(page), json!({"0": 12, "1": 7}));
        assert_eq!(parse("go_goroutines 5\n"), Value::Null);
    }
}
