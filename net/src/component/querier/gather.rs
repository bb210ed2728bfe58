//! Asking all shards at once, and what bounds that.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use proto::rpc::select::{LocationPart, ProfilePart, SelectReply, SelectRequest, TreePart};
use proto::rpc::{Code, Failure, Reply, Request};

use super::Querier;
use crate::budget::Kind;
use crate::http::deadline_exceeded;
use crate::runtime::Runtime;

/// Questions of one shard's querier that wait for shards at a time: each costs every shard a pass and this one the parts.
const QUESTIONS_IN_FLIGHT_MAX: usize = 64;

/// Bytes that a text is taken for: its header and 32 more. Counting them would be another pass.
const TEXT_BYTES: usize = size_of::<String>() + 32;

/// How long a question may take: twice the write timeout of a connection, as Pyroscope's frontends grant.
const QUESTION_TIME_MAX: Duration = Duration::from_mins(1);

/// Takes parts in. Merging pauses as it goes; nothing else of the query runs meanwhile.
pub(super) trait Gathered {
    /// Adds a shard's part.
    async fn add(&mut self, part: SelectReply) -> Result<(), Failure>;
}

impl<R: Runtime> Querier<R> {
    /// Asks every shard and hands over their parts as they come; the first failure is the question's.
    ///
    /// Parts are accounted while the question lasts: what is merged of them is about as large.
    pub(super) async fn gather(
        &self,
        request: SelectRequest,
        into: &mut impl Gathered,
    ) -> Result<(), Failure> {
        let _slot = self.slot()?;
        self.budget.admit(0)?;
        let work = pin!(self.gather_parts(request, into));
        match select(work, pin!(self.rt.sleep(QUESTION_TIME_MAX))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(deadline_exceeded()),
        }
    }

    async fn gather_parts(
        &self,
        request: SelectRequest,
        into: &mut impl Gathered,
    ) -> Result<(), Failure> {
        let mut calls: FuturesUnordered<_> = self
            .mesh
            .shards()
            .map(|shard| self.mesh.call(shard, Request::Select(request.clone())))
            .collect();
        let mut held = Vec::new(); // until all are merged
        while let Some(reply) = calls.next().await {
            match reply? {
                Reply::Select(SelectReply::Failed(failure)) => return Err(failure),
                Reply::Select(part) => {
                    let bytes = bytes_of(&part);
                    held.push(self.budget.admit_and_hold(Kind::Queries, bytes)?);
                    into.add(part).await?;
                }
                other => panic!("a select is answered by a select's reply, not by {other:?}"),
            }
        }
        drop(held);
        Ok(())
    }

    fn slot(&self) -> Result<Slot<'_>, Failure> {
        if self.in_flight.get() >= QUESTIONS_IN_FLIGHT_MAX {
            return Err(Failure::new(
                Code::ResourceExhausted,
                "too_many_queries",
                format!(
                    "{QUESTIONS_IN_FLIGHT_MAX} queries are being answered by this shard; retry later"
                ),
            ));
        }
        self.in_flight.set(self.in_flight.get() + 1);
        Ok(Slot(&self.in_flight))
    }
}

/// One question under way.
struct Slot<'a>(&'a Cell<usize>);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// About what a part holds.
fn bytes_of(part: &SelectReply) -> u64 {
    let bytes = match part {
        SelectReply::Series(sets) => sets.iter().map(|set| set.len() * 2 * TEXT_BYTES).sum(),
        SelectReply::Names(names) => names.len() * TEXT_BYTES,
        SelectReply::Points(groups) => groups
            .iter()
            .map(|group| group.labels.len() * 2 * TEXT_BYTES + size_of_val(group.points.as_slice()))
            .sum(),
        SelectReply::Tree(TreePart { names, parents, .. }) => {
            names.len() * TEXT_BYTES + parents.len() * (4 + 4 + 8)
        }
        SelectReply::Profile(parts) => parts.iter().map(profile_bytes).sum(),
        SelectReply::Stats(_) | SelectReply::Failed(_) => 0,
    };
    bytes as u64
}

fn profile_bytes(part: &ProfilePart) -> usize {
    const LINE: usize = 16;
    part.strings.len() * TEXT_BYTES
        + size_of_val(part.functions.as_slice())
        + part.locations.len() * (size_of::<LocationPart>() + 2 * LINE)
        + part.parents.len() * (4 + 4 + 8)
}
