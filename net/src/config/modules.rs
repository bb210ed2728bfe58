//! The modules that `-target` names and `-modules` lists.

/// A part of the system that a process may run.
#[derive(Debug)]
pub struct Module {
    /// As `-target` takes it.
    pub name: &'static str,
    /// Whether `all` includes it.
    pub is_in_all: bool,
}

/// Name of the target that runs everything one node needs.
pub(super) const ALL: &str = "all";

/// All modules, sorted by name.
pub static MODULES: &[Module] = &[
    Module { name: ALL, is_in_all: false },
    Module { name: "compactor", is_in_all: true },
    Module { name: "distributor", is_in_all: true },
    Module { name: "ingester", is_in_all: true },
    Module { name: "querier", is_in_all: true },
    Module { name: "query-frontend", is_in_all: true },
    Module { name: "query-scheduler", is_in_all: true },
    Module { name: "store-gateway", is_in_all: true },
];

/// Text of `-modules`, as Pyroscope prints it.
pub(super) fn listing() -> String {
    let mut text = String::new();
    for Module { name, is_in_all } in MODULES {
        text.push_str(name);
        text.push_str(if *is_in_all { " *\n" } else { "\n" });
    }
    text + "\nModules marked with * are included in target All.\n"
}

/// Refuses a target that this version cannot run, and says why.
pub(super) fn check(target: &str) -> Result<(), String> {
    let names: Vec<&str> = target.split(',').map(str::trim).collect();
    for name in &names {
        if !MODULES.iter().any(|module| module.name == *name) {
            return Err(format!("there is no module {name:?}; -modules lists them"));
        }
    }
    if names.contains(&ALL) {
        return Ok(()); // whatever else is named is part of it
    }
    Err("only target all is built so far: a process runs all modules".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_modules() {
        assert_eq!(check("all"), Ok(()));
        assert_eq!(check("distributor, all"), Ok(()));
        assert!(check("querier").unwrap_err().starts_with("only target all is built so far"));
        assert_eq!(
            check("all,metastore").unwrap_err(),
            "there is no module \"metastore\"; -modules lists them"
        );
        assert!(check("").is_err());
    }

    #[test]
    fn modules_are_sorted_and_those_of_all_are_marked() {
        assert!(MODULES.is_sorted_by(|a, b| a.name < b.name), "sorted by name");
        assert!(listing().starts_with("all\ncompactor *\ndistributor *\n"), "{}", listing());
    }
}
