//! `l1d demo`, and the hidden `l1d demo-worker` that it starts.

use super::{REFUSED, TIER_FAILED, print, print_error, unwritable};
use anyhow::Context;
use l1d_demo::{Options, TierFailed, WorkerOptions};
use l1d_wire::words;
use std::process::ExitCode;

pub(super) fn run(options: &Options) -> ExitCode {
    let outcome = std::env::current_exe()
        .context("cannot find this program's executable, which the demo starts as its daemon")
        .and_then(|program| l1d_demo::run(&program, options));
    match outcome {
        Ok(outcome) => print(&outcome.text).map_or_else(unwritable, |()| outcome.code),
        Err(error) => failed(&error),
    }
}

pub(super) fn run_worker(options: &WorkerOptions) -> ExitCode {
    l1d_demo::run_worker(options).unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    print_error(format_args!("l1d: {}", words::chain(error.as_ref())));
    ExitCode::from(if error.is::<TierFailed>() { TIER_FAILED } else { REFUSED })
}
