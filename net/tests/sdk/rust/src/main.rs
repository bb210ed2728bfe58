//! A program whose hot function is known, profiled by the Rust SDK: what `run.py` looks for in the flame graph.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pyroscope::backend::{BackendConfig, PprofConfig, pprof_backend};
use pyroscope::pyroscope::PyroscopeAgentBuilder;

const SAMPLES_PER_SECOND: u32 = 100;

/// Its name is what the proof is about, so it stays a function of its own.
#[inline(never)]
fn hot_checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(black_box(*byte))).wrapping_mul(0x0100_0000_01b3)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
    let (address, application) = (next("address")?, next("application")?);
    let time = Duration::from_secs_f64(next("seconds")?.parse()?);

    let backend =
        pprof_backend(PprofConfig { sample_rate: SAMPLES_PER_SECOND }, BackendConfig::default());
    let agent = PyroscopeAgentBuilder::new(
        address,
        application,
        SAMPLES_PER_SECOND,
        "pyroscope-rs",
        "2.1.5",
        backend,
    )
    .tags(vec![("proof", "sdk")])
    .build()?
    .start()?;

    let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| i as u8).collect();
    let begun = Instant::now();
    while begun.elapsed() < time {
        black_box(hot_checksum(&bytes));
    }
    agent.stop()?.shutdown();
    Ok(())
}
