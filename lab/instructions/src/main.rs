//! `l1d-instructions`: counts the instructions of reads and writes, and checks that they did not
//! increase.

mod cases;
mod record;

use anyhow::{Context, Result};
use clap::Parser;
use l1d_instructions::callgrind;
use record::{Build, Record};
use std::path::PathBuf;
use std::process::ExitCode;

/// Counts the instructions of l1d's reads and writes under valgrind, and compares them with the
/// recorded counts.
///
/// Counts of one build are the same in every run, even on a busy machine. They depend on the
/// compiler and, where memory is allocated, on the C library: if these differ from the recorded
/// ones, nothing is compared and a message says so; if the environment variable CI is set, that is
/// a failure. Counts are for x86-64.
///
/// Exit codes: 0 no count is more than 3 % above its record; 1 one is; 4 counting failed or, in CI,
/// nothing was compared.
#[derive(Debug, Parser)]
#[command(name = "l1d-instructions", version, max_term_width = 100)]
struct Options {
    /// Record the current counts
    #[arg(long)]
    record: bool,
    /// The recorded counts
    #[arg(long, value_name = "FILE", default_value = "lab/instructions.toml")]
    file: PathBuf,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// Run the legs for valgrind; used by this program, not by people
    #[arg(long, hide = true)]
    counted: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("l1d-instructions: {error:#}");
            ExitCode::from(4)
        }
    }
}

/// Returns whether all counts hold, or nothing was to be compared.
fn run(options: &Options) -> Result<bool> {
    if options.counted {
        return cases::run().map(|()| true);
    }
    let build = Build::this();
    if !build.is_counted() {
        eprintln!(
            "l1d-instructions: only x86-64 is counted, this is {}: nothing to do",
            build.target
        );
        return Ok(true);
    }
    let program = std::env::current_exe().context("this program's own file cannot be found")?;
    let counts = callgrind::count(&program, &["--counted"])?;
    if options.record {
        let record = Record::new(build, &counts);
        record.write(&options.file)?;
        eprintln!("l1d-instructions: recorded in {}", options.file.display());
        return Ok(true);
    }
    let record = Record::read(&options.file)?;
    let comparison = record.compare(build, &counts);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        println!("{}", comparison.text());
    }
    comparison.ensure_compared(std::env::var_os("CI").is_some_and(|value| !value.is_empty()))?;
    Ok(comparison.holds())
}
