//! The `headcount` binary: parse the command line, dispatch.

use std::process::ExitCode;

/// Takes a proxied request 4 to 12 % less CPU than the system's allocator, for 3 to 5 MB more of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headcount::cli::main()
}
