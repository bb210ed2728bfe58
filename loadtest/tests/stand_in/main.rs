//! The load tester and its oracle against a server that does what a test tells it.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod cuts;
mod fake;
mod push;
mod verify;
