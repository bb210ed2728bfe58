use super::*;

#[test]
fn what_one_shard_holds_counts_against_all() {
    let budget = Budget::new(100, 2);
    let (first, second) = (budget.of_shard(ShardId(0)), budget.of_shard(ShardId(1)));
    first.set(Kind::Heads, 50);
    let held = first.hold(30);
    assert!(second.admit(20).is_ok());
    assert_eq!(second.admit(21).unwrap_err().code, Code::ResourceExhausted);
    drop(held);
    assert!(second.admit(50).is_ok());
}

#[test]
fn what_is_held_changes_as_far_as_it_is_admitted() {
    let budget = Budget::new(100, 1).of_shard(ShardId(0));
    let mut held = budget.hold(20);
    assert!(held.admit_to(100).is_ok());
    assert!(held.admit_to(101).is_err());
    assert!(budget.admit(1).is_err(), "what was refused changed nothing");
    assert!(held.admit_to(30).is_ok());
    assert!(budget.admit(70).is_ok());
    drop(held);
    assert!(budget.admit(100).is_ok());
}

/// Pushes used to fill memory up to the very limit that reads are admitted against; a full node could not be read.
#[test]
fn a_node_full_of_pushes_has_room_for_reads() {
    let budget = Budget::new(1000, 1).of_shard(ShardId(0));
    let pushes = budget.for_pushes();
    let _pushed = pushes.hold(900);
    let failure = pushes.admit(1).unwrap_err();
    assert!(failure.message.starts_with("90% of the memory limit of 1000"), "{failure:?}");
    assert!(budget.admit(100).is_ok() && budget.admit(101).is_err());
}

/// Accounts were all there was: a process could hold a multiple of its limit and admit more.
#[test]
fn what_nobody_accounts_leaves_less_to_admit() {
    let budget = Budget::new(1000, 1);
    let shard = budget.of_shard(ShardId(0));
    let _held = shard.hold(300);
    let mut looks = rss::Looks::default();
    budget.note_rss(&mut looks, 700);
    assert_eq!(budget.unaccounted_bytes(), 400);
    assert!(shard.admit(300).is_ok() && shard.admit(301).is_err());
    assert!(shard.for_pushes().admit(200).is_ok() && shard.for_pushes().admit(201).is_err());
    let message = shard.admit(400).unwrap_err().message;
    assert!(message.contains("(700 B in use, 400 B more asked for)"), "{message}");
    budget.note_rss(&mut looks, 5000);
    assert!(shard.admit(0).is_err(), "the process holds more than its limit");
}

#[test]
fn a_lease_follows_the_need_in_slices() {
    let budget = Budget::new(128 << 20, 1);
    let slice = 1 << 20;
    let shard = budget.of_shard(ShardId(0));
    shard.admit(1).unwrap();
    assert_eq!(budget.leased_bytes(), slice);
    let held = shard.hold(10 * slice + 1);
    assert_eq!(budget.leased_bytes(), 10 * slice + 1);
    shard.admit(1).unwrap();
    assert_eq!(budget.leased_bytes(), 11 * slice + 1);
    drop(held);
    assert_eq!(budget.leased_bytes(), slice, "one slice is kept for what comes next");
    drop(shard);
    assert_eq!(budget.leased_bytes(), 0);
}

#[test]
fn what_is_taken_unasked_overdraws_and_stops_everything_until_it_fits() {
    let budget = Budget::new(1000, 2);
    let (first, second) = (budget.of_shard(ShardId(0)), budget.of_shard(ShardId(1)));
    let held = second.hold(600);
    first.set(Kind::Heads, 700);
    assert_eq!((budget.leased_bytes(), budget.accounted_bytes()), (1000, 1300));
    assert!(first.admit(0).is_err() && second.admit(0).is_err());
    drop(held);
    assert!(second.admit(300).is_ok(), "of 1000 bytes 700 are used");
    assert!(second.admit(301).is_err());
}

/// A recovery could fill what pushes are taken into; now the cutter makes it room.
#[test]
fn a_recovery_leaves_pushes_a_part_and_pushes_leave_reads_one() {
    let shard = Budget::new(1000, 2).of_shard(ShardId(0));
    let (pushes, recovery) = (shard.for_pushes(), shard.for_recovery());
    assert!(recovery.admit(800).is_ok() && recovery.admit(801).is_err());
    assert!(pushes.admit(900).is_ok() && pushes.admit(901).is_err());
    assert!(shard.admit(1000).is_ok() && shard.admit(1001).is_err());
}

#[test]
fn refusals_are_counted_by_who_asked() {
    let shard = Budget::new(100, 1).of_shard(ShardId(0));
    let _ = shard.admit(101);
    let _ = shard.for_pushes().admit(91);
    let _ = shard.for_pushes().admit(92);
    assert!(!shard.has_room(101));
    let samples = shard.samples();
    let refused = |what: &str| {
        let of = |sample: &&MetricSample| {
            sample.name == "pyrite_memory_refused_total" && sample.labels[1].1 == what
        };
        samples.iter().find(of).unwrap().value as u64
    };
    assert_eq!((refused("pushes"), refused("reads")), (2, 1));
}

/// What may happen to the budget of a few shards, in any order.
#[derive(Debug, bolero::TypeGenerator)]
enum Event {
    Admit { shard: u8, pushes: bool, bytes: u16 },
    Hold { shard: u8, bytes: u16 },
    GrowHeld { held: u8, bytes: u16 },
    Drop { held: u8 },
    Set { shard: u8, bytes: u16 },
    Rss { bytes: u16 },
}

/// Whatever shards do: leases never exceed the limit, nothing is lost from the accounts, and what is admitted fits beside all
/// that is accounted or known to be there.
#[test]
fn any_order_of_events_keeps_the_laws() {
    const SHARDS: usize = 3;
    bolero::check!().with_type::<(u16, Vec<Event>)>().for_each(|(limit, events)| {
        let limit = u64::from(*limit);
        let budget = Budget::new(limit, SHARDS as u16);
        let shards = [0, 1, 2].map(|id| budget.of_shard(ShardId(id)));
        let mut heads = [0_u64; SHARDS];
        let mut held: Vec<Held> = Vec::new();
        let mut looks = rss::Looks::default();
        for event in events {
            match *event {
                Event::Admit { shard, pushes, bytes } => {
                    let shard = &shards[usize::from(shard) % SHARDS];
                    let (shard, percent) =
                        if pushes { (shard.for_pushes(), 90) } else { (shard.clone(), 100) };
                    let used = budget.accounted_bytes() + budget.unaccounted_bytes();
                    let fits = (used + u64::from(bytes)) * 100 <= limit * percent;
                    let admitted = shard.admit(bytes.into()).is_ok();
                    assert!(fits || !admitted, "{bytes} more beside {used} of {limit}");
                    // Slices that others do not use are all that may stand in the way.
                    let spare = limit / 128 * 2 + 2;
                    let fits_well = (used + u64::from(bytes) + spare) * 100 <= limit * percent;
                    assert!(admitted || !fits_well, "{bytes} more beside {used} of {limit}");
                }
                Event::Hold { shard, bytes } => {
                    held.push(shards[usize::from(shard) % SHARDS].hold(bytes.into()));
                }
                Event::GrowHeld { held: at, bytes } => {
                    if let Some(one) = held.get_mut(usize::from(at)) {
                        let _ = one.admit_to(bytes.into());
                    }
                }
                Event::Drop { held: at } => {
                    if usize::from(at) < held.len() {
                        held.swap_remove(at.into());
                    }
                }
                Event::Set { shard, bytes } => {
                    let shard = usize::from(shard) % SHARDS;
                    heads[shard] = bytes.into();
                    shards[shard].set(Kind::Heads, bytes.into());
                }
                Event::Rss { bytes } => budget.note_rss(&mut looks, bytes.into()),
            }
            let leases: u64 = shards.iter().map(|shard| shard.state.lease_bytes.get()).sum();
            assert_eq!(budget.leased_bytes(), leases);
            assert!(leases <= limit);
            let known = heads.iter().sum::<u64>() + held.iter().map(|one| one.bytes).sum::<u64>();
            assert_eq!(budget.accounted_bytes(), known);
        }
        drop((shards, held));
        assert_eq!((budget.leased_bytes(), budget.accounted_bytes()), (0, 0));
    });
}

#[derive(Clone, Debug, Default)]
struct Kept(Rc<Cell<usize>>);

impl Cache for Kept {
    fn bytes_held(&self) -> usize {
        self.0.get()
    }

    fn clear(&self) {
        self.0.set(0);
    }
}

#[test]
fn what_is_kept_for_speed_is_given_up_before_anything_is_refused() {
    let budget = Budget::new(1000, 2);
    let (first, second) = (budget.of_shard(ShardId(0)), budget.of_shard(ShardId(1)));
    let kept = Kept::default();
    first.keep_cache(kept.clone());
    kept.0.set(300);
    first.note_cache();
    assert_eq!(first.used_bytes(Kind::Cache), 300);
    assert!(second.admit(701).is_err(), "another shard's is left alone");
    assert!(first.admit(700).is_ok() && kept.0.get() == 300, "there is room beside it");
    assert!(first.admit(701).is_ok(), "there is room without it");
    assert_eq!((first.used_bytes(Kind::Cache), kept.0.get()), (0, 0));
    assert!(second.admit(701).is_ok() && second.admit(1001).is_err());
}
