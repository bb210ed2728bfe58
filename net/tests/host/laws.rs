//! What every runtime of a real machine must do, beyond what the simulator can be asked: threads, clocks, kernels.
//!
//! Each law is a function over the runtime; `main.rs` makes a test of it for each.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use net::runtime::host::HostRuntime as _;
use net::runtime::portable::Portable;
use net::runtime::watchdog::{Pulse, Watchdog};
use net::runtime::{AlignedBytes, Class, Conn as _, DISK_ALIGN, File as _, Listener as _, Open};

use crate::suite;
use crate::worker::{Tested, on, on_its_own};

/// The suite that the simulator passes, too.
pub(crate) fn every_law_of_the_runtime_traits_holds<R: Tested>() {
    on(&R::workers()[0], |rt| async move {
        suite::check(rt, "suite", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await;
    });
}

pub(crate) fn a_freshly_written_file_reads_back_as_written<R: Tested>() {
    // glommio's probe for polled I/O, led astray by an empty first file, fails exactly this with EOPNOTSUPP.
    let bytes: Vec<u8> = (0..3 * DISK_ALIGN).map(|i| (i % 251) as u8).collect();
    let written = bytes.clone();
    let (read, len, tail) = on(&R::workers()[0], move |rt| async move {
        rt.create_dir_all("fresh/deep").await.unwrap();
        let file = rt.open("fresh/deep/a", Open::New).await.unwrap();
        file.write_at(AlignedBytes::padded(written), 0).await.unwrap();
        file.datasync().await.unwrap();
        let read = file.read_at(0, 3 * DISK_ALIGN).await.unwrap();
        let tail = file.read_at(2 * DISK_ALIGN as u64 + 5, 1 << 30).await.unwrap();
        let len = file.len().await.unwrap();
        file.close().await.unwrap();
        (read, len, tail)
    });
    assert_eq!(len, 3 * DISK_ALIGN as u64);
    assert!(read == bytes, "what was written is what is read");
    assert!(tail == bytes[2 * DISK_ALIGN + 5..], "a read ends at the end of the file");
}

pub(crate) fn allocated_space_reads_as_zero_and_truncation_shortens<R: Tested>() {
    let (zeros, len_allocated, len_cut) = on(&R::workers()[0], |rt| async move {
        let file = rt.open("allocated", Open::New).await.unwrap();
        file.allocate(8 << 20).await.unwrap();
        let zeros = file.read_at(4 << 20, 2 << 20).await.unwrap();
        let len_allocated = file.len().await.unwrap();
        file.truncate(DISK_ALIGN as u64).await.unwrap();
        (zeros, len_allocated, file.len().await.unwrap())
    });
    assert_eq!(zeros.len(), 2 << 20);
    assert!(zeros.iter().all(|byte| *byte == 0));
    assert_eq!((len_allocated, len_cut), (8 << 20, DISK_ALIGN as u64));
}

pub(crate) fn a_write_larger_than_one_transfer_is_whole<R: Tested>() {
    let same = on(&R::workers()[0], |rt| async move {
        let bytes: Vec<u8> = (0..5 << 20_u32).map(|i: u32| (i >> 7) as u8).collect();
        let file = rt.open("large", Open::New).await.unwrap();
        file.write_at(AlignedBytes::padded(bytes.clone()), DISK_ALIGN as u64).await.unwrap();
        file.read_at(DISK_ALIGN as u64, bytes.len()).await.unwrap() == bytes
    });
    assert!(same);
}

pub(crate) fn names_appear_move_and_vanish<R: Tested>() {
    on(&R::workers()[0], |rt| async move {
        assert_eq!(rt.list("names").await.unwrap(), Vec::<String>::new(), "absent has none");
        rt.create_dir_all("names").await.unwrap();
        for name in ["b", "a"] {
            let file = rt.open(&format!("names/{name}"), Open::New).await.unwrap();
            file.close().await.unwrap();
        }
        let again = rt.open("names/a", Open::New).await.map(|_| ()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(rt.list("names").await.unwrap(), ["a", "b"]);
        rt.rename("names/a", "names/c").await.unwrap();
        rt.sync_dir("names").await.unwrap();
        let gone = rt.open("names/a", Open::Existing).await.map(|_| ()).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert_eq!(rt.list("names").await.unwrap(), ["b", "c"]);
        rt.remove_file("names/b").await.unwrap();
        rt.remove_file("names/c").await.unwrap();
        rt.remove_dir("names").await.unwrap();
        assert_eq!(rt.list("names").await.unwrap(), Vec::<String>::new());
    });
}

pub(crate) fn several_listeners_share_an_address_and_echo<R: Tested>() {
    let echoed = on(&R::workers()[0], |rt| async move {
        let first = rt.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = first.local_addr().unwrap();
        let second = rt.listen(address).unwrap();
        for listener in [first, second] {
            rt.spawn(Class::Rpc, async move {
                let mut conn = listener.accept().await.unwrap();
                let mut bytes = vec![0; 1 << 16];
                loop {
                    let len = conn.read(&mut bytes).await.unwrap();
                    if len == 0 {
                        break;
                    }
                    conn.write_all(&bytes[..len]).await.unwrap();
                }
            });
        }
        let mut conn = rt.connect(address).await.unwrap();
        let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 241) as u8).collect();
        let mut received = Vec::new();
        for part in sent.chunks(60_000) {
            conn.write_all(part).await.unwrap();
            let mut bytes = vec![0; part.len()];
            let mut have = 0;
            while have < part.len() {
                have += conn.read(&mut bytes[have..]).await.unwrap();
            }
            received.extend(bytes);
        }
        received == sent
    });
    assert!(echoed);
}

pub(crate) fn a_spawned_task_is_not_polled_inside_the_call<R: Tested>() {
    // glommio's own spawn_local does, which breaks borrows that are held over the call.
    let polled_inside = on(&R::workers()[0], |rt| async move {
        let polled = Rc::new(Cell::new(false));
        let flag = Rc::clone(&polled);
        rt.spawn(Class::Rpc, async move { flag.set(true) });
        let inside = polled.get();
        while !polled.get() {
            rt.sleep(Duration::from_millis(1)).await;
        }
        inside
    });
    assert!(!polled_inside);
}

pub(crate) fn sleep_takes_its_time_and_the_clocks_run<R: Tested>() {
    let (slept_ns, unix_ms, words) = on(&R::workers()[0], |rt| async move {
        let began = rt.now_ns();
        rt.sleep(Duration::from_millis(20)).await;
        (rt.now_ns() - began, rt.unix_ms(), [rt.next_u64(), rt.next_u64()])
    });
    assert!(slept_ns >= 20_000_000, "slept {slept_ns} ns");
    assert!(unix_ms > 1_700_000_000_000, "{unix_ms}");
    assert_ne!(words[0], words[1]);
}

/// More than any queue of a runtime takes at a time.
const MANY_OPERATIONS: u8 = 200;

pub(crate) fn more_operations_than_a_queue_takes_all_end<R: Tested>() {
    let read = on(&R::workers()[0], |rt| async move {
        let file = Rc::new(rt.open("many", Open::New).await.unwrap());
        let writes = (0..MANY_OPERATIONS).map(|byte| {
            let file = Rc::clone(&file);
            async move {
                let block = AlignedBytes::padded(vec![byte; DISK_ALIGN]);
                file.write_at(block, u64::from(byte) * DISK_ALIGN as u64).await
            }
        });
        let written = futures_util::future::join_all(writes).await;
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        file.read_at(0, usize::from(MANY_OPERATIONS) * DISK_ALIGN).await.unwrap()
    });
    assert!(read.chunks(DISK_ALIGN).map(|block| block[0]).eq(0..MANY_OPERATIONS));
}

pub(crate) fn operations_that_nobody_waits_for_end_and_are_counted_out<R: Tested>() {
    on(&R::workers()[0], |rt| async move {
        let file = rt.open("abandoned", Open::New).await.unwrap();
        for _ in 0..MANY_OPERATIONS {
            let write = file.write_at(AlignedBytes::padded(vec![1; DISK_ALIGN]), 0);
            let _ = write.now_or_never(); // begun, and dropped
        }
        file.write_at(AlignedBytes::padded(vec![2; DISK_ALIGN]), DISK_ALIGN as u64).await.unwrap();
        while rt.disk_operations().is_some_and(|count| count > 0) {
            rt.sleep(Duration::from_millis(1)).await;
        }
    });
}

pub(crate) fn what_a_shard_returns_comes_back_and_its_thread_ends<R: Tested>() {
    struct Left(std::sync::mpsc::Sender<&'static str>);
    impl Drop for Left {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let (tell, told) = std::sync::mpsc::channel();
    let result = on_its_own(move |rt: R| async move {
        let left = Left(tell);
        let own = rt.clone();
        rt.spawn(Class::Background, async move {
            let _left = left;
            loop {
                own.sleep(Duration::from_hours(1)).await;
            }
        });
        rt.sleep(Duration::from_millis(1)).await;
        "done"
    });
    assert_eq!(result, "done");
    // glommio leaks tasks whose wakers are still held somewhere.
    if R::NAME == Portable::NAME {
        assert_eq!(told.try_recv(), Ok("dropped"), "a task that is left is dropped with the shard");
    }
}

/// Most that a busy shard may take to hear a message, with room for a loaded machine: glommio's defaults take 200 ms.
const HEARD_MAX: Duration = Duration::from_millis(100);

pub(crate) fn a_busy_shard_hears_other_threads_whatever_class_is_busy<R: Tested>() {
    let busy = &R::workers()[1];
    for class in Class::ALL {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        on(busy, move |rt| async move {
            let task_rt = rt.clone();
            rt.spawn(class, async move {
                let mut word = 1_u64;
                while !stopped.load(Ordering::Relaxed) {
                    // A step of a pass, some 10 µs of arithmetic.
                    for _ in 0..2_000 {
                        word = std::hint::black_box(word.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 1);
                    }
                    task_rt.yield_if_needed().await;
                }
            });
        });
        let mut waited: Vec<Duration> = (0..50)
            .map(|_| {
                let asked = Instant::now();
                on(busy, |_| async {});
                asked.elapsed()
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        waited.sort();
        println!("busy with {class:?}: median {:?}, longest {:?}", waited[25], waited[49]);
        assert!(waited[25] < HEARD_MAX, "busy with {class:?}: median {:?}", waited[25]);
    }
    let longest =
        on(busy, |rt| async move { Class::ALL.map(|class| rt.poll_times(class).held().longest()) });
    println!("longest polls by class: {longest:?}");
}

pub(crate) fn a_long_pass_gives_way_to_a_class_before_it<R: Tested>() {
    let waited = on(&R::workers()[1], |rt| async move {
        let done = Rc::new(Cell::new(false));
        let (pass_rt, pass_done) = (rt.clone(), Rc::clone(&done));
        rt.spawn(Class::Background, async move {
            while !pass_done.get() {
                std::hint::black_box((0..2_000_u64).sum::<u64>());
                pass_rt.yield_if_needed().await;
            }
        });
        let mut waited = Vec::new();
        for _ in 0..20 {
            let asked = rt.now_ns();
            rt.sleep(Duration::from_millis(1)).await;
            waited.push(Duration::from_nanos(rt.now_ns() - asked));
        }
        done.set(true);
        waited.sort();
        waited[10]
    });
    assert!(waited < HEARD_MAX, "a sleep of 1 ms took {waited:?}");
}

pub(crate) fn an_idle_shard_keeps_beating<R: Tested>() {
    let pulse = &R::workers()[0].pulse;
    let before = pulse.beats();
    std::thread::sleep(Duration::from_millis(300));
    let beats = pulse.beats() - before;
    assert!(beats >= 10, "{beats} beats in 300 ms, one every 5 ms is due");
}

#[test]
fn a_stalled_shard_is_counted_by_the_watchdog() {
    let pulse = Pulse::default();
    let _watchdog = Watchdog::start(vec![pulse.clone()]).unwrap();
    let given_up = Instant::now() + Duration::from_secs(20);
    while pulse.stalls() == 0 && Instant::now() < given_up {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(pulse.stalls(), 1, "a shard that never beats is one stall");
}
