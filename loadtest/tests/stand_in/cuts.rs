//! What is read while heads are cut must be seen to be wrong when it is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use loadtest::cuts::{Cuts, CutsReport};

use crate::fake::{Fate, State, serve};

/// Pushes two rounds of a tenth of a second to a server and has it flush twice in the second.
fn cut(doubles_at_flush: bool) -> (CutsReport, Arc<Mutex<State>>) {
    let (address, state) = serve(|_| Fate::Keep);
    state.lock().unwrap().doubles_at_flush = doubles_at_flush;
    let folder = tempfile::tempdir().unwrap();
    let cuts = Cuts {
        address,
        cuts: 2,
        rate: 60.0,
        connections_count: 2,
        seed: 1,
        round_time: Duration::from_millis(100),
        directory: folder.path().to_owned(),
    };
    (cuts.run().unwrap(), state)
}

#[test]
fn a_server_that_cuts_well_is_clean() {
    let (report, state) = cut(false);
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.cuts, state.lock().unwrap().flushes), (2, 2));
    assert!(report.answers() > 0 && report.after.acknowledged > 0, "{report}");
    assert!(report.to_string().contains("cuts=2 answers="), "{report}");
}

#[test]
fn a_server_that_counts_twice_what_it_cuts_is_caught_meanwhile() {
    let (report, _) = cut(true);
    assert!(!report.is_clean() && report.during.duplicated > 0, "{report}");
}
