//! The oracle must see what a server does to a push: one that is lost, doubled, changed, kept although refused.

use std::time::{Duration, Instant};

use loadtest::journal::{self, Header, Writer};
use loadtest::push::{Protocol, Push};
use loadtest::schedule::Schedule;
use loadtest::verify::{Findings, Verify};
use loadtest::workload::{Shape, Source, Spec, Times, Workload};

use crate::fake::{Fate, serve};

const PUSHES: u64 = 24;

/// Pushes to a server that treats push 13 in some way and keeps the others, and asks it what it holds.
fn verified(fate: Fate) -> Findings {
    verified_with(move |number| if number == 13 { fate } else { Fate::Keep })
}

fn verified_with(fate: impl Fn(u64) -> Fate + Send + Sync + 'static) -> Findings {
    let (address, state) = serve(fate);
    let shape = Shape { samples: 8, depth: 4, new_share: 0.25 };
    let workload = Workload::new(Spec {
        source: Source::Generated(shape),
        services: 2,
        first_service: 0,
        pods: 2,
        seed: 5,
        times: Times::Consecutive {
            from_ns: 1_795_369_158_047_863_564,
            interval_ns: 15_000_000_000,
        },
    })
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = Writer::create(&path, &Header::new(&workload, None)).unwrap();
    let push = Push {
        address: address.clone(),
        tenant: None,
        protocol: Protocol::Connect,
        connections_count: 2,
        workload: &workload,
        first_number: 0,
        schedule: Schedule {
            start: Instant::now(),
            rate: 1_000.0,
            count_max: PUSHES,
            time_max: Duration::from_mins(1),
        },
        progress: false,
    };
    push.run(Some(journal)).unwrap();
    assert_eq!(state.lock().unwrap().numbers.len(), PUSHES as usize);
    let (header, records) = journal::read(&path).unwrap();
    let workload = header.workload().unwrap();
    let verify = Verify { address, tenant: None, workload: &workload, records, threads_count: 2 };
    verify.run().unwrap()
}

/// (present, lost, duplicated, wrong)
fn counts(findings: &Findings) -> (u64, u64, u64, u64) {
    (findings.present, findings.lost, findings.duplicated, findings.wrong)
}

#[test]
fn a_server_that_keeps_everything_is_clean() {
    let findings = verified(Fate::Keep);
    assert_eq!(counts(&findings), (PUSHES, 0, 0, 0), "{findings}");
    assert_eq!((findings.pushes, findings.acknowledged), (PUSHES, PUSHES));
    assert!(findings.is_clean() && findings.stacks > 100, "{findings}");
}

#[test]
fn a_lost_push_is_lost_and_nothing_else() {
    let findings = verified(Fate::Lose);
    assert_eq!(counts(&findings), (PUSHES - 1, 1, 0, 0), "{findings}");
    assert!(!findings.is_clean() && findings.details[0].contains("push 13"), "{findings}");
}

#[test]
fn a_doubled_push_is_duplicated_and_nothing_else() {
    let findings = verified(Fate::Double);
    assert_eq!(counts(&findings), (PUSHES, 0, 1, 0), "{findings}");
}

#[test]
fn a_value_that_changed_is_wrong() {
    // The stack, and the total of its series.
    let findings = verified(Fate::ChangeFirst);
    assert_eq!(counts(&findings), (PUSHES, 0, 0, 2), "{findings}");
    let findings = verified(Fate::ChangeLeaf);
    assert_eq!(counts(&findings), (PUSHES, 0, 0, 2), "{findings}");
}

#[test]
fn half_a_push_is_lost_and_what_is_left_is_not_forgotten() {
    let findings = verified(Fate::Halve);
    assert_eq!((findings.present, findings.lost, findings.duplicated), (PUSHES, 1, 0));
    assert!(findings.wrong > 0, "{findings}");
}

#[test]
fn a_push_at_another_time_is_lost() {
    let findings = verified(Fate::Delay);
    assert_eq!(counts(&findings), (PUSHES - 1, 1, 0, 0), "{findings}");
}

#[test]
fn a_refused_push_must_not_be_stored() {
    let findings = verified(Fate::Refuse(429));
    assert_eq!(counts(&findings), (PUSHES - 1, 0, 0, 0), "{findings}");
    let findings = verified(Fate::KeepAndRefuse(429));
    assert_eq!(counts(&findings), (PUSHES, 0, 0, 1), "{findings}");
}

#[test]
fn a_push_in_doubt_may_be_stored_once_or_not() {
    for (fate, present) in [
        (Fate::HangUp, PUSHES - 1),
        (Fate::KeepAndHangUp, PUSHES),
        (Fate::Refuse(500), PUSHES - 1),
        (Fate::KeepAndRefuse(500), PUSHES),
    ] {
        let findings = verified(fate);
        assert_eq!(counts(&findings), (present, 0, 0, 0), "{fate:?}: {findings}");
        assert_eq!((findings.acknowledged, findings.in_doubt), (PUSHES - 1, 1), "{fate:?}");
    }
}

#[test]
fn everything_lost_is_counted_push_by_push() {
    let findings = verified_with(|_| Fate::Lose);
    assert_eq!(counts(&findings), (0, PUSHES, 0, 0), "{findings}");
}
