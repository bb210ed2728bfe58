//! The load tester against a server that notes what it is sent.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use loadtest::client::Address;
use loadtest::journal::{self, Header, Writer};
use loadtest::outcome::Outcome;
use loadtest::push::{Protocol, Push};
use loadtest::report::Report;
use loadtest::schedule::Schedule;
use loadtest::workload::{Shape, Source, Spec, Times, Workload};

use crate::fake::{Fate, serve};

fn workload() -> Workload {
    let shape = Shape { samples: 5, depth: 3, new_share: 0.5 };
    let source = Source::Generated(shape);
    Workload::new(Spec {
        source,
        services: 2,
        first_service: 0,
        pods: 1,
        seed: 1,
        times: Times::Sending,
    })
    .unwrap()
}

fn push(address: Address, rate: f64, count_max: u64, journal: Option<Writer>) -> Report {
    let push = Push {
        address,
        tenant: Some("team-a".to_owned()),
        protocol: Protocol::Connect,
        connections_count: 3,
        workload: &workload(),
        first_number: 0,
        schedule: Schedule {
            start: Instant::now(),
            rate,
            count_max,
            time_max: Duration::from_secs(30),
        },
        progress: false,
    };
    push.run(journal).unwrap()
}

#[test]
fn every_push_arrives_once_and_keeps_the_rate() {
    let (address, state) = serve(|_| Fate::Keep);
    let started = Instant::now();
    let report = push(address, 200.0, 40, None);
    assert!(started.elapsed() >= Duration::from_millis(195), "40 pushes at 200 a second");
    assert_eq!((report.accepted, report.is_clean()), (40, true), "{report}");
    let state = state.lock().unwrap();
    let numbers: BTreeSet<u64> = state.numbers.iter().copied().collect();
    assert_eq!((numbers, state.numbers.len()), ((0..40).collect(), 40), "each number once");
    assert_eq!(state.tenants, BTreeSet::from(["team-a".to_owned()]));
    let services: BTreeSet<_> =
        state.kept.iter().map(|kept| &kept.labels["service_name"]).collect();
    assert_eq!(services.len(), 2);
    assert!(state.kept.iter().all(|kept| kept.profile.sample.len() == 6), "five and the leaf's");
}

#[test]
fn the_journal_says_what_became_of_each_push() {
    let (address, _) = serve(|number| {
        [Fate::Keep, Fate::Refuse(429), Fate::Refuse(500), Fate::HangUp][number as usize % 4]
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let header = Header::new(&workload(), Some("team-a"));
    let report = push(address, 1000.0, 40, Some(Writer::create(&path, &header).unwrap()));
    let refused = (report.refused[&429], report.failed[&500]);
    assert_eq!((report.accepted, refused, report.unanswered), (10, (10, 10), 10), "{report}");
    assert!(!report.is_clean() && !report.errors.is_empty());

    let (read, mut records) = journal::read(&path).unwrap();
    assert_eq!(read, header);
    assert!(read.workload().is_ok());
    records.sort_by_key(|record| record.number);
    let outcomes =
        [Outcome::Accepted, Outcome::Refused(429), Outcome::Failed(500), Outcome::Unanswered];
    assert_eq!(records.len(), 40);
    for (number, record) in records.iter().enumerate() {
        assert_eq!((record.number, record.outcome), (number as u64, outcomes[number % 4]));
        assert!(record.time_ns > 0);
    }
}

#[test]
fn without_a_server_nothing_is_sent() {
    let address = Address::parse("http://127.0.0.1:1").unwrap();
    let report = push(address, 1000.0, 5, None);
    assert_eq!((report.unsent, report.pushes(), report.bytes), (5, 5, 0), "{report}");
}

#[test]
fn latency_counts_from_the_intended_start() {
    let (address, _) = serve(|number| {
        if number == 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        Fate::Keep
    });
    // All connections wait for the server's one lock: pushes meant for then are late, and their latency says so.
    let report = push(address, 100.0, 20, None);
    assert_eq!(report.accepted, 20);
    let late = report.latency_at(0.5);
    assert!(
        late >= Duration::from_millis(40),
        "half of the pushes were meant for the stall, not {late:?} late"
    );
}
