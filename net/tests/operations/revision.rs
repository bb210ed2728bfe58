//! How a build finds the revision it is made from.

use std::fs;
use std::path::Path;

#[path = "../../build.rs"]
#[expect(dead_code, unreachable_pub, clippy::print_stdout, reason = "cargo alone calls its main")]
mod build;

use build::{Head, head_of};

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

fn write(git: &Path, file: &str, text: &str) {
    let path = git.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn found(git: &Path) -> Option<(String, String)> {
    head_of(git).0.map(|Head { branch, revision }| (branch, revision))
}

#[test]
fn a_checkout_tells_its_branch_and_commit_however_they_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let git = folder.path().join(".git");
    assert_eq!(found(&git), None, "no checkout");
    write(&git, "HEAD", "ref: refs/heads/feature/x\n");
    assert_eq!(found(&git), None, "no commit yet");
    write(&git, "packed-refs", &format!("# pack-refs\n{HASH} refs/heads/feature/x\n^{HASH}\n"));
    assert_eq!(found(&git), Some(("feature/x".to_owned(), HASH.to_owned())), "packed");
    let newer = HASH.replace('0', "f");
    write(&git, "refs/heads/feature/x", &format!("{newer}\n"));
    assert_eq!(found(&git), Some(("feature/x".to_owned(), newer.clone())), "its file goes first");
    assert!(head_of(&git).1.contains(&git.join("refs/heads/feature/x")), "and is watched");

    write(&git, "worktrees/w/HEAD", &format!("{HASH}\n"));
    write(&git, "worktrees/w/commondir", "../..\n");
    let tree = folder.path().join("tree");
    write(&tree, ".git", &format!("gitdir: {}\n", git.join("worktrees/w").display()));
    assert_eq!(found(&tree.join(".git")), Some((String::new(), HASH.to_owned())), "detached");
    write(&git, "worktrees/w/HEAD", "ref: refs/heads/feature/x\n");
    assert_eq!(found(&tree.join(".git")), Some(("feature/x".to_owned(), newer)), "a work tree");

    write(&git, "HEAD", "nonsense\n");
    assert_eq!(found(&git), None);
}
