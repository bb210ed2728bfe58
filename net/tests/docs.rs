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
