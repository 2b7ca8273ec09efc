//! The `headcount` binary: parse the command line, dispatch.

use std::process::ExitCode;

fn main() -> ExitCode {
    headcount::cli::main()
}
