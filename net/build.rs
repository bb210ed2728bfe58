//! Tells the program the revision it is built from: what `PYRITE_REVISION` says, else what the checkout's `.git` says, else nothing.
//!
//! No git is run: a build needs none, and one from an archive has no checkout. Debug builds do not look at `.git`: every commit would
//! compile the crate again.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PYRITE_REVISION");
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.git");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let found = match std::env::var("PYRITE_REVISION") {
        Ok(revision) => Head { branch: String::new(), revision },
        Err(_) if is_release => {
            let (head, looked_at) = head_of(&checkout);
            for path in looked_at.iter().filter(|path| path.exists()) {
                println!("cargo::rerun-if-changed={}", path.display());
            }
            head.unwrap_or_default()
        }
        Err(_) => Head::default(),
    };
    println!("cargo::rustc-env=PYRITE_BUILD_BRANCH={}", one_line(&found.branch));
    println!("cargo::rustc-env=PYRITE_BUILD_REVISION={}", one_line(&found.revision));
}

/// What is checked out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Empty where there is none.
    pub branch: String,
    /// Hash of the commit.
    pub revision: String,
}

/// What is checked out where `git` is `.git`, a directory or the file that a work tree has instead; and which files say so.
pub fn head_of(git: &Path) -> (Option<Head>, Vec<PathBuf>) {
    let own = match std::fs::read_to_string(git) {
        Ok(text) => match text.trim().strip_prefix("gitdir: ") {
            Some(path) => git.parent().unwrap_or(git).join(path),
            None => return (None, Vec::new()),
        },
        Err(_) => git.to_owned(),
    };
    // Of several work trees each has its own HEAD; branches are common to all.
    let common = match std::fs::read_to_string(own.join("commondir")) {
        Ok(path) => own.join(path.trim()),
        Err(_) => own.clone(),
    };
    // A branch moves without its HEAD; the log of HEAD tells that, too, when its file is made anew.
    let mut looked_at = vec![own.join("HEAD"), own.join("logs/HEAD"), common.join("packed-refs")];
    let Ok(head) = std::fs::read_to_string(own.join("HEAD")) else { return (None, looked_at) };
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        return (commit(&head).map(|revision| Head { branch: String::new(), revision }), looked_at);
    };
    let branch = name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
    looked_at.push(common.join(name));
    let revision = std::fs::read_to_string(common.join(name)).ok().or_else(|| {
        let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
        let mut refs = packed.lines().filter_map(|line| line.split_once(' '));
        refs.find(|(_, found)| *found == name).map(|(hash, _)| hash.to_owned())
    });
    (revision.and_then(|text| commit(&text)).map(|revision| Head { branch, revision }), looked_at)
}

fn commit(text: &str) -> Option<String> {
    let hash = text.trim();
    let is_hash =
        matches!(hash.len(), 40 | 64) && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| hash.to_owned())
}

/// A line break would say something else to cargo.
fn one_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
