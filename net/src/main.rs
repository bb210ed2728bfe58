//! The `pyrite` binary: flags or a command in, exit status out.

use std::io::Write as _;
use std::process::ExitCode;

use net::config::{self, Invocation};
use net::{offline, process};

/// Owned buffers move between shards all the time: mimalloc frees memory of another thread 8 times faster than glibc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::BufWriter::new(std::io::stdout());
    if let Some(status) = offline::run(&args, &mut out, &mut std::io::stderr()) {
        return ExitCode::from(status);
    }
    let status = match config::parse(args) {
        Ok(Invocation::Run(config)) => process::run(*config),
        Ok(Invocation::Print(text)) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => process::EXIT_OK,
            Err(_) => process::EXIT_FAILED,
        },
        Err(error) => {
            let (hint, status) = if error.is_usage() {
                ("\nRun 'pyrite -help' for all flags.", process::EXIT_USAGE)
            } else {
                ("", process::EXIT_FAILED)
            };
            // Nothing is left to do if stderr is gone, too.
            let _ = writeln!(std::io::stderr(), "{error}{hint}");
            status
        }
    };
    ExitCode::from(status)
}
