//! What a request asks for, checked: range, profile type, selector. The order of checks is Pyroscope's, for clients match on
//! the text of the first failure.

use engine::labels::{PatternCheck, parse_selector, parse_selector_within};
use engine::profile_type::ProfileType;
use engine::query::Range;
use engine::tenant::TenantId;
use proto::querier::{SelectMergeProfileRequest, SelectMergeStacktracesRequest};
use proto::rpc::select::{MatchOp, MatcherText, Selection};
use proto::rpc::{Code, Failure};
use proto::types::StackTraceSelector;

use super::Querier;
use crate::runtime::Runtime;

/// Names in a list of a read at most (labels to group by, label names, selectors): every shard goes through such a list for
/// every series, and no dashboard has so many.
const NAMES_MAX: usize = 256;

/// Functions of a call site at most: every shard keeps the list, and no stack is deeper by default.
const CALL_SITE_FRAMES_MAX: usize = 1024;

/// A merge of stacks, whichever method asks for it.
#[derive(Clone, Debug, Default)]
pub(super) struct StacksRequest {
    pub(super) profile_type_id: String,
    pub(super) label_selector: String,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) max_nodes: Option<i64>,
    pub(super) stack_trace_selector: Option<StackTraceSelector>,
    /// Names of selectors that are given and not served yet.
    pub(super) unserved: Option<&'static str>,
}

impl From<SelectMergeStacktracesRequest> for StacksRequest {
    fn from(request: SelectMergeStacktracesRequest) -> Self {
        let unserved = [
            ("profile_id_selector", request.profile_id_selector.is_empty()),
            ("trace_id_selector", request.trace_id_selector.is_empty()),
            ("span_selector", request.span_selector.is_empty()),
        ];
        Self {
            profile_type_id: request.profile_type_id,
            label_selector: request.label_selector,
            start_ms: request.start,
            end_ms: request.end,
            max_nodes: request.max_nodes,
            stack_trace_selector: request.stack_trace_selector,
            unserved: unserved.into_iter().find(|(_, is_empty)| !is_empty).map(|(name, _)| name),
        }
    }
}

/// The deprecated request asks for the same, with fewer selectors.
impl From<SelectMergeProfileRequest> for StacksRequest {
    fn from(request: SelectMergeProfileRequest) -> Self {
        Self::from(SelectMergeStacktracesRequest {
            profile_type_id: request.profile_type_id,
            label_selector: request.label_selector,
            start: request.start,
            end: request.end,
            max_nodes: request.max_nodes,
            stack_trace_selector: request.stack_trace_selector,
            profile_id_selector: request.profile_id_selector,
            trace_id_selector: request.trace_id_selector,
            ..SelectMergeStacktracesRequest::default()
        })
    }
}

impl StacksRequest {
    /// Function names, root first.
    pub(super) fn call_site(&self) -> Result<Vec<String>, Failure> {
        call_site(self.stack_trace_selector.as_ref())
    }

    /// Refuses what is kept but not looked up by yet.
    pub(super) fn check_served(&self) -> Result<(), Failure> {
        self.unserved
            .map_or(Ok(()), |name| Err(unimplemented(format!("{name} is not supported yet"))))
    }
}

/// Function names of a call site, root first.
pub(super) fn call_site(selector: Option<&StackTraceSelector>) -> Result<Vec<String>, Failure> {
    let frames = selector.map_or(&[][..], |selector| &selector.call_site);
    if frames.len() > CALL_SITE_FRAMES_MAX {
        return Err(too_many("call_site", frames.len(), CALL_SITE_FRAMES_MAX));
    }
    Ok(frames.iter().map(|frame| frame.name.clone()).collect())
}

/// Refuses a list that is too long to be gone through for every series.
pub(super) fn check_names(field: &str, names: &[String]) -> Result<(), Failure> {
    if names.len() > NAMES_MAX {
        return Err(too_many(field, names.len(), NAMES_MAX));
    }
    Ok(())
}

fn too_many(field: &str, given: usize, limit: usize) -> Failure {
    refused(format!("{field} has {given} entries, limit {limit}"))
}

impl<R: Runtime> Querier<R> {
    /// `None`: nothing can be there.
    pub(super) fn range(
        &self,
        tenants: &[TenantId],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Option<Range>, Failure> {
        let limits = self.limits.of_read(tenants);
        Range::checked(start_ms, end_ms, &limits, self.rt.unix_ms()).map_err(refused)
    }

    /// The same; 0 to 0 is the last hour.
    pub(super) fn range_or_last_hour(
        &self,
        tenants: &[TenantId],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Option<Range>, Failure> {
        let limits = self.limits.of_read(tenants);
        Range::checked_or_last_hour(start_ms, end_ms, &limits, self.rt.unix_ms()).map_err(refused)
    }
}

/// What to read of a range.
pub(super) fn selection(
    tenants: &[TenantId],
    range: Range,
    matchers: Vec<MatcherText>,
) -> Selection {
    Selection {
        tenants: tenants.iter().map(|tenant| tenant.as_str().to_owned()).collect(),
        matchers,
        start_ms: range.start_ms,
        end_ms: range.end_ms,
    }
}

pub(super) fn profile_type(id: &str) -> Result<ProfileType, Failure> {
    ProfileType::parse(id).map_err(refused)
}

/// The selector's matchers and the one on the profile type.
pub(super) fn matchers_of_type(
    selector: &str,
    profile_type: &ProfileType,
) -> Result<Vec<MatcherText>, Failure> {
    let mut matchers = parse_selector(selector)
        .map_err(|error| refused(format!("parsing label selector {selector:?}: {error}")))?;
    matchers.push(MatcherText {
        name: engine::labels::name::PROFILE_TYPE.to_owned(),
        op: MatchOp::Equal,
        value: profile_type.label_value().to_owned(),
    });
    Ok(matchers)
}

/// The matchers of several selectors, all of which must hold.
pub(super) fn matchers_of_all(selectors: &[String]) -> Result<Vec<MatcherText>, Failure> {
    check_names("matchers", selectors)?;
    let (mut matchers, mut patterns) = (Vec::new(), PatternCheck::default());
    for selector in selectors {
        let parsed = parse_selector_within(selector, &mut patterns).map_err(|error| {
            refused(format!(
                "parsing label selector: failed to parse label selector {selector:?}: {error}"
            ))
        })?;
        matchers.extend(parsed);
        if matchers.len() > engine::labels::MATCHERS_MAX {
            return Err(refused("parsing label selector: too many matchers"));
        }
    }
    Ok(matchers)
}

/// Whatever is wrong with a request.
#[expect(clippy::needless_pass_by_value, reason = "errors are handed over by `map_err`")]
pub(super) fn refused(error: impl ToString) -> Failure {
    Failure::new(Code::InvalidArgument, "", error.to_string())
}

pub(super) fn unimplemented(message: impl Into<String>) -> Failure {
    Failure::new(Code::Unimplemented, "", message)
}

/// A part that no shard of ours would send.
#[expect(clippy::needless_pass_by_value, reason = "errors are handed over by `map_err`")]
pub(super) fn bad_part(error: impl ToString) -> Failure {
    Failure::new(Code::Internal, "", error.to_string())
}
