//! What a tenant may use of a node has one owner, its home shard, which lends it to the other shards in slices.
//!
//! ```text
//! holder ── take (report of the last slice) ──► home        most pushes are served from the slice a shard holds
//! holder ◄── granted + next slice ───────────── home
//! holder ◄── recall ─────────────────────────── home        near the limit: what is not used comes back before anyone is refused
//! ```
//! Invariants
//! - The home shard believes of each holder at least what it holds. So nothing is lent twice, and no message can come too late
//!   to keep the limit.
//! - Nobody is refused because of what another shard holds and does not use: the home shard recalls it first.
//!
//! Not here: clocks, tables of tenants, messages (`net::component::{rates,places}`).

mod places;
mod tokens;

pub use places::{PlacesAnswer, PlacesHome, PlacesLease};
pub use tokens::{TokenAnswer, TokenHome, TokenLease};
