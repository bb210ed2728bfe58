//! Laws of the commands: sound directories are sound, damage is named with file and place, nothing is written.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// The committed block of version 1 and its files.
const BLOCK: &str = "blocks/t/01J953PQ3DFT7S04HMASW9NF6Y";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures").join(name)
}

/// A data directory with the committed block.
fn data() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    copy(&fixture("block/v1"), &data.path().join(BLOCK));
    data
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from).unwrap() {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Exit status and what was written.
fn pyrite(args: &[&str]) -> (u8, String) {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let status = run(&args, &mut out, &mut errors).expect("a command");
    out.extend(errors);
    (status, String::from_utf8(out).unwrap())
}

fn checked(data: &TempDir) -> (u8, String) {
    pyrite(&["check", data.path().to_str().unwrap()])
}

#[test]
fn a_sound_directory_is_sound() {
    let data = data();
    assert_eq!(
        checked(&data),
        (0, "checked 0 logs with 0 records, 1 blocks with 60 profiles: 0 faults\n".to_owned())
    );
    assert_eq!(names(data.path()).unwrap(), ["blocks"], "nothing is written");
}

/// Ten flipped bits a hundred times over files of a real block: what `engine` tells of the places, and the names of the files.
#[test]
fn ten_flipped_bits_are_faults_of_their_files_a_hundred_times() {
    let data = data();
    let block = data.path().join(BLOCK);
    let files = names(&block).unwrap();
    let mut state = 5_u64;
    for round in 0..100 {
        let mut hit = Vec::new();
        for flip in 0..10 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Every second round leaves alone what describes the others.
            let tables = files.iter().filter(|name| round % 2 == 0 || name.ends_with(".parquet"));
            let tables: Vec<&String> = tables.collect();
            let name = tables[(state >> 50) as usize % tables.len()];
            let mut bytes = std::fs::read(block.join(name)).unwrap();
            let at = (state >> 20) as usize % bytes.len();
            bytes[at] ^= 1 << (flip % 8);
            std::fs::write(block.join(name), bytes).unwrap();
            hit.push(name.clone());
        }
        let (status, found) = checked(&data);
        assert_eq!(status, 1, "round {round}: {found}");
        let lines: Vec<&str> = found.lines().filter(|line| line.starts_with("fault: ")).collect();
        assert!(!lines.is_empty(), "{found}");
        for line in lines {
            let is_of = |name: &String| line.starts_with(&format!("fault: {BLOCK}/{name}: "));
            assert!(hit.iter().any(is_of), "round {round}: {line}: hit were {hit:?}");
            let has_place = ["bytes ", "row ", "meta.json: ", "index: "];
            assert!(has_place.iter().any(|text| line.contains(text)), "{line}");
        }
        copy(&fixture("block/v1"), &block);
    }
    assert_eq!(checked(&data).0, 0);
}

#[test]
fn files_that_are_missing_shorter_or_longer_are_named() {
    let data = data();
    let file = data.path().join(BLOCK).join("functions.parquet");
    let whole = std::fs::read(&file).unwrap();
    for (bytes, text) in [
        (Some([&whole[..], b"x"].concat()), format!("it has {} bytes", whole.len() + 1)),
        (Some(whole[..whole.len() - 1].to_vec()), format!("expected {}", whole.len() - 1)),
        (None, "No such file".to_owned()),
    ] {
        match bytes {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let (status, found) = checked(&data);
        assert_eq!(status, 1);
        assert!(found.starts_with(&format!("fault: {BLOCK}/functions.parquet: ")), "{found}");
        assert!(text.starts_with("expected") || found.contains(&text), "{found}");
    }
}

#[test]
fn a_profile_in_two_blocks_and_a_block_in_the_wrong_place_are_faults() {
    let data = data();
    let other = "blocks/t/01J953PQ3DFT7S04HMASW9NF6Z";
    copy(&fixture("block/v1"), &data.path().join(other));
    copy(&fixture("block/v1"), &data.path().join("blocks/u/01J953PQ3DFT7S04HMASW9NF6Y"));
    let (status, found) = checked(&data);
    assert_eq!(status, 1);
    for text in [
        format!(
            "fault: {other}/meta.json: it is block 01J953PQ3DFT7S04HMASW9NF6Y, not 01J953PQ3DFT7S04HMASW9NF6Z\n"
        ),
        format!("split 0, is in {BLOCK}, too\n"),
        "fault: blocks/u/01J953PQ3DFT7S04HMASW9NF6Y/meta.json: it is of tenant t, not u\n"
            .to_owned(),
    ] {
        assert!(found.contains(&text), "{text}: {found}");
    }
}

#[test]
fn what_is_not_ours_is_noted_and_is_no_fault() {
    let data = data();
    for path in ["lost+found", "blocks/t/.01J953PQ3DFT7S04HMASW9NF6Z.tmp", "blocks/t/x", "wal/y"] {
        std::fs::create_dir_all(data.path().join(path)).unwrap();
    }
    std::fs::write(data.path().join(BLOCK).join("notes"), "x").unwrap();
    let (status, found) = checked(&data);
    assert_eq!(status, 0, "{found}");
    assert_eq!(found.lines().filter(|line| line.starts_with("note: ")).count(), 5, "{found}");
    assert!(found.contains(".tmp: a publication that did not end"), "{found}");
}

#[test]
fn a_directory_that_a_server_uses_is_checked_but_for_its_logs() {
    let data = data();
    std::fs::create_dir_all(data.path().join("wal/01J953PQ3DFT7S04HMASW9NF6Y/0")).unwrap();
    let lock = crate::data_dir::DataDir::open(data.path()).unwrap();
    let (status, found) = checked(&data);
    assert_eq!(status, 0);
    assert!(found.starts_with("note: a server is using this directory"), "{found}");
    assert!(found.contains("checked 0 logs with 0 records, 1 blocks"), "{found}");
    drop(lock);
    assert!(checked(&data).1.contains("checked 1 logs"));
}

#[test]
fn blocks_are_listed_and_inspected_for_people_and_programs() {
    let data = data();
    let block = data.path().join(BLOCK);
    let (status, text) = pyrite(&["blocks", "list", data.path().to_str().unwrap()]);
    assert_eq!(status, 0);
    assert!(
        text.starts_with("01J953PQ3DFT7S04HMASW9NF6Y  t  level 1  1970-01-01 00:00:00"),
        "{text}"
    );
    let (_, json) = pyrite(&["blocks", "list", data.path().to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["tenant"], &json["stats"]["profiles"]), (&"t".into(), &60.into()));
    let (_, text) = pyrite(&["blocks", "inspect", block.to_str().unwrap()]);
    assert!(
        text.contains("\"s\" split 0: ") && text.contains("  service_name: 3 values"),
        "{text}"
    );
    let (_, json) = pyrite(&["blocks", "inspect", "--json", block.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let profiles = json["partitions"].as_array().unwrap().iter().map(|p| p["profiles"].as_u64());
    assert_eq!(profiles.sum::<Option<u64>>(), Some(60));
    std::fs::write(block.join("meta.json"), "{}").unwrap();
    let (status, text) = pyrite(&["blocks", "list", data.path().to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(text.contains("unreadable: "), "{text}");
    assert_eq!(pyrite(&["blocks", "inspect", block.to_str().unwrap()]).0, 1);
}

#[test]
fn command_lines_that_mean_nothing_are_told_how_to_be_written() {
    for args in [&["check"][..], &["check", "-x"], &["blocks"], &["blocks", "list", "a", "b"]] {
        let (status, text) = pyrite(args);
        assert_eq!((status, text.as_str()), (2, USAGE), "{args:?}");
    }
    let absent = pyrite(&["check", "/no/such/directory"]);
    assert_eq!(absent.0, 1);
    assert!(absent.1.starts_with("/no/such/directory: "), "{}", absent.1);
    assert_eq!(run(&["-shards=1".to_owned()], &mut Vec::new(), &mut Vec::new()), None);
}
