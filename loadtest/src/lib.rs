//! The load tester as a library: workload, client, latency, report.
