//! No poll of the class that cuts heads works longer than law 9 allows, read from the server's own histogram.
//!
//! CPU time is what is asked for: other threads of the machine make a poll longer by the wall clock, and are not ours. They make it longer by
//! the CPU's, too, now and then (caches, a hypervisor), so one round of several must be without; a long step of ours is in every round. Huge pages
//! are refused: the kernel takes 2 to 5 ms within the poll that touches one first, where it has to move others together for it.

use std::path::PathBuf;

use super::{Server, pyrite, send};

/// Rounds at most.
const ROUNDS: usize = 5;

/// Pushes before a cut, the bound that no poll goes beyond, and how many polls a cut has at least. Code that is not optimised takes some
/// fifteen times as long: there only what is far too long is found.
const PUSHES: usize = if cfg!(debug_assertions) { 200 } else { 2000 };
const BOUND: &str = if cfg!(debug_assertions) { "0.1" } else { "0.002" };
const POLLS_MIN: u64 = 100;

/// Profiles of the corpus where it is there, else the committed ones.
fn profiles() -> Vec<Vec<u8>> {
    let shared = std::env::var("PYRITE_SHARED").unwrap_or_else(|_| "../../shared".to_owned());
    let corpus = PathBuf::from(shared).join("corpus/series");
    let fixtures = PathBuf::from("../bench/fixtures");
    let of = |root: &PathBuf, kind: &str| -> Vec<Vec<u8>> {
        let read = |n| std::fs::read(root.join(kind).join(format!("{n:04}.pb.gz")));
        (0..2).map_while(|n| read(n).ok()).collect()
    };
    let kinds = ["python/cpu", "node/heap", "go-server/goroutine", "go-big/heap", "go-big/cpu"];
    let of_all = |root: &PathBuf| kinds.iter().flat_map(|kind| of(root, kind)).collect::<Vec<_>>();
    let found = of_all(&corpus);
    if found.is_empty() { of_all(&fixtures) } else { found }
}

fn push(server: &Server, profiles: &[Vec<u8>], number: usize) {
    let request = format!("POST /ingest?name=app-{}&format=pprof", number % 7);
    let (status, _, text) = server.send(&request, "", &profiles[number % profiles.len()]);
    assert_eq!(status, 200, "{text}");
}

/// Polls of class background, and those of them beyond [`BOUND`], of all shards.
fn polls(server: &Server) -> (u64, u64) {
    let (_, text) = server.get("/metrics");
    let up_to = |le: &str| -> u64 {
        let end = format!("class=\"background\",le=\"{le}\"}} ");
        let lines = text.lines().filter(|line| line.starts_with("pyrite_poll_cpu_seconds_bucket"));
        let counts = lines.filter_map(|line| line.split_once(&end)).map(|(_, count)| count);
        counts.map(|count| count.parse::<u64>().unwrap()).sum()
    };
    let all = up_to("+Inf");
    (all, all - up_to(BOUND))
}

#[test]
fn no_poll_of_a_cut_works_longer_than_the_law_allows() {
    let profiles = profiles();
    assert!(!profiles.is_empty(), "some are committed");
    let data = tempfile::tempdir().unwrap();
    let no_limits = [
        "-distributor.ingestion-rate-limit-mb=0",
        "-ingester.max-global-series-per-tenant=0",
        "-validation.reject-older-than=0",
    ];
    let server = Server::started_by(pyrite(data.path(), &no_limits).env("MIMALLOC_ALLOW_THP", "0"));
    let mut told = Vec::new();
    for _ in 0..ROUNDS {
        for number in 0..PUSHES {
            push(&server, &profiles, number);
        }
        let before = polls(&server);
        let address = server.address;
        let cut = std::thread::spawn(move || send(address, "POST /flush", "", &[]));
        for number in 0.. {
            if cut.is_finished() {
                break;
            }
            push(&server, &profiles, number);
        }
        let (status, _, text) = cut.join().unwrap();
        assert!((200..300).contains(&status), "{status} {text}");
        let after = polls(&server);
        let (all, long) = (after.0 - before.0, after.1 - before.1);
        assert!(all >= POLLS_MIN, "a cut of {PUSHES} profiles has {all} polls");
        told.push((all, long));
        if long == 0 {
            return;
        }
    }
    panic!("polls of class background, and those beyond {BOUND} s, by round: {told:?}");
}
