//! What every runtime must do, said once for all backends: `sim` runs it here, `uring` in its own test.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use net::runtime::{
    AlignedBytes, Class, Conn, DISK_ALIGN, File, Listener, Open, ReadFile, Runtime,
};

/// Runs the whole suite on one shard. `directory` is a fresh name below the runtime's data directory, `listen_on` an address
/// with port 0. A broken law panics with its words.
pub(crate) async fn check<R: Runtime>(rt: R, directory: &str, listen_on: SocketAddr) {
    a_task_is_enqueued_not_polled_inside_spawn(&rt).await;
    tasks_of_every_class_run(&rt).await;
    a_sleep_lasts_at_least_as_long_as_asked(&rt).await;
    timers_fire_in_the_order_of_their_deadlines(&rt).await;
    a_busy_task_that_yields_lets_others_run(&rt).await;
    random_words_differ(&rt);
    what_was_written_and_synced_reads_back(&rt, directory).await;
    what_was_written_durably_reads_back(&rt, directory).await;
    reads_stop_at_the_end_of_the_file(&rt, directory).await;
    a_file_that_is_open_to_be_read_tells_what_was_written(&rt, directory).await;
    appends_survive_reopening(&rt, directory).await;
    a_truncated_file_keeps_its_front(&rt, directory).await;
    a_new_file_must_not_exist_an_existing_one_must(&rt, directory).await;
    names_are_listed_renamed_and_removed(&rt, directory).await;
    the_disk_tells_its_room(&rt).await;
    an_echo_comes_back_whole(&rt, listen_on).await;
    a_reader_sees_the_end_when_the_peer_goes_away(&rt, listen_on).await;
    nobody_listens_on_a_closed_address(&rt, listen_on).await;
}

fn block(byte: u8, blocks: usize) -> AlignedBytes {
    AlignedBytes::padded(vec![byte; blocks * DISK_ALIGN])
}

async fn a_task_is_enqueued_not_polled_inside_spawn<R: Runtime>(rt: &R) {
    let polled = Rc::new(Cell::new(false));
    let (done, ended) = oneshot::channel();
    let seen = Rc::clone(&polled);
    rt.spawn(Class::Rpc, async move {
        seen.set(true);
        done.send(()).expect("the suite waits");
    });
    assert!(!polled.get(), "spawn must not poll inside the call");
    ended.await.expect("a spawned task runs");
    assert!(polled.get(), "the task ran");
}

async fn tasks_of_every_class_run<R: Runtime>(rt: &R) {
    let mut ended = Vec::new();
    for class in Class::ALL {
        let (done, receiver) = oneshot::channel();
        rt.spawn(class, async move {
            done.send(class).expect("the suite waits");
        });
        ended.push((class, receiver));
    }
    for (class, receiver) in ended {
        assert_eq!(receiver.await, Ok(class), "a task of class {} ran", class.as_str());
    }
}

async fn a_sleep_lasts_at_least_as_long_as_asked<R: Runtime>(rt: &R) {
    let start = rt.now_ns();
    let wall = rt.unix_ms();
    rt.sleep(Duration::from_millis(20)).await;
    let slept = rt.now_ns() - start;
    assert!(slept >= 20_000_000, "slept {slept} ns of 20 ms");
    assert!(rt.unix_ms() > wall, "the wall clock moves");
}

async fn timers_fire_in_the_order_of_their_deadlines<R: Runtime>(rt: &R) {
    let order = Rc::new(RefCell::new(Vec::new()));
    let mut ended = Vec::new();
    for millis in [60, 20, 40] {
        let (order, timer) = (Rc::clone(&order), rt.clone());
        let (done, receiver) = oneshot::channel();
        rt.spawn(Class::Rpc, async move {
            timer.sleep(Duration::from_millis(millis)).await;
            order.borrow_mut().push(millis);
            done.send(()).expect("the suite waits");
        });
        ended.push(receiver);
    }
    for receiver in ended {
        receiver.await.expect("every timer fires");
    }
    assert_eq!(*order.borrow(), [20, 40, 60]);
}

async fn a_busy_task_that_yields_lets_others_run<R: Runtime>(rt: &R) {
    let stop = Rc::new(Cell::new(false));
    let (busy, seen) = (rt.clone(), Rc::clone(&stop));
    let (done, ended) = oneshot::channel();
    rt.spawn(Class::Background, async move {
        let mut turns = 0u64;
        while !seen.get() {
            turns += 1;
            busy.yield_if_needed().await;
        }
        done.send(turns).expect("the suite waits");
    });
    rt.sleep(Duration::from_millis(10)).await;
    stop.set(true);
    assert!(ended.await.expect("the busy task ends") > 0);
}

fn random_words_differ<R: Runtime>(rt: &R) {
    let words: std::collections::BTreeSet<u64> = (0..64).map(|_| rt.next_u64()).collect();
    assert_eq!(words.len(), 64, "64 words repeat only if the source is no source");
}

async fn what_was_written_and_synced_reads_back<R: Runtime>(rt: &R, directory: &str) {
    rt.create_dir_all(directory).await.expect("a directory is made");
    rt.create_dir_all(directory).await.expect("making it again is no error");
    let file = rt.open(&format!("{directory}/written"), Open::New).await.expect("a new file");
    file.allocate(8 * DISK_ALIGN as u64).await.expect("space is there");
    assert_eq!(file.len().await.expect("a length"), 8 * DISK_ALIGN as u64);
    let zeros = file.read_at(0, 8 * DISK_ALIGN).await.expect("allocated bytes read");
    assert!(zeros.len() == 8 * DISK_ALIGN && zeros.iter().all(|byte| *byte == 0));
    file.write_at(block(7, 2), DISK_ALIGN as u64).await.expect("written");
    file.datasync().await.expect("synced");
    let read = file.read_at(0, 4 * DISK_ALIGN).await.expect("read");
    let expected: Vec<u8> =
        [0u8, 7, 7, 0].iter().flat_map(|byte| vec![*byte; DISK_ALIGN]).collect();
    assert!(read == expected, "what was written stands where it was written");
    // A range that is not aligned, out of the middle.
    let read = file.read_at(DISK_ALIGN as u64 - 3, 10).await.expect("read");
    assert_eq!(read, [0, 0, 0, 7, 7, 7, 7, 7, 7, 7]);
    file.close().await.expect("closed");
}

/// Also where it is more than one transfer, beside ordinary writes, and when the file has another name by then.
async fn what_was_written_durably_reads_back<R: Runtime>(rt: &R, directory: &str) {
    let (path, renamed) = (format!("{directory}/durable"), format!("{directory}/durable-renamed"));
    let file = rt.open(&path, Open::New).await.expect("a new file");
    let large = 300;
    file.write_at(block(1, large + 3), 0).await.expect("written");
    rt.rename(&path, &renamed).await.expect("renamed");
    let back = file.write_durably_at(block(2, 1), DISK_ALIGN as u64).await.expect("durable");
    assert!(back == block(2, 1), "the bytes come back");
    file.write_durably_at(block(3, large), 2 * DISK_ALIGN as u64).await.expect("durable");
    file.write_at(block(4, 1), 2 * DISK_ALIGN as u64).await.expect("written");
    let read = file.read_at(0, (large + 3) * DISK_ALIGN).await.expect("read");
    let blocks: Vec<u8> = read.iter().step_by(DISK_ALIGN).copied().collect();
    let threes = vec![3; large - 1];
    assert!(
        blocks == [&[1, 2, 4][..], &threes[..], &[1][..]].concat(),
        "each where it was written"
    );
    assert!(read.chunks(DISK_ALIGN).all(|block| block.iter().all(|byte| *byte == block[0])));
    file.close().await.expect("closed");
    rt.remove_file(&renamed).await.expect("removed");
}

async fn reads_stop_at_the_end_of_the_file<R: Runtime>(rt: &R, directory: &str) {
    let file = rt.open(&format!("{directory}/short"), Open::New).await.expect("a new file");
    file.write_at(block(1, 1), 0).await.expect("written");
    let read = file.read_at(0, 10 * DISK_ALIGN).await.expect("read past the end");
    assert_eq!(read.len(), DISK_ALIGN, "as much as there is");
    let read = file.read_at(10 * DISK_ALIGN as u64, DISK_ALIGN).await.expect("read beyond");
    assert_eq!(read.len(), 0, "nothing beyond the end");
    file.close().await.expect("closed");
}

/// What direct I/O wrote is what buffered reads see, also of a file that was read before it was written anew and of one that is gone.
async fn a_file_that_is_open_to_be_read_tells_what_was_written<R: Runtime>(
    rt: &R,
    directory: &str,
) {
    let path = format!("{directory}/read");
    let missing = rt.open_to_read(&path).await.err().expect("there is none yet");
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    let file = rt.open(&path, Open::New).await.expect("a new file");
    file.write_at(block(3, 600), 0).await.expect("written");
    file.truncate(2_300_001).await.expect("cut");
    let reader = rt.open_to_read(&path).await.expect("it is there");
    assert_eq!(reader.len().await.expect("a length"), 2_300_001);
    let read = reader.read_at(0, 10_000_000).await.expect("read past the end");
    assert!(read == vec![3; 2_300_001], "as much as there is, in several transfers");
    assert_eq!(reader.read_at(2_299_999, 5).await.expect("read at the end"), [3, 3]);
    assert!(reader.read_at(2_300_001, 5).await.expect("read beyond").is_empty());
    file.write_at(block(4, 1), 0).await.expect("written");
    file.datasync().await.expect("synced");
    let read = reader.read_at(DISK_ALIGN as u64 - 2, 4).await.expect("read");
    assert_eq!(read, [4, 4, 3, 3]);
    file.close().await.expect("closed");
    rt.remove_file(&path).await.expect("removed");
    assert_eq!(reader.read_at(1, 2).await.expect("an open file stays"), [4, 4]);
    reader.close().await.expect("closed");
}

async fn appends_survive_reopening<R: Runtime>(rt: &R, directory: &str) {
    let path = format!("{directory}/appended");
    let file = rt.open(&path, Open::New).await.expect("a new file");
    for i in 0..50u8 {
        file.write_at(block(i, 1), u64::from(i) * DISK_ALIGN as u64).await.expect("appended");
        file.datasync().await.expect("synced");
    }
    file.close().await.expect("closed");
    rt.sync_dir(directory).await.expect("the name is durable");
    let file = rt.open(&path, Open::Existing).await.expect("it is still there");
    assert_eq!(file.len().await.expect("a length"), 50 * DISK_ALIGN as u64);
    for i in 0..50u8 {
        let offset = u64::from(i) * DISK_ALIGN as u64;
        let read = file.read_at(offset, DISK_ALIGN).await.expect("read");
        assert!(read == vec![i; DISK_ALIGN], "block {i} reads back");
    }
    file.close().await.expect("closed");
}

async fn a_truncated_file_keeps_its_front<R: Runtime>(rt: &R, directory: &str) {
    let path = format!("{directory}/cut");
    let file = rt.open(&path, Open::New).await.expect("a new file");
    file.write_at(block(9, 4), 0).await.expect("written");
    file.truncate(DISK_ALIGN as u64).await.expect("cut");
    file.datasync().await.expect("synced");
    assert_eq!(file.len().await.expect("a length"), DISK_ALIGN as u64);
    let read = file.read_at(0, 4 * DISK_ALIGN).await.expect("read");
    assert!(read == vec![9; DISK_ALIGN], "the front is kept");
    file.close().await.expect("closed");
}

async fn a_new_file_must_not_exist_an_existing_one_must<R: Runtime>(rt: &R, directory: &str) {
    let path = format!("{directory}/once");
    let missing = rt.open(&path, Open::Existing).await.err().expect("there is none yet");
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    rt.open(&path, Open::New).await.expect("a new file").close().await.expect("closed");
    let twice = rt.open(&path, Open::New).await.err().expect("it exists");
    assert_eq!(twice.kind(), std::io::ErrorKind::AlreadyExists);
}

async fn names_are_listed_renamed_and_removed<R: Runtime>(rt: &R, directory: &str) {
    let inner = format!("{directory}/names");
    assert!(rt.list(&inner).await.expect("an absent directory is empty").is_empty());
    rt.create_dir_all(&format!("{inner}/deep/er")).await.expect("made with its parents");
    for name in ["b", "a"] {
        let file = rt.open(&format!("{inner}/{name}"), Open::New).await.expect("a new file");
        file.close().await.expect("closed");
    }
    assert_eq!(rt.list(&inner).await.expect("listed"), ["a", "b", "deep"], "sorted");
    rt.rename(&format!("{inner}/a"), &format!("{inner}/c")).await.expect("renamed");
    rt.sync_dir(&inner).await.expect("durable");
    assert_eq!(rt.list(&inner).await.expect("listed"), ["b", "c", "deep"]);
    assert!(rt.remove_dir(&inner).await.is_err(), "a directory that is not empty stays");
    for name in ["b", "c"] {
        rt.remove_file(&format!("{inner}/{name}")).await.expect("removed");
    }
    assert!(rt.remove_file(&format!("{inner}/b")).await.is_err(), "it is gone");
    for name in ["deep/er", "deep"] {
        rt.remove_dir(&format!("{inner}/{name}")).await.expect("an empty directory goes");
    }
    rt.remove_dir(&inner).await.expect("an empty directory goes");
}

async fn the_disk_tells_its_room<R: Runtime>(rt: &R) {
    let space = rt.space().await.expect("a file system that holds the data directory");
    assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes, "{space:?}");
}

async fn an_echo_comes_back_whole<R: Runtime>(rt: &R, listen_on: SocketAddr) {
    let listener = rt.listen(listen_on).expect("a listener");
    let address = listener.local_addr().expect("an address");
    assert_ne!(address.port(), 0, "the bound port is told");
    rt.spawn(Class::Rpc, async move {
        let mut conn = listener.accept().await.expect("a connection");
        let mut buffer = vec![0; 5000];
        loop {
            let len = conn.read(&mut buffer).await.expect("read");
            if len == 0 {
                break;
            }
            conn.write_all(&buffer[..len]).await.expect("written");
        }
    });
    let mut conn = rt.connect(address).await.expect("connected");
    // In rounds, so that neither side waits for the other to read.
    for round in 0..20u32 {
        let sent: Vec<u8> = (0..10_000u32).map(|i| ((i + round) % 251) as u8).collect();
        conn.write_all(&sent).await.expect("written");
        let mut received = Vec::new();
        let mut buffer = vec![0; 3000];
        while received.len() < sent.len() {
            let len = conn.read(&mut buffer).await.expect("read");
            assert!(len > 0, "the echo ended after {} bytes", received.len());
            received.extend_from_slice(&buffer[..len]);
        }
        assert!(received == sent, "round {round} comes back as it was sent");
    }
}

async fn a_reader_sees_the_end_when_the_peer_goes_away<R: Runtime>(rt: &R, listen_on: SocketAddr) {
    let listener = rt.listen(listen_on).expect("a listener");
    let address = listener.local_addr().expect("an address");
    rt.spawn(Class::Rpc, async move {
        let mut conn = listener.accept().await.expect("a connection");
        conn.write_all(b"bye").await.expect("written");
    });
    let mut conn = rt.connect(address).await.expect("connected");
    let mut received = Vec::new();
    let mut buffer = [0; 16];
    loop {
        let len = conn.read(&mut buffer).await.expect("what was sent arrives before the end");
        if len == 0 {
            break;
        }
        received.extend_from_slice(&buffer[..len]);
    }
    assert_eq!(received, b"bye");
}

async fn nobody_listens_on_a_closed_address<R: Runtime>(rt: &R, listen_on: SocketAddr) {
    let listener = rt.listen(listen_on).expect("a listener");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    assert!(rt.connect(address).await.is_err(), "a closed listener accepts nothing");
}
