//! `l1d-mechanisms`: sees each promise's test fail without the mechanism that keeps the promise.

mod mechanism;
mod promise;
mod tree;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use mechanism::Mechanism;
use promise::{Outcome, Programs, Test};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tree::Tree;

/// Takes out the mechanism behind each of l1d's promises, one after another, and sees that its test
/// fails.
///
/// A copy of the source tree is changed so that all of the mechanisms can be taken out by an
/// environment variable, and built once. Each test must pass with everything in place, and fail
/// without its mechanism. A test that takes longer than its limit counts as failed.
///
/// Exit codes: 0 every test passed and failed as it should; 1 one did not; 4 building failed.
#[derive(Debug, Parser)]
#[command(name = "l1d-mechanisms", version, max_term_width = 100)]
struct Options {
    /// Only tests, and descriptions of mechanisms, that contain this text
    #[arg(default_value = "")]
    pattern: String,
    /// Only check that each mechanism is found in the sources
    #[arg(long)]
    check: bool,
    /// The root of the source tree
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    root: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("l1d-mechanisms: {error:#}");
            ExitCode::from(4)
        }
    }
}

/// Returns whether every test has done what it should.
fn run(options: &Options) -> Result<bool> {
    let all = mechanism::read(&options.root.join("tests/mechanisms/mechanisms.toml"))?;
    for mechanism in &all {
        mechanism.check(&options.root)?;
    }
    if options.check {
        eprintln!("{} mechanisms are where they should be", all.len());
        return Ok(true);
    }
    let chosen = chosen(&all, &options.pattern);
    ensure!(!chosen.is_empty(), "no test and no mechanism contains {:?}", options.pattern);
    let place = options.root.join("target/mechanisms");
    let tree = Tree::make(&options.root, &place.join("tree"), &all)?;
    let tests: Vec<&Test> = chosen.iter().map(|(test, _)| test).collect();
    let programs = Programs::build(&tree, &std::path::absolute(place)?, &tests)?;
    let mut is_right = true;
    for (test, mechanism) in &chosen {
        is_right &= see(&programs, test, mechanism)?;
    }
    Ok(is_right)
}

/// The tests that the pattern selects, each with its mechanism.
fn chosen<'a>(all: &'a [Mechanism], pattern: &str) -> Vec<(Test, &'a Mechanism)> {
    let mut chosen = Vec::new();
    for mechanism in all {
        for name in &mechanism.tests {
            if name.contains(pattern) || mechanism.without.contains(pattern) {
                chosen.push((Test::new(name), mechanism));
            }
        }
    }
    chosen
}

/// Runs a test with everything in place, and without its mechanism.
fn see(programs: &Programs, test: &Test, mechanism: &Mechanism) -> Result<bool> {
    let begun = Instant::now();
    let whole = programs.run(test, None)?;
    let without = programs.run(test, Some(&mechanism.id()))?;
    let took = begun.elapsed().as_secs_f32();
    println!("{test}\n  without {}:", mechanism.without);
    let is_right = match (&whole, &without) {
        (Outcome::Passed, Outcome::Failed(reason)) => {
            println!("  fails: {reason} ({took:.1} s)");
            true
        }
        (Outcome::Failed(reason), _) => {
            println!("  WRONG: it fails with everything in place: {reason}");
            false
        }
        (_, Outcome::Passed) => {
            println!("  WRONG: it passes");
            false
        }
    };
    Ok(is_right)
}

/// The text of a file.
fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Fails if a command does not succeed.
fn succeed(command: &mut std::process::Command) -> Result<Vec<u8>> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", output.status);
    }
    Ok(output.stdout)
}
