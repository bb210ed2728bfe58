//! Whose data a request is about.

use net::http::{HttpConfig, Tenancy};
use proto::procedure::Procedure;

use crate::world::{World, request};

fn unauthenticated(message: &str) -> (u16, String, String) {
    (401, "unauthenticated".to_owned(), message.to_owned())
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_missing_tenant_is_refused_everywhere_before_the_body_is_read() {
    let world = World::new();
    for procedure in Procedure::ALL {
        let answer = world.http1(request("POST", procedure.path(), &[JSON], &b"{nope"[..]));
        assert_eq!(answer.error(), unauthenticated("no org id"), "{procedure:?}");
    }
    for (method, path) in [
        ("POST", "/ingest"),
        ("POST", "/pyroscope/ingest"),
        ("GET", "/pyroscope/render"),
        ("GET", "/pyroscope/render-diff"),
        ("GET", "/pyroscope/label-values"),
        ("GET", "/api/v1/tenant_limits"),
    ] {
        let answer = world.http1(request(method, path, &[], ""));
        assert_eq!(answer.error(), unauthenticated("no org id"), "{path}");
    }
}

#[test]
fn reads_join_tenants_and_writes_take_one() {
    let world = World::new();
    let both = ("x-scope-orgid", "b|a|b");
    world.http1(request("POST", Procedure::Series.path(), &[JSON, both], &b"{}"[..]));
    assert!(world.api().reads.borrow()[0].starts_with("series a|b "));
    for path in [Procedure::Push.path(), "/ingest?name=a"] {
        let answer = world.http1(request("POST", path, &[JSON, both], &b"{}"[..]));
        assert_eq!(answer.error(), unauthenticated("multiple org IDs present"));
    }
}

#[test]
fn without_multitenancy_everything_is_anonymous() {
    let config = HttpConfig { tenancy: Tenancy::Single, ..HttpConfig::default() };
    let world = World::with(config, 1 << 30);
    for headers in [vec![JSON], vec![JSON, ("x-scope-orgid", "somebody|else")]] {
        world.http1(request("POST", Procedure::Push.path(), &headers, &b"{}"[..]));
        world.http1(request("POST", Procedure::Series.path(), &headers, &b"{}"[..]));
        assert_eq!(world.api().pushes.borrow_mut().pop().unwrap().0, "anonymous");
        assert!(world.api().reads.borrow_mut().pop().unwrap().starts_with("series anonymous "));
    }
}
