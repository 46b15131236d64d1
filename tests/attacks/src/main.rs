//! `l1d-attacks`: programs that attack a running daemon as another user, and what becomes of it.
//!
//! As root it starts a daemon as one user, a client that follows the rules as a second one, and
//! each attack as a third one: a *member* of the socket's group, which may attach, or a *stranger*,
//! which may not. The client checks every value that it reads, and times its hits and its requests
//! beside the attack, beside threads that only use up the time of all processors, or write memory, and alone.

mod attack;
mod attacks;
mod child;
mod dumps;
mod list;
mod owner;
mod report;
mod round;
mod squatted;
mod stage;
mod users;
mod victim;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Attacks on a running l1d by other users", version)]
struct Command {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

/// How the attacks are run.
#[derive(Debug, Args)]
struct Options {
    /// The attacks to run [default: all]
    attacks: Vec<String>,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// Rounds of each attack, each beside the attack, beside threads that use up the time of all
    /// processors, beside threads that write memory on all of them, and alone; 0: each attack once, nothing is compared
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long the client runs in each
    #[arg(long, default_value_t = 2000, value_name = "MS")]
    round_ms: u64,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// The processes of a round: this program once more.
#[derive(Debug, Subcommand)]
enum Role {
    /// One attack, until standard input ends
    #[command(hide = true)]
    Attack(child::Orders),
    /// A thread on each processor that uses up its time, until standard input ends
    #[command(hide = true)]
    Burn(child::Orders),
    /// A thread on each processor that writes memory, until standard input ends
    #[command(hide = true)]
    Fill(child::Orders),
    /// Nothing, until standard input ends
    #[command(hide = true)]
    Wait(child::Orders),
    /// The client that follows the rules
    #[command(hide = true)]
    Victim(child::Orders),
}

fn main() -> Result<ExitCode> {
    let Command { role, options } = Command::parse();
    match role {
        Some(Role::Attack(orders)) => child::attack(&orders)?,
        Some(Role::Burn(orders)) => child::on_all_processors(&orders, std::hint::spin_loop)?,
        Some(Role::Fill(orders)) => child::on_all_processors(&orders, child::fill)?,
        Some(Role::Wait(orders)) => child::wait(&orders)?,
        Some(Role::Victim(orders)) => victim::run(&orders)?,
        None => return all(&options),
    }
    Ok(ExitCode::SUCCESS)
}

fn all(options: &Options) -> Result<ExitCode> {
    if let Err(reason) = users::can_be_used() {
        println!("NOT TESTED: the attacks run as users of their own, and {reason}");
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = list::chosen(&options.attacks)?;
    let program = match &options.l1d {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("l1d"),
    };
    if !program.exists() {
        bail!("{} is missing: cargo build --bins, or name it with --l1d", program.display());
    }
    let time = Duration::from_millis(options.round_ms);
    let mut outcomes = Vec::new();
    for attack in chosen {
        eprintln!("{}", attack.name);
        let outcome = round::run(&program, attack, options.rounds, time);
        outcomes.push(outcome.unwrap_or_else(|error| report::Outcome::failed(attack, &error)));
    }
    if options.attacks.is_empty() {
        eprintln!("squatted names");
        outcomes.push(squatted::run(&program)?);
        eprintln!("core dumps");
        outcomes.push(dumps::run(&program)?);
    }
    report::print(&outcomes, options)?;
    let breaches = outcomes.iter().map(|outcome| outcome.breaches.len()).sum::<usize>();
    Ok(if breaches == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
