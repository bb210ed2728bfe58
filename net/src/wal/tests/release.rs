//! Segments that heads need stay, the others are used again, and a log at its cap waits for cuts.

use super::*;

/// Four segments of some twenty records of 3 kB each.
const CAPPED: Settings = Settings { bytes_max: 4 * SEGMENT_BYTES_MIN, ..SMALL };

/// Appends a record whose rows a head of `tenant` has when this returns.
async fn store(log: &Log<Sim>, tenant: &TenantId, seq: u64) -> Result<(), Failure> {
    let pending = append(log, "a", seq, &[seq as u8; 3000]).await?;
    log.applied(pending.segment(), tenant, 7);
    pending.await
}

/// A crash at any moment leaves the records that no block has, without a gap, and nothing of a released file's earlier life.
#[test]
fn released_segments_become_later_ones_and_what_heads_need_stays() {
    let mut recycled = 0;
    for seed in 0..30 {
        let world = World::new(seed);
        let (rt, random) = (world.shard(NODE, 0), world.random());
        // What blocks hold, as far as the log has been told, and what was acknowledged.
        let (published, acknowledged) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (publishing, acknowledging) = (Rc::clone(&published), Rc::clone(&acknowledged));
        let shard = rt.clone();
        rt.spawn(Class::Ingest, async move {
            let log = Log::create(shard.clone(), 1, 0, CAPPED).await.unwrap();
            let tenant = TenantId::anonymous();
            for (seq, cut) in (1..).zip(1..) {
                store(&log, &tenant, seq).await.unwrap();
                acknowledging.set(seq);
                if cut % 25 == 0 {
                    log.frozen(&tenant, FrozenId(cut));
                    shard.sleep(Duration::from_millis(2)).await;
                    publishing.set(seq);
                    log.published(FrozenId(cut));
                }
            }
        });
        world.run_for(Duration::from_millis(random.between(1, 1000)));
        let segments =
            files(&world, "wal").first().map(|run| files(&world, &format!("wal/{run}/0")));
        assert!(segments.unwrap_or_default().len() <= 4, "released files are used again");
        world.crash(NODE);
        let (seqs, results, _) = recovered(&world, 1);
        let results = results[0].as_ref().unwrap();
        recycled += u64::from(acknowledged.get() > 100);
        let first = seqs.first().copied().unwrap_or(1);
        let is_whole = seqs.iter().copied().eq((first..).take(seqs.len()));
        assert!(is_whole && results.lost == 0, "seed {seed}: {seqs:?}");
        assert!(first <= published.get() + 1, "seed {seed}: {first} > {published:?}");
        let last = seqs.last().copied().unwrap_or(0);
        assert!(last >= acknowledged.get(), "seed {seed}: {last} < {acknowledged:?}");
    }
    assert!(recycled > 10, "most seeds came to segments that were recycled: {recycled}");
}

#[test]
fn a_log_at_its_cap_refuses_writes_until_heads_are_cut() {
    let world = World::new(15);
    let inner = world.clone();
    with_log(&world, 1, CAPPED, move |log| async move {
        let rt = inner.shard(NODE, 0);
        let [quiet, busy] = ["idle", "quick"].map(|tenant| TenantId::parse(tenant).unwrap());
        store(&log, &quiet, 1).await.unwrap();
        let mut seq = 1;
        let refused = loop {
            seq += 1;
            match store(&log, &busy, seq).await {
                Ok(()) => {}
                Err(failure) => break failure,
            }
        };
        assert_eq!((refused.code, refused.reason), (Code::Unavailable, "wal_full"));
        assert!(refused.message.contains("-wal.max-bytes=262144"), "{}", refused.message);
        assert_eq!(log.tenant_to_cut(), Some(quiet.clone()), "it needs the oldest segment, too");
        log.frozen(&quiet, FrozenId(1));
        log.published(FrozenId(1));
        rt.sleep(Duration::from_millis(100)).await;
        assert!(store(&log, &busy, seq).await.is_err(), "another needs it still");
        assert_eq!(log.tenant_to_cut(), Some(busy.clone()));
        log.frozen(&busy, FrozenId(2));
        assert_eq!(log.tenant_to_cut(), None, "all of it is being cut");
        log.published(FrozenId(2));
        rt.sleep(Duration::from_millis(100)).await;
        store(&log, &busy, seq).await.unwrap();
        assert!(!log.metrics().full.get());
        log.close().await.unwrap();
    });
    let log = format!("wal/{}/0", files(&world, "wal")[0]);
    assert_eq!(files(&world, &log).len(), 2, "the last of before, and the one that was recycled");
}

/// A shard that ingested all it could gave a cut a tenth of the core: its log was full before the cut was done, profiles were
/// decoded to be refused, and two thirds of what it could take were taken.
#[test]
fn an_append_to_a_log_at_its_cap_waits_for_a_cut() {
    let world = World::new(16);
    let inner = world.clone();
    with_log(&world, 1, CAPPED, move |log| async move {
        let rt = inner.shard(NODE, 0);
        let tenant = TenantId::anonymous();
        for seq in 1.. {
            let mut stored = pin!(store(&log, &tenant, seq));
            match select(stored.as_mut(), pin!(rt.sleep(Duration::from_secs(1)))).await {
                Either::Left((stored, _)) => stored.unwrap(),
                Either::Right(_) => {
                    assert!(seq > 30, "{seq}: it waits for nothing but room");
                    log.frozen(&tenant, FrozenId(1));
                    log.published(FrozenId(1));
                    stored.await.unwrap();
                    break;
                }
            }
        }
        assert!(!log.metrics().full.get(), "nothing was refused");
        log.close().await.unwrap();
    });
}

#[test]
fn a_log_whose_records_are_all_in_blocks_is_gone_when_it_is_closed() {
    for seed in 0..20 {
        let world = World::new(seed);
        let rt = world.shard(NODE, 0);
        let shard = rt.clone();
        let closed = async move {
            let log = Log::create(shard, 1, 0, SMALL).await.unwrap();
            let tenant = TenantId::anonymous();
            for seq in 1..=60 {
                store(&log, &tenant, seq).await.unwrap();
            }
            log.frozen(&tenant, FrozenId(1));
            log.published(FrozenId(1));
            log.close().await.unwrap();
        };
        if seed == 0 {
            world.complete(&rt, closed).unwrap();
            assert_eq!(files(&world, "wal"), Vec::<String>::new());
        } else {
            rt.spawn(Class::Ingest, closed);
            world.run_for(Duration::from_millis(world.random().between(1, 200)));
        }
        world.crash(NODE);
        let (seqs, results, _) = recovered(&world, 1);
        assert!(
            results[0].is_ok(),
            "seed {seed}: {results:?}: a crash leaves a log that ends earlier"
        );
        assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "seed {seed}: {seqs:?}");
    }
}

#[test]
fn what_a_killed_run_kept_for_reuse_is_removed() {
    let world = World::new(16);
    with_log(&world, 1, CAPPED, |log| async move {
        let tenant = TenantId::anonymous();
        for seq in 1..=60 {
            store(&log, &tenant, seq).await.unwrap();
        }
        log.frozen(&tenant, FrozenId(1));
        log.published(FrozenId(1));
    });
    world.run_for(Duration::from_secs(1));
    world.kill(NODE);
    let log = format!("wal/{}/0", files(&world, "wal")[0]);
    let spares = |world: &World| files(world, &log).iter().filter(|name| is_spare(name)).count();
    assert_eq!(spares(&world), 2, "the third is made ready again");
    let (seqs, ..) = recovered(&world, 1);
    assert!((2..=60).contains(&seqs[0]) && seqs.last() == Some(&60), "{seqs:?}");
    assert_eq!(spares(&world), 0);
}
