//! `l1d` with fault points: `L1D_FAULT=NAME[:NTH]` ends the process with SIGKILL when it reaches
//! the point NAME for the NTH time, the first if none is given. `l1d-faults client SOCKET` is a
//! client instead, which makes every kind of request over and over.

mod arm;
mod client;

use std::process::ExitCode;

fn main() -> ExitCode {
    arm::from_environment();
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("client"), Some(socket)) => client::run(&socket),
        _ => l1d::cli::run(),
    }
}
