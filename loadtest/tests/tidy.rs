//! Conventions of the repository that no tool checks: the walls between crates, what a file begins with, what a page names.
//!
//! Each test lists everything that breaks its rule, by file and line.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates, floor by floor, and those of the workspace each may name.
const CRATES: [(&str, &[&str]); 5] = [
    ("proto", &[]),
    ("engine", &["proto"]),
    ("net", &["engine", "proto"]),
    ("bench", &["engine", "net", "proto"]),
    ("loadtest", &["proto"]), // its oracle must share no bug with the engine
];

/// Crates from outside that only some of ours may name; nobody names one with an empty list.
const WALLS: [(&str, &[&str]); 9] = [
    ("futures-channel", &["net"]),
    ("glommio", &["net"]),
    ("http", &["net"]),
    ("hyper", &["net"]),
    ("libc", &["bench", "loadtest", "net"]),
    ("mimalloc", &["bench", "net"]),
    ("object_store", &["net"]),
    ("rand", &[]),       // randomness comes from the runtime
    ("tokio", &["net"]), // the portable runtime
];

/// Visible entries of the root.
const ROOT: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "docs",
    "engine",
    "loadtest",
    "net",
    "proto",
];

/// What a build or a run leaves in the root (`.gitignore` names them).
const ROOT_IGNORED: [&str; 2] = ["data", "target"];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "helpers", "manager", "misc", "util", "utils"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a crate lies in the workspace")
        .to_owned()
}

/// Files of the repository with one of these extensions, as paths relative to the root.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let skipped = ROOT_IGNORED.contains(&name.as_str())
                || matches!(name.as_str(), ".git" | "__pycache__");
            match (skipped, path.is_dir()) {
                (true, _) => {}
                (_, true) => walk(&path, found),
                (_, false) => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    let is_wanted = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
    };
    found
        .into_iter()
        .filter(is_wanted)
        .map(|path| path.strip_prefix(root()).unwrap().to_owned())
        .collect()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rust sources that people write.
fn sources() -> Vec<PathBuf> {
    files(&["rs"]).into_iter().filter(|path| !path.starts_with("proto/src/generated")).collect()
}

#[track_caller]
fn none_break(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Dependencies by crate, with their kind (`null` for a normal one).
fn dependencies() -> BTreeMap<String, Vec<(String, Option<String>)>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let of = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        dependencies.iter().map(|d| (name(d), d["kind"].as_str().map(str::to_owned))).collect()
    };
    packages.iter().map(|package| (name(package), of(package))).collect()
}

#[test]
fn crates_depend_downwards_only() {
    let dependencies = dependencies();
    let crates: BTreeSet<&str> = CRATES.iter().map(|(name, _)| *name).collect();
    assert_eq!(dependencies.keys().map(String::as_str).collect::<BTreeSet<_>>(), crates);
    let mut offenders = Vec::new();
    for (name, allowed) in CRATES {
        for (dependency, kind) in &dependencies[name] {
            // Tests of a crate may ask for its own features.
            let own = dependency == name && kind.as_deref() == Some("dev");
            if crates.contains(dependency.as_str())
                && !allowed.contains(&dependency.as_str())
                && !own
            {
                offenders.push(format!("{name} → {dependency}"));
            }
        }
    }
    none_break("an edge that the DAG of docs/architecture.md lacks", &offenders);
    for (above, below) in [("net", "engine"), ("engine", "proto"), ("loadtest", "proto")] {
        assert!(
            dependencies[above].iter().any(|(name, _)| name == below),
            "{above} → {below} is gone"
        );
    }
}

#[test]
fn foreign_crates_stay_behind_their_walls() {
    let mut offenders = Vec::new();
    for (name, dependencies) in dependencies() {
        for (wall, allowed) in WALLS {
            let crosses =
                dependencies.iter().any(|(dependency, kind)| dependency == wall && kind.is_none());
            if crosses && !allowed.contains(&name.as_str()) {
                offenders.push(format!("{name} names {wall}"));
            }
        }
    }
    none_break("a crate on the wrong floor", &offenders);
}

#[test]
fn only_runtimes_name_what_they_run_on() {
    let foreign = |path: &Path, text: &str| {
        let is_in = |folder: &str| path.starts_with(format!("net/src/runtime/{folder}"));
        [("glommio", "uring"), ("tokio", "portable")].into_iter().find(|(name, folder)| {
            let named = [format!(" {name}::"), format!("({name}::"), format!("<{name}::")];
            !is_in(folder) && named.iter().any(|named| text.contains(named.as_str()))
        })
    };
    let offenders: Vec<_> = sources()
        .iter()
        .filter(|path| !path.ends_with("tidy.rs"))
        .filter_map(|path| Some((path, foreign(path, &text(path))?)))
        .map(|(path, (name, _))| format!("{} names {name}", path.display()))
        .collect();
    none_break("an executor outside its runtime", &offenders);
}

#[test]
fn every_source_begins_by_saying_why_it_exists() {
    let offenders: Vec<_> = sources()
        .iter()
        .filter(|path| !path.ends_with("tests.rs") && !text(path).starts_with("//! "))
        .map(|path| path.display().to_string())
        .collect();
    none_break("no module docs on the first line", &offenders);
}

#[test]
fn no_module_has_an_empty_name() {
    let is_empty = |part: &std::ffi::OsStr| {
        EMPTY_NAMES
            .iter()
            .any(|name| part == *name || part.to_string_lossy() == format!("{name}.rs"))
    };
    let offenders: Vec<_> = sources()
        .iter()
        .filter(|path| path.iter().any(is_empty))
        .map(|path| path.display().to_string())
        .collect();
    none_break("a function lives with its noun", &offenders);
}

#[test]
fn texts_hold_nothing_unfinished_and_nothing_invisible() {
    // Put together so that this file does not hold them.
    let unfinished =
        [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X:"), concat!("#[", "ignore")];
    let machine = [concat!("/wo", "rk/"), concat!("/tm", "p/py"), concat!("/ro", "ot/")];
    let mut offenders = Vec::new();
    for path in files(&["rs", "md", "toml", "proto", "py"]) {
        if path.starts_with("proto/src/generated") {
            continue;
        }
        for (number, line) in text(&path).lines().enumerate() {
            let found = unfinished.iter().chain(&machine).find(|word| line.contains(**word));
            let complaint = match found {
                Some(word) => Some((*word).to_owned()),
                None if line.contains(|c: char| c.is_control()) => {
                    Some("a tab or control character".to_owned())
                }
                None if line.ends_with(' ') => Some("a blank at the end of the line".to_owned()),
                None => None,
            };
            offenders
                .extend(complaint.map(|what| format!("{}:{}: {what}", path.display(), number + 1)));
        }
    }
    none_break("not for a repository", &offenders);
}

#[test]
fn the_root_shows_its_fixed_entries_only() {
    let visible: BTreeSet<String> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !ROOT_IGNORED.contains(&name.as_str()))
        .collect();
    assert_eq!(visible, ROOT.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
}

#[test]
fn a_format_page_names_its_version_constant() {
    let constants: BTreeSet<String> = sources()
        .iter()
        .filter(|path| path.starts_with("engine/src"))
        .flat_map(|path| text(path).lines().filter_map(version_constant).collect::<Vec<_>>())
        .collect();
    let mut offenders = Vec::new();
    for path in files(&["md"]).iter().filter(|path| path.starts_with("docs/format")) {
        let page = text(path);
        if !constants.iter().any(|constant| page.contains(&format!("{constant}`"))) {
            offenders.push(format!("{} (constants: {constants:?})", path.display()));
        }
    }
    none_break("a page of docs/format names no `…VERSION` constant of the engine", &offenders);
}

/// `pub const WAL_VERSION: u16 = 1;` → `WAL_VERSION`.
fn version_constant(line: &str) -> Option<String> {
    let (name, _) = line.trim().split_once("const ")?.1.split_once(':')?;
    name.contains("VERSION").then(|| name.to_owned())
}

#[test]
fn every_metric_is_explained_in_the_docs() {
    let docs: String = files(&["md"])
        .iter()
        .filter(|path| path.starts_with("docs"))
        .map(|path| text(path))
        .collect();
    let mut offenders = BTreeSet::new();
    for path in sources().iter().filter(|path| path.starts_with("net/src")) {
        for literal in text(path).split('"').skip(1).step_by(2) {
            let is_metric =
                ["pyrite_", "pyroscope_"].iter().any(|prefix| literal.starts_with(prefix))
                    && literal
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                    && !["pyroscope_spy", "pyroscope_"].contains(&literal);
            // A histogram's samples have their metric's name with an ending.
            let endings = ["", "_bucket", "_count", "_sum"];
            let is_explained = endings
                .iter()
                .filter_map(|ending| literal.strip_suffix(ending))
                .any(|name| docs.contains(&format!("`{name}`")));
            if is_metric && !is_explained {
                offenders.insert(format!("{}: {literal}", path.display()));
            }
        }
    }
    none_break(
        "a metric that no page of docs explains",
        &offenders.into_iter().collect::<Vec<_>>(),
    );
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut offenders = Vec::new();
    for path in files(&["md"]) {
        for target in text(&path)
            .split("](")
            .skip(1)
            .filter_map(|behind| behind.split_once(')'))
            .map(|(target, _)| target)
        {
            let file = target.split('#').next().unwrap_or_default();
            let inside = !file.is_empty() && !file.contains("://");
            let folder = path.parent().expect("a page lies in a folder, or in the root");
            if inside && !root().join(folder).join(file).exists() {
                offenders.push(format!("{}: {target}", path.display()));
            }
        }
    }
    none_break("a link to nothing", &offenders);
}

#[test]
fn pages_that_sources_name_exist() {
    let mut offenders = Vec::new();
    for path in sources().iter().filter(|path| !path.ends_with("tidy.rs")) {
        for behind in text(path).split("docs/").skip(1) {
            let page = behind.split(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c)));
            let page = page.into_iter().next().unwrap_or_default().trim_end_matches('.');
            let is_page = Path::new(page).extension().is_some_and(|extension| extension == "md");
            if is_page && !root().join("docs").join(page).exists() {
                offenders.push(format!("{}: docs/{page}", path.display()));
            }
        }
    }
    none_break("a page that does not exist", &offenders);
}

#[test]
fn decisions_are_numbered_once() {
    let mut numbers = BTreeMap::<String, Vec<String>>::new();
    for path in files(&["md"]).iter().filter(|path| path.starts_with("docs/decisions")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let number = name.split('-').next().unwrap_or_default().to_owned();
        assert!(
            number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()),
            "{name}: begin with four digits"
        );
        numbers.entry(number).or_default().push(name);
    }
    let twice: Vec<_> =
        numbers.values().filter(|names| names.len() > 1).map(|names| names.join(", ")).collect();
    none_break("two decisions of one number", &twice);
}
