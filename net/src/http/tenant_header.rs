//! Whose data a request is about: `X-Scope-OrgID`, or everybody's one tenant when multitenancy is off.
//!
//! There is no authentication; a proxy in front decides who may name which tenant.

use engine::tenant::{TenantError, TenantId};
use http::HeaderMap;
use proto::rpc::{Code, Failure};

const HEADER: &str = "x-scope-orgid";

/// Whether requests name their tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tenancy {
    /// The header is ignored; all data is `anonymous`'s.
    Single,
    /// The header is required.
    Multi,
}

/// The tenant of a write: exactly one.
pub(super) fn tenant_of_write(tenancy: Tenancy, headers: &HeaderMap) -> Result<TenantId, Failure> {
    let mut tenants = tenants_of_read(tenancy, headers)?;
    match tenants.len() {
        1 => Ok(tenants.swap_remove(0)),
        _ => Err(unauthenticated("multiple org IDs present")),
    }
}

/// The tenants of a read, joined with `|` in the header: sorted, distinct, at least one.
pub(super) fn tenants_of_read(
    tenancy: Tenancy,
    headers: &HeaderMap,
) -> Result<Vec<TenantId>, Failure> {
    if tenancy == Tenancy::Single {
        return Ok(vec![TenantId::anonymous()]);
    }
    let missing = || unauthenticated(TenantError::Missing);
    let value = headers.get(HEADER).ok_or_else(missing)?;
    let text = value.to_str().map_err(|_| unauthenticated("org id is not printable ASCII"))?;
    TenantId::parse_joined(text).map_err(unauthenticated)
}

fn unauthenticated(text: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Unauthenticated, "", text.to_string())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static(value));
        headers
    }

    fn message(failure: Failure) -> String {
        assert_eq!(failure.code, Code::Unauthenticated);
        failure.message
    }

    #[test]
    fn without_multitenancy_the_header_is_ignored() {
        let anonymous = TenantId::anonymous();
        assert_eq!(tenant_of_write(Tenancy::Single, &headers("a/b")), Ok(anonymous.clone()));
        assert_eq!(tenants_of_read(Tenancy::Single, &HeaderMap::new()), Ok(vec![anonymous]));
    }

    #[test]
    fn a_missing_or_empty_header_is_no_org_id() {
        for headers in [HeaderMap::new(), headers("")] {
            let failure = tenant_of_write(Tenancy::Multi, &headers).unwrap_err();
            assert_eq!(message(failure), "no org id");
            let failure = tenants_of_read(Tenancy::Multi, &headers).unwrap_err();
            assert_eq!(message(failure), "no org id");
        }
    }

    #[test]
    fn reads_take_several_tenants_and_writes_one() {
        let tenants = tenants_of_read(Tenancy::Multi, &headers("b|a|b")).unwrap();
        assert_eq!(tenants.iter().map(TenantId::as_str).collect::<Vec<_>>(), ["a", "b"]);
        let failure = tenant_of_write(Tenancy::Multi, &headers("b|a")).unwrap_err();
        assert_eq!(message(failure), "multiple org IDs present");
        assert_eq!(tenant_of_write(Tenancy::Multi, &headers("a|a")).unwrap().as_str(), "a");
    }

    #[test]
    fn illegal_ids_are_refused() {
        let failure = tenants_of_read(Tenancy::Multi, &headers("ok|../x")).unwrap_err();
        assert_eq!(message(failure), "tenant ID '../x' contains unsupported character '/'");
    }
}
