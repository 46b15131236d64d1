//! Rounds in which every contestant takes a turn at every operation.

use super::cast::Cast;
use super::contestant::Contestant;
use super::lockstep;
use super::operation::Operation;
use super::options::MissesOptions;
use super::prepare;
use super::report::{Report, Rows};
use super::text;
use super::worker::{Done, Order};
use crate::distance::{Load, Proxy};
use crate::machine::Machine;
use crate::progress::Progress;
use anyhow::{Context, Result};
use l1d::clock::monotonic_ns;
use std::time::Duration;

/// Default numbers of processes.
const PROCESSES: [u32; 4] = [1, 4, 8, 16];
/// Lead time between telling the processes to begin and the begin.
const AHEAD_NS: u64 = 20_000_000;
/// Warm-up: time for everything that adapts to the load.
const WARM_UP_NS: u64 = 150_000_000;

/// Runs `misses`.
///
/// # Errors
/// Servers or a daemon do not start, or a process gives up.
pub fn misses(options: &MissesOptions) -> Result<()> {
    if options.syscalls {
        return lockstep::syscalls(options);
    }
    let (progress, machine) = (Progress::new(), Machine::this()?);
    let counts = options.processes.as_deref().unwrap_or(&PROCESSES);
    let mut rows = Rows::new(options, counts);
    let mut measurement = 0;
    for round in 0..options.rounds {
        for &processes in counts {
            let place = format!("round {} of {}, {processes} processes", round + 1, options.rounds);
            progress.say(&format!("{place}: starting"));
            let mut cast = Cast::start(options, processes)?;
            for &operation in &options.operations {
                for contestant in in_turn(&options.contestants, round) {
                    let name = contestant.name();
                    progress.say(&format!("{place}: {}, {name}", operation.name()));
                    measurement += 1;
                    let figures =
                        measure(options, &mut cast, contestant, operation, measurement)
                            .with_context(|| format!("{}, {name}, {place}", operation.name()))?;
                    rows.add(operation, processes, contestant, &figures);
                }
            }
        }
    }
    drop(progress);
    let report = Report::new(options, machine, rows);
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text::of(&report))?;
    }
    Ok(())
}

/// One measurement.
pub struct Measured {
    /// Results of all client processes together.
    pub done: Done,
    /// Operations per second of all client processes together.
    pub per_second: f64,
    /// Processor time of all processes and servers, per operation.
    pub cpu_ns: f64,
    /// The load of the proxy, if there is a distance.
    pub proxy: Option<Load>,
}

/// The contestants, rotated so that each round begins with another one.
fn in_turn(contestants: &[Contestant], round: u32) -> impl Iterator<Item = Contestant> {
    let skip = round as usize % contestants.len().max(1);
    contestants.iter().cycle().skip(skip).take(contestants.len()).copied()
}

fn measure(
    options: &MissesOptions,
    cast: &mut Cast,
    contestant: Contestant,
    operation: Operation,
    measurement: u32,
) -> Result<Measured> {
    let processes = cast.team(contestant)?.processes.len();
    let window_ns = Duration::from_secs_f64(options.seconds);
    let window_ns = u64::try_from(window_ns.as_nanos())?;
    let seconds = (WARM_UP_NS + window_ns).div_ceil(1_000_000);
    let keys = u64::from(operation.keys_per_second()) * seconds / 1000 / processes as u64;
    let batch = operation.batch();
    let keys = u32::try_from(keys)?.next_multiple_of(batch);
    let value = vec![7; options.value_bytes as usize];
    let shape = (u32::try_from(processes)?, keys);
    prepare::fill(&cast.servers, operation, measurement, shape, &value)?;
    let begin_ns = monotonic_ns() + AHEAD_NS;
    let count_ns = begin_ns + WARM_UP_NS;
    let order = Order {
        operation,
        measurement,
        first: 0,
        keys,
        begin_ns,
        count_ns,
        end_ns: count_ns + window_ns,
    };
    for process in &mut cast.team(contestant)?.processes {
        process.tell(&order)?;
    }
    std::thread::sleep(Duration::from_nanos(count_ns.saturating_sub(monotonic_ns())));
    let mark = cast.servers.proxy().map(Proxy::mark).transpose()?;
    let cpu_before = cast.cpu_ns(contestant)?;
    let (mut done, mut per_second) = (Done::default(), 0.0);
    for process in &mut cast.team(contestant)?.processes {
        let one: Done = process.answer()?;
        per_second += one.count as f64 * 1e9 / one.elapsed_ns.max(1) as f64;
        done.count += one.count;
        done.errors += one.errors;
        done.last_error = one.last_error.or(done.last_error);
        done.ns.add(&one.ns)?;
    }
    let cpu_ns = (cast.cpu_ns(contestant)? - cpu_before) as f64 / done.count.max(1) as f64;
    let proxy = match (cast.servers.proxy(), mark) {
        (Some(proxy), Some(mark)) => Some(proxy.load_since(&mark)?),
        _ => None,
    };
    Ok(Measured { done, per_second, cpu_ns, proxy })
}
