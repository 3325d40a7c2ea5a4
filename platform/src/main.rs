//! `berth`: one binary, a word for each part. This file parses the word and calls the part.

use std::process::ExitCode;

use berth::cli;

fn main() -> ExitCode {
    cli::main()
}
