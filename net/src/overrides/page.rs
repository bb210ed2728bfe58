//! What `GET /runtime_config` shows: the limits of every tenant that has some of its own, as a file of overrides says them.

use bytes::Bytes;
use engine::limits::Overrides;

use crate::config::limits_lines;
use crate::runtime::Spawn;

/// Writes the limits of all those tenants, or of them only what differs from the default ones; gives way between tenants.
pub async fn page(rt: &impl Spawn, overrides: &Overrides, only_changed: bool) -> Vec<Bytes> {
    let base = only_changed.then(|| &**overrides.default_limits());
    let mut blocks = Vec::new();
    for (tenant, limits) in overrides.tenants() {
        let lines = limits_lines(limits, base, "    ");
        if !lines.is_empty() {
            // A file may name what is no tenant id. A text of JSON is one of YAML, too.
            let tenant = serde_json::Value::from(tenant);
            blocks.push(Bytes::from(format!("  {tenant}:\n{lines}")));
        }
        rt.yield_if_needed().await;
    }
    let head: &[u8] = if blocks.is_empty() { b"overrides: {}\n" } else { b"overrides:\n" };
    blocks.insert(0, Bytes::from_static(head));
    blocks
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::limits::Limits;
    use futures_executor::block_on;

    use super::*;
    use crate::http::turns::Turns;
    use crate::overrides::Files;

    #[test]
    fn what_is_shown_is_read_as_the_same_overrides() {
        let default = Arc::new(Limits { ingestion_rate_mb: 7.0, ..Limits::default() });
        let own = Limits { max_query_length_ms: 7 * 86_400_000, ..(*default).clone() };
        let of_tenant = ["123", "a", "no: \"tenant\"\n"].map(|name| (name.to_owned(), own.clone()));
        let overrides = Overrides::new(Arc::clone(&default), of_tenant);
        let turns = Turns::default();
        for only_changed in [false, true] {
            let text = block_on(page(&turns, &overrides, only_changed)).concat();
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.contains("ingestion_rate_mb"), !only_changed, "{text}");
            let read = Files::of_text("shown", &text).parse(&default).unwrap();
            assert_eq!((read.overrides, read.not_honoured.len()), (overrides.clone(), 0), "{text}");
        }
        assert_eq!(turns.count(), 6, "a turn for each tenant");
    }

    #[test]
    fn a_tenant_with_the_default_limits_differs_in_nothing() {
        let of_tenant = [("a".to_owned(), Limits::default())];
        let overrides = Overrides::new(Arc::default(), of_tenant);
        let text = block_on(page(&Turns::default(), &overrides, true)).concat();
        assert_eq!(text, b"overrides: {}\n");
    }
}
