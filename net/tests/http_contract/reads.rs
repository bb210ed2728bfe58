//! Procedures and plain routes that read.

use bytes::Bytes;
use net::runtime::Class;
use prost::Message;
use proto::pprof::{Function, Location, Profile, Sample};
use proto::procedure::Procedure;
use proto::querier::ProfileTypesRequest;
use proto::rpc::{Code, Failure};

use crate::world::{World, gunzip, json_call, request};

const TENANT: (&str, &str) = ("x-scope-orgid", "t");

fn last_read(world: &World) -> String {
    world.api().reads.borrow_mut().pop().expect("a read arrived")
}

#[test]
fn every_procedure_calls_its_method_in_the_query_class() {
    let world = World::new();
    for procedure in Procedure::ALL.iter().filter(|procedure| **procedure != Procedure::Push) {
        let answer = world.http1(json_call(procedure.path(), &b"{}"[..]));
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "{}"), "{procedure:?}");
        let method = procedure.path().rsplit('/').next().unwrap();
        let called = last_read(&world);
        let called = called.split(' ').next().unwrap().replace('_', "");
        assert!(called.eq_ignore_ascii_case(method), "{called} for {method}");
        assert_eq!(world.spawned(), [Class::Query]);
    }
}

#[test]
fn arguments_arrive_in_either_codec() {
    let world = World::new();
    let path = Procedure::ProfileTypes.path();
    world.http1(json_call(path, &br#"{"start":"5","end":7,"zzz":1}"#[..]));
    let by_json = last_read(&world);
    let body = ProfileTypesRequest { start: 5, end: 7 }.encode_to_vec();
    world.http1(request("POST", path, &[TENANT, ("content-type", "application/proto")], body));
    assert_eq!(last_read(&world), by_json);
    assert_eq!(by_json, "profile_types t ProfileTypesRequest { start: 5, end: 7 }");
}

#[test]
fn utf8_names_are_given_to_clients_that_ask() {
    let world = World::new();
    for procedure in [Procedure::LabelNames, Procedure::Series] {
        world.http1(json_call(procedure.path(), &b"{}"[..]));
        assert!(last_read(&world).contains("(Legacy, "));
        let headers = [
            TENANT,
            ("content-type", "application/json"),
            ("accept", "*/*;allow-utf8-labelnames=true"),
        ];
        world.http1(request("POST", procedure.path(), &headers, &b"{}"[..]));
        assert!(last_read(&world).contains("(Utf8, "));
    }
}

#[test]
fn a_merged_profile_is_the_message_itself_and_compressed_on_request() {
    let world = World::new();
    let strings = (0..20_000).map(|i| if i == 0 { String::new() } else { format!("function {i}") });
    let profile = Profile {
        sample: (0..5_000)
            .map(|i| Sample { location_id: vec![i + 1, 1], value: vec![7], label: Vec::new() })
            .collect(),
        location: (1..=5_000).map(|id| Location { id, ..Default::default() }).collect(),
        function: (1..=5_000).map(|id| Function { id, ..Default::default() }).collect(),
        string_table: strings.collect(),
        time_nanos: 11,
        period: 12,
        default_sample_type: 1,
        ..Default::default()
    };
    *world.api().profile.borrow_mut() = profile.clone();
    let path = Procedure::SelectMergeProfile.path();
    let content_type = ("content-type", "application/proto");
    let plain = world.http1(request("POST", path, &[TENANT, content_type], Bytes::new()));
    assert_eq!(plain.header("content-type"), "application/proto");
    assert_eq!(plain.header("content-encoding"), "");
    assert!(Profile::decode(plain.body.clone()).unwrap() == profile, "the profile differs");

    for encodings in ["gzip", "br, gzip;q=0.8", "*"] {
        let headers = [TENANT, content_type, ("accept-encoding", encodings)];
        let packed = world.http1(request("POST", path, &headers, Bytes::new()));
        assert_eq!(packed.header("content-encoding"), "gzip", "{encodings}");
        assert!(packed.body.len() < plain.body.len() / 2);
        assert!(gunzip(&packed.body) == plain.body, "the bodies differ");
    }
    let refused = [TENANT, content_type, ("accept-encoding", "gzip;q=0, br")];
    let answer = world.http1(request("POST", path, &refused, Bytes::new()));
    assert_eq!(answer.header("content-encoding"), "");

    let json = world.http1(json_call(path, &b"{}"[..]));
    assert_eq!(proto::json::from_json::<Profile>(&json.body), Ok(profile));
}

#[test]
fn small_answers_are_not_compressed() {
    let world = World::new();
    let headers = [TENANT, ("accept-encoding", "gzip")];
    for (bytes, encoding) in [(1399, ""), (1400, "gzip")] {
        world.api().rendered_bytes.set(bytes);
        let answer = world.http1(request("GET", "/pyroscope/render?query=x", &headers, ""));
        assert_eq!(answer.header("content-encoding"), encoding, "{bytes}");
    }
}

#[test]
fn plain_routes_get_their_raw_query() {
    let world = World::new();
    for (path, method) in [
        ("/pyroscope/render", "render"),
        ("/pyroscope/render-diff", "render_diff"),
        ("/pyroscope/label-values", "label_values_legacy"),
    ] {
        let uri = format!("{path}?query=a%7B%7D&from=now-1h");
        let answer = world.http1(request("GET", &uri, &[("x-scope-orgid", "b|a")], ""));
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(last_read(&world), format!("{method} a|b \"query=a%7B%7D&from=now-1h\""));
        assert_eq!(world.spawned(), [Class::Query]);
        let answer = world.http1(request("POST", &uri, &[TENANT], ""));
        assert_eq!((answer.status.as_u16(), answer.text()), (405, ""));
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
}

#[test]
fn failures_have_the_status_of_their_route() {
    let world = World::new();
    *world.api().failure.borrow_mut() =
        Some(Failure::new(Code::Unimplemented, "", "spans are not kept yet"));
    let message = "spans are not kept yet".to_owned();
    let answer = world.http1(json_call(Procedure::SelectSeries.path(), &b"{}"[..]));
    assert_eq!(answer.error(), (501, "unimplemented".to_owned(), message.clone()));
    let answer = world.http1(request("GET", "/pyroscope/render", &[TENANT], ""));
    assert_eq!(answer.error(), (404, "unimplemented".to_owned(), message));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[test]
fn a_query_body_has_a_limit_of_its_own() {
    let body = format!(r#"{{"matchers":["{}"]}}"#, "x".repeat(256 << 10));
    let answer = World::new().http1(json_call(Procedure::Series.path(), body));
    assert_eq!(answer.error().0, 429);
}

#[test]
fn reads_wait_for_recovery_and_pushes_do_not() {
    let world = World::new();
    let reason = "recovering: 12 of 40 MiB of logs read".to_owned();
    *world.api().not_ready.borrow_mut() = Some(reason.clone());
    let answer = world.http1(json_call(Procedure::Series.path(), &b"{}"[..]));
    assert_eq!(answer.error(), (503, "unavailable".to_owned(), reason.clone()));
    let answer = world.http1(request("GET", "/pyroscope/render", &[TENANT], ""));
    assert_eq!(answer.error(), (503, "unavailable".to_owned(), reason));
    let answer = world.http1(json_call(Procedure::Push.path(), &b"{}"[..]));
    assert_eq!(answer.status.as_u16(), 200);
}

#[test]
fn the_clients_deadline_ends_the_query() {
    let world = World::new();
    let (open, gate) = futures_channel::oneshot::channel();
    *world.api().gate.borrow_mut() = Some(gate);
    let headers = [TENANT, ("content-type", "application/json"), ("connect-timeout-ms", "1500")];
    let call = request("POST", Procedure::Series.path(), &headers, &b"{}"[..]);
    let (status, code, message) = world.http1(call).error();
    assert_eq!((status, code.as_str()), (504, "deadline_exceeded"));
    assert!(message.starts_with("request timed out"), "{message}");
    world.settle();
    assert_eq!(world.api().ended_reads.get(), 1, "what ran for it has ended");
    drop(open);
}

#[test]
fn a_client_that_goes_away_ends_its_query() {
    let world = World::new();
    let (open, gate) = futures_channel::oneshot::channel();
    *world.api().gate.borrow_mut() = Some(gate);
    let mut stream = world.connect();
    let stream = world.run(async move {
        let call = "POST /querier.v1.QuerierService/Series HTTP/1.1\r\nhost: h\r\nx-scope-orgid: t\r\n\
                    content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        crate::world::write_all(&mut stream, call.as_bytes()).await;
        stream
    });
    world.settle();
    assert_eq!((world.api().reads.borrow().len(), world.api().ended_reads.get()), (1, 0));
    drop(stream);
    world.settle();
    assert_eq!(world.api().ended_reads.get(), 1);
    assert_eq!(world.server.counters().in_flight_requests(), 0);
    assert!(open.is_canceled());
}
