//! Settings of Pyroscope and Phlare that are taken and do nothing, so that their files and manifests start Pyrite as they are.
//!
//! One list, `accepted.txt`, serves the command line and YAML; its head says how it is written. A setting is in it or in
//! [`FLAGS`](super::FLAGS), never in both. What would change where data goes or who may see it does not belong here: such a
//! setting is honoured or refused ([`Config::check`](super::Config::check)).

use std::collections::HashMap;
use std::sync::LazyLock;

/// A setting that is taken and does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Flag without dashes; empty when there is none.
    pub flag: String,
    /// Path in YAML; empty when there is none.
    pub path: String,
    /// Whether the flag may stand without a value.
    pub is_bool: bool,
}

/// The list, in its own order.
pub static ACCEPTED: LazyLock<Vec<Accepted>> = LazyLock::new(|| read(include_str!("accepted.txt")));

/// The setting of this flag.
pub(super) fn by_flag(name: &str) -> Option<&'static Accepted> {
    ACCEPTED.iter().find(|setting| !setting.flag.is_empty() && setting.flag == name)
}

/// The setting at this path.
pub(super) fn by_path(path: &str) -> Option<&'static Accepted> {
    ACCEPTED.iter().find(|setting| !setting.path.is_empty() && setting.path == path)
}

/// Reads the list. It is part of the program, so what is wrong with it is a bug and ends the process.
fn read(list: &str) -> Vec<Accepted> {
    let mut families: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut family = None;
    let mut block = ("", "");
    let mut settings = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let setting = line.strip_prefix("  ");
        let words: Vec<&str> = line.split(' ').collect();
        match (setting, family, words.as_slice()) {
            (Some(setting), Some(name), _) => families.entry(name).or_default().push(setting),
            (Some(setting), None, _) => settings.push(one(block, setting)),
            (None, _, ["family", name]) => family = Some(*name),
            (None, _, ["flags"]) => (family, block) = (None, ("", "flags")),
            (None, _, ["block", path, flag]) => (family, block) = (None, (*path, *flag)),
            (None, _, ["block", path, flag, name]) => {
                settings.extend(families[name].iter().map(|setting| one((*path, *flag), setting)));
            }
            _ => panic!("accepted.txt: {line:?}"),
        }
    }
    settings
}

fn one((path, flag): (&str, &str), setting: &str) -> Accepted {
    let (setting, is_bool) = match setting.strip_suffix(" bool") {
        Some(setting) => (setting, true),
        None => (setting, false),
    };
    let below = |prefix: &str, name: &str| match prefix {
        "." => name.to_owned(),
        prefix => format!("{prefix}.{name}"),
    };
    let (name, flag) = match (path, setting.split_once(' ')) {
        ("", _) => return Accepted { flag: setting.to_owned(), path: String::new(), is_bool },
        (_, None) => (setting, below(flag, &setting.replace('_', "-"))),
        (_, Some((name, "-"))) => (name, String::new()),
        (_, Some((name, other))) => {
            let flag =
                other.strip_prefix('.').map_or_else(|| other.to_owned(), |rest| below(flag, rest));
            (name, flag)
        }
    };
    Accepted { flag, path: below(path, name), is_bool }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::FLAGS;

    #[test]
    fn the_notation_says_path_flag_and_whether_it_is_a_boolean() {
        let list = "# why\nfamily f\n  g.h\n  i .j bool\n\nblock a b\n  c_d\n  e .x-y bool\n  k other.z\n  l -\n\n\
                    block p q f\n\nblock . .\n  m_n\n\nflags\n  o.p bool\n";
        let found: Vec<String> = read(list)
            .into_iter()
            .map(|Accepted { flag, path, is_bool }| {
                format!("{path}={flag}{}", if is_bool { "!" } else { "" })
            })
            .collect();
        let want = "a.c_d=b.c-d a.e=b.x-y! a.k=other.z a.l= p.g.h=q.g.h p.i=q.j! m_n=m-n =o.p!";
        assert_eq!(found.join(" "), want);
    }

    #[test]
    fn a_setting_is_accepted_once_and_not_honoured_as_well() {
        let mut seen = HashSet::new();
        for flag in FLAGS {
            for name in std::iter::once(&flag.name).chain(flag.aliases) {
                seen.insert(format!("-{name}"));
            }
            seen.extend(flag.yaml.iter().map(|path| (*path).to_owned()));
        }
        for setting in ACCEPTED.iter() {
            for name in [format!("-{}", setting.flag), setting.path.clone()] {
                let is_new = name.len() < 2 || seen.insert(name.clone());
                assert!(is_new, "{name} is in the table of flags or twice in accepted.txt");
            }
        }
    }

    #[test]
    fn a_block_is_no_setting() {
        for setting in ACCEPTED.iter() {
            let inside = format!("{}.", setting.path);
            let other = ACCEPTED.iter().find(|other| other.path.starts_with(&inside));
            assert_eq!(other.filter(|_| !setting.path.is_empty()), None, "{}", setting.path);
        }
    }
}
