//! Pages of `docs/` that are made from tables in the code; `UPDATE_DOCS=1` rewrites them.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;

fn page_is(name: &str, want: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, want).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == want, "docs/{name} differs from the table: run this with UPDATE_DOCS=1");
}

#[test]
fn the_configuration_page_is_the_table_of_flags() {
    page_is("configuration.md", &net::config::reference_page());
}

#[test]
fn the_metrics_page_is_the_table_of_metrics() {
    page_is("metrics.md", &net::telemetry::metrics::reference_page());
}

/// What a line of the systemd unit sets.
fn unit_setting(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pyrite.service");
    let unit = std::fs::read_to_string(path).unwrap();
    let value = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("the unit sets {name}")).to_owned()
}

/// An operator copies the unit as it is: flags that have been renamed would keep the server from starting.
#[test]
fn the_systemd_unit_starts_with_flags_that_exist() {
    let line = unit_setting("ExecStart");
    let mut words = line.split_whitespace().map(str::to_owned);
    let program = words.next().unwrap();
    assert!(program.starts_with('/') && program.ends_with("/pyrite"), "{program}");
    let parsed = net::config::parse(words).unwrap();
    let net::config::Invocation::Run(config) = parsed else { panic!("{line} does not run") };
    let state = format!("/var/lib/{}", unit_setting("StateDirectory"));
    assert_eq!(config.data_path.to_str(), Some(&*state), "what it may write to");
}
