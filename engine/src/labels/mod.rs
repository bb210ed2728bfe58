//! Label sets: what names a series, and what is asked of them.

mod label_set;
mod matcher;
mod quote;
mod selector;
mod validate;

pub use label_set::{DisplayPairs, LabelSet};
pub use matcher::{Compilation, Matcher, PatternCheck, PatternError};
pub use quote::Quoted;
pub use selector::{
    MATCHERS_MAX, SELECTOR_BYTES_MAX, SelectorError, parse_selector, parse_selector_within,
};
pub use validate::validate;

/// Labels with a meaning of their own (api.md §1.3.1).
#[expect(missing_docs, reason = "the constants are the names")]
pub mod name {
    pub const NAME: &str = "__name__";
    pub const NAME_REPLACED: &str = "__name_replaced__";
    pub const TYPE: &str = "__type__";
    pub const UNIT: &str = "__unit__";
    pub const PERIOD_TYPE: &str = "__period_type__";
    pub const PERIOD_UNIT: &str = "__period_unit__";
    pub const PROFILE_TYPE: &str = "__profile_type__";
    pub const SERVICE_NAME_PRIVATE: &str = "__service_name__";
    pub const SERVICE_NAME: &str = "service_name";
    pub const SESSION_ID: &str = "__session_id__";
    pub const DELTA: &str = "__delta__";
    pub const ORDER: &str = "__order__";
    pub const OTEL: &str = "__otel__";
    pub const PYROSCOPE_SPY: &str = "pyroscope_spy";
    pub const PROFILE_ID: &str = "profile_id";
    pub const SPAN_ID: &str = "span_id";
    pub const TRACE_ID: &str = "trace_id";
}
