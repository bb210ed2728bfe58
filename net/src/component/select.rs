//! A shard's part of a read: drives a pass over its heads, giving others a turn between steps.

use std::cell::RefCell;

use engine::hash::HashSecret;
use engine::head::Heads;
use engine::query::Select;
use proto::rpc::Failure;
use proto::rpc::select::{SelectReply, SelectRequest};

use crate::runtime::Spawn;

/// Answers one request against this shard's heads; a task of [`crate::runtime::Class::Query`].
///
/// Refused while `admit` refuses: before recovery is done the heads lack acknowledged profiles. Heads are borrowed within a
/// step only, so appends go on between steps; the pass sees the rows that were there when it reached a head.
pub async fn handle<R: Spawn>(
    rt: &R,
    heads: &RefCell<Heads>,
    admit: impl FnOnce() -> Result<(), Failure>,
    secret: &HashSecret,
    request: SelectRequest,
) -> SelectReply {
    if let Err(failure) = admit() {
        return SelectReply::Failed(failure);
    }
    let mut select = match Select::new(request, secret) {
        Ok(select) => select,
        Err(failure) => return SelectReply::Failed(failure),
    };
    loop {
        let reply = select.step(&heads.borrow());
        match reply {
            Some(reply) => return reply,
            None => rt.yield_if_needed().await,
        }
    }
}
