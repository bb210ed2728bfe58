//! The procedures of the public services: one path each, `/<package>.<Service>/<Method>`.
//!
//! Kept equal to the services of the `.proto` files by `tests/codegen.rs`.

macro_rules! procedures {
    ($($(#[$doc:meta])* $variant:ident = $path:literal,)*) => {
        /// A unary procedure of the public API.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Procedure {
            $($(#[$doc])* $variant,)*
        }

        impl Procedure {
            /// All procedures.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The path it is called at.
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$variant => $path,)*
                }
            }

            /// The procedure called at a path.
            pub fn from_path(path: &str) -> Option<Self> {
                match path {
                    $($path => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

procedures! {
    /// Takes profiles.
    Push = "/push.v1.PusherService/Push",
    /// Distinct profile types.
    ProfileTypes = "/querier.v1.QuerierService/ProfileTypes",
    /// Distinct values of a label.
    LabelValues = "/querier.v1.QuerierService/LabelValues",
    /// Distinct label names.
    LabelNames = "/querier.v1.QuerierService/LabelNames",
    /// Distinct label sets.
    Series = "/querier.v1.QuerierService/Series",
    /// Merged stacks.
    SelectMergeStacktraces = "/querier.v1.QuerierService/SelectMergeStacktraces",
    /// Merged stacks of some spans.
    SelectMergeSpanProfile = "/querier.v1.QuerierService/SelectMergeSpanProfile",
    /// A merged pprof.
    SelectMergeProfile = "/querier.v1.QuerierService/SelectMergeProfile",
    /// Values over time.
    SelectSeries = "/querier.v1.QuerierService/SelectSeries",
    /// Distribution of values over time.
    SelectHeatmap = "/querier.v1.QuerierService/SelectHeatmap",
    /// Two merges side by side.
    Diff = "/querier.v1.QuerierService/Diff",
    /// Whether a tenant has data.
    GetProfileStats = "/querier.v1.QuerierService/GetProfileStats",
    /// What a query would read.
    AnalyzeQuery = "/querier.v1.QuerierService/AnalyzeQuery",
}

/// The state of the server. It belongs to no tenant and to every service.
pub const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// The same, as a stream of its changes: the one procedure that is not unary.
pub const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_procedure_exactly() {
        for procedure in Procedure::ALL {
            assert_eq!(Procedure::from_path(procedure.path()), Some(*procedure));
        }
        assert_eq!(Procedure::from_path("/push.v1.PusherService/push"), None);
        assert_eq!(Procedure::from_path("/push.v1.PusherService/Push/"), None);
    }
}
