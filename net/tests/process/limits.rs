//! Limits of tenants at a node of two shards: they hold for the node, whichever shard a connection comes to.

use prost::Message as _;
use proto::pprof::{Function, Line, Location, Profile, Sample, ValueType};

use super::Server;

/// One stack and one series, so many bytes long or a bit more.
fn profile(bytes: usize) -> Vec<u8> {
    let texts = [String::new(), "cpu".to_owned(), "nanoseconds".to_owned(), "f".repeat(bytes)];
    let profile = Profile {
        string_table: texts.into(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        period_type: Some(ValueType { r#type: 1, unit: 2 }),
        sample: vec![Sample { location_id: vec![1], value: vec![1], label: Vec::new() }],
        location: vec![Location {
            id: 1,
            line: vec![Line { function_id: 1, line: 1 }],
            ..Location::default()
        }],
        function: vec![Function { id: 1, name: 3, ..Function::default() }],
        ..Profile::default()
    };
    profile.encode_to_vec()
}

fn retry_after(head: &str) -> Option<u64> {
    let line = head.lines().find_map(|line| line.strip_prefix("retry-after: "))?;
    Some(line.trim().parse().unwrap())
}

/// The sum of a metric over the shards.
fn metric(server: &Server, name: &str) -> f64 {
    let (_, text) = server.get("/metrics");
    let values = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn a_rate_holds_for_the_node_whichever_shard_takes_the_pushes() {
    let data = tempfile::tempdir().unwrap();
    // Ten profiles of 50 kB and no eleventh; then one every eight minutes.
    let rate =
        ["-distributor.ingestion-rate-limit-mb=0.0001", "-distributor.ingestion-burst-size-mb=0.5"];
    let server = Server::start(data.path(), &rate);
    let body = profile(50_000);
    let answers: Vec<_> =
        (0..40).map(|_| server.send("POST /ingest?name=app&format=pprof", "", &body)).collect();
    let taken = answers.iter().take_while(|(status, ..)| *status == 200).count();
    assert_eq!(taken, 10, "what the burst has room for");
    for (status, head, text) in &answers[taken..] {
        assert_eq!(*status, 429, "{text}");
        assert!(text.contains("push rate limit (104 B) exceeded while adding 49 KiB"), "{text}");
        let seconds = retry_after(head).expect("it says when there will be room");
        assert!((100..=300).contains(&seconds), "{seconds} s");
    }
    assert!(metric(&server, "pyrite_rate_asks_total") > 0.5, "both shards took some");
}

#[test]
fn limits_of_one_tenant_hold_for_the_node_and_for_no_other() {
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = files.path().join("overrides.yaml");
    let own = "    max_global_series_per_tenant: 5\n    max_query_length: 1h\n";
    std::fs::write(&file, format!("overrides:\n  small:\n{own}")).unwrap();
    let flags = [
        "-auth.multitenancy-enabled",
        "-distributor.ingestion-rate-limit-mb=0",
        &format!("-runtime-config.file={}", file.display()),
    ];
    let server = Server::start(data.path(), &flags);
    let body = profile(1);
    let push = |tenant: &str, service: usize| {
        let path = format!("POST /ingest?name=service-{service}&format=pprof");
        server.send(&path, &format!("X-Scope-OrgID: {tenant}\r\n"), &body)
    };
    for service in 0..12 {
        assert_eq!(push("large", service).0, 200);
        let (status, head, text) = push("small", service);
        if service < 5 {
            assert_eq!(status, 200, "{text}");
            continue;
        }
        assert_eq!((status, retry_after(&head)), (429, Some(60)), "{text}");
        assert!(text.contains("Maximum active series limit exceeded (5/5), reduce the"), "{text}");
    }
    assert_eq!(push("small", 0).0, 200, "a series that is there goes on");
    assert!((metric(&server, "pyrite_head_series") - 17.0).abs() < 0.5);

    let ask = |tenant: &str, method_and_path: &str, body: &str| {
        let headers = format!("X-Scope-OrgID: {tenant}\r\nContent-Type: application/json\r\n");
        let (status, _, text) = server.send(method_and_path, &headers, body.as_bytes());
        (status, text)
    };
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = now_ms.as_millis();
    let query = format!(
        "{{\"profileTypeID\":\"process_cpu:cpu:nanoseconds:cpu:nanoseconds\",\"labelSelector\":\"{{}}\",\"start\":{},\"end\":{until}}}",
        until - 7_200_000
    );
    let read = "POST /querier.v1.QuerierService/SelectMergeStacktraces";
    assert_eq!(ask("large", read, &query).0, 200);
    let text =
        "the query time range exceeds the limit (max_query_length, actual: 2h0m0s, limit: 1h)";
    let refused = format!("{{\"code\":\"invalid_argument\",\"message\":\"{text}\"}}");
    assert_eq!(ask("small", read, &query), (400, refused));

    let shown = server.get("/runtime_config?mode=diff");
    assert_eq!(shown, (200, format!("overrides:\n  \"small\":\n{own}")));
    let limits = ask("small", "GET /api/v1/tenant_limits", "");
    assert!(limits.1.contains("\"max_global_series_per_user\":5"), "{}", limits.1);
}
