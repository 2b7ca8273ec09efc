//! The `headcount` binary: parse the command line, dispatch.

use std::process::ExitCode;

/// Takes less CPU per request than the system's allocator: a request allocates and frees some hundred small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headcount::cli::main()
}
