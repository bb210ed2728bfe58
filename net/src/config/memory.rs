//! How much memory there is to share out when `-memory.limit` does not say.

use std::path::Path;

/// Share of the memory that is accounted for by default; the rest is for what is not accounted: code, stacks, the allocator's
/// slack, the kernel's socket buffers.
const SHARE_PERCENT: u64 = 70;

/// Used where neither a limit nor the machine's memory can be read.
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

/// Default of `-memory.limit`, bytes: 70 % of the least memory limit among this process's cgroup and its ancestors, or of
/// the machine's memory where none is lower.
pub fn memory_limit_default() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let cgroup = std::fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| cgroup_limit(Path::new("/sys/fs/cgroup"), &text));
    let memory = [machine, cgroup].into_iter().flatten().min().unwrap_or(MEMORY_BYTES_UNKNOWN);
    memory / 100 * SHARE_PERCENT
}

/// `MemTotal` of `/proc/meminfo`, bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Least limit on the way from the process's cgroup to the root; version 2 first, then version 1's memory controller.
fn cgroup_limit(root: &Path, cgroups: &str) -> Option<u64> {
    let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let unified = unified.and_then(|path| least(root, path, "memory.max"));
    let memory = cgroups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|controller| controller == "memory").then_some(path)
    });
    let memory = memory.and_then(|path| least(&root.join("memory"), path, "memory.limit_in_bytes"));
    [unified, memory].into_iter().flatten().min()
}

/// Inside a container the path may be one of the host's and not exist; the root's own file then holds the limit.
fn least(root: &Path, path: &str, file: &str) -> Option<u64> {
    let full = root.join(path.trim_start_matches('/'));
    full.ancestors()
        .take_while(|directory| directory.starts_with(root))
        .filter_map(|directory| std::fs::read_to_string(directory.join(file)).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok()) // "max" is no limit
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        std::fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        std::fs::write(root.path().join("memory.max"), "5000\n").unwrap();
        assert_eq!(cgroup_limit(root.path(), "0::/a/b\n"), Some(1000));
        assert_eq!(cgroup_limit(root.path(), "0::/elsewhere\n"), Some(5000));
        assert_eq!(cgroup_limit(&root.path().join("a/b"), "0::/\n"), None);
    }

    #[test]
    fn the_older_memory_controller_is_read_too() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("memory/x");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("memory.limit_in_bytes"), "777\n").unwrap();
        assert_eq!(cgroup_limit(root.path(), "9:cpu,memory:/x\n1:name=systemd:/y\n"), Some(777));
    }

    #[test]
    fn the_machines_memory_is_read_in_kib() {
        assert_eq!(total("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16_384));
        assert_eq!(total("MemTotal: lots\n"), None);
        assert!(memory_limit_default() > 1 << 20);
    }
}
