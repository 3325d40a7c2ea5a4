//! The entry point of the `berth` binary: `serve` and the operator's commands are subcommands, parsed in `cli`.

use std::process::ExitCode;

use berth::cli;

fn main() -> ExitCode {
    cli::main()
}
