//! Whether a tenant has data, and from when to when.

use proto::rpc::select::{SelectReply, StatsPart};

use super::{Presence, Row, SeriesFacts, SeriesId, Sink};
use crate::symbols::Symbols;

/// Least and greatest time of all series; kept in nanoseconds, told in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Stats {
    times_ns: Option<(i64, i64)>,
}

impl Sink for Stats {
    fn series(&mut self, _id: SeriesId, series: &SeriesFacts<'_>, _presence: Presence) -> bool {
        let (least, greatest) = self.times_ns.unwrap_or((i64::MAX, i64::MIN));
        self.times_ns = Some((least.min(series.time_ns_min), greatest.max(series.time_ns_max)));
        false
    }

    fn row(&mut self, _symbols: &Symbols, _row: &Row<'_>) -> usize {
        unreachable!("no series' rows were wanted")
    }

    fn reply(self: Box<Self>) -> SelectReply {
        SelectReply::Stats(self.times_ns.map_or_else(StatsPart::default, |(least, greatest)| {
            StatsPart {
                data_ingested: true,
                oldest_ms: least.div_euclid(1_000_000),
                newest_ms: greatest.div_euclid(1_000_000),
            }
        }))
    }
}
