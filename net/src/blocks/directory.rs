//! Where blocks lie: `blocks/<tenant>/<ULID>/` below the data directory; while one is being written, `blocks/<tenant>/.<ULID>.tmp/`.

use engine::tenant::TenantId;
use ulid::Ulid;

/// Directory of all blocks.
pub const ROOT: &str = "blocks";

const UNFINISHED_SUFFIX: &str = ".tmp";

/// What a name in a tenant's directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A published block.
    Block(u128),
    /// What a publication left that did not end.
    Unfinished(u128),
}

/// Directory of a tenant's blocks.
pub(crate) fn tenant_path(tenant: &TenantId) -> String {
    format!("{ROOT}/{tenant}")
}

/// Directory of a published block.
pub fn block_path(tenant: &TenantId, ulid: u128) -> String {
    format!("{ROOT}/{tenant}/{}", Ulid(ulid))
}

/// Directory of a block that is being written: no reader takes it for a block.
pub(super) fn unfinished_path(tenant: &TenantId, ulid: u128) -> String {
    format!("{ROOT}/{tenant}/.{}{UNFINISHED_SUFFIX}", Ulid(ulid))
}

/// What a name in a tenant's directory stands for; `None`: nothing of ours.
pub(crate) fn entry_of(name: &str) -> Option<Entry> {
    let ulid = |text: &str| {
        let ulid = Ulid::from_string(text).ok()?;
        (ulid.to_string() == text).then_some(ulid.0)
    };
    match name.strip_prefix('.') {
        Some(rest) => ulid(rest.strip_suffix(UNFINISHED_SUFFIX)?).map(Entry::Unfinished),
        None => ulid(name).map(Entry::Block),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_stand_for_nothing() {
        let (tenant, ulid) = (TenantId::anonymous(), 0x0193_5a7b_0000_0000_0000_0000_0000_002a);
        let name = |path: String| path.rsplit('/').next().unwrap().to_owned();
        assert_eq!(entry_of(&name(block_path(&tenant, ulid))), Some(Entry::Block(ulid)));
        let unfinished = name(unfinished_path(&tenant, ulid));
        assert_eq!(entry_of(&unfinished), Some(Entry::Unfinished(ulid)));
        for other in ["", ".", "lost+found", &unfinished[1..], ".x.tmp", "01katgv0"] {
            assert_eq!(entry_of(other), None, "{other}");
        }
    }
}
