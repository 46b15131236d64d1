//! `l1d-lab`: measures the gains and costs of l1d. One subcommand per experiment.

// These macros panic on a closed pipe; `output::print` and `l1d::cli::print_error` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod attach;
mod chart;
mod compare;
mod copied;
mod crash;
mod daemon;
mod distance;
mod failure;
mod hit_ratio;
mod hot_key;
mod idle;
mod interrupt;
mod machine;
mod memory;
mod misses;
mod output;
mod process;
mod progress;
mod random;
mod reads;
mod results;
mod scratch;
mod statistics;
mod stores;
mod table;
mod threads;
mod times;
mod torture;
mod trace;
mod turns;
mod visibility;
mod writes;
mod zipf;

use clap::{Parser, Subcommand};
use l1d_wire::words;
use std::process::ExitCode;

/// Measures l1d against the physical limit and against an L1 in each process.
///
/// Every experiment starts its own daemon and servers and leaves nothing behind. Use the release
/// build on an otherwise idle machine; compare ratios within one run, never figures of two.
#[derive(Debug, Parser)]
#[command(name = "l1d-lab", version, max_term_width = 100)]
struct Arguments {
    /// Save the experiment's JSON document in this file, too
    #[arg(long, global = true, value_name = "FILE", help_heading = "All experiments")]
    save: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The physical limit of a read: one line of an index, then the entry
    Limit(reads::ReadOptions),
    /// Reads of the client, beside the limit and other stores in the same rounds
    ///
    /// Cases: `hit`: 64 bytes copied out, beside all rivals. `miss`: keys that do not exist.
    /// `batch`: `get_many` of 16 keys, beside 16 overlapping reads of the limit. `copy`: values of
    /// 1 and 16 KiB, beside a memcpy of the same size from a known place. `in-place`: 8 bytes of a
    /// value of 16 KiB, beside an Arc of the value from quick_cache. `decoded`: a JSON value of 16
    /// KiB as an object, beside an Arc of the object from quick_cache.
    Read(reads::ReadCommand),
    /// Bytes per entry that l1d needs in addition to key and value
    Bytes(reads::BytesOptions),
    /// l1d against no L1 and an L1 in each process, with several readers, a writer and real tiers
    Compare(compare::CompareOptions),
    /// The cost of a set for its client, beside round trips of two processes and other stores
    Write(writes::WriteOptions),
    /// Time until a set value is visible to its writer and to others, beside other stores
    Visibility(visibility::VisibilityOptions),
    /// The owner's longest turns: while a million entries expire, and while the table moves
    Turns(turns::TurnsOptions),
    /// Misses and writes: l1d, private connections, and a bare forwarder as the limit
    Misses(misses::MissesOptions),
    /// The cost of overwriting: bytes copied and entries evicted, over the dead share of the log
    Copied(copied::CopiedOptions),
    /// Hit ratios on request traces: l1d's table, other caches, LRU and the offline optimum
    HitRatio(hit_ratio::HitRatioOptions),
    /// A few keys, readers, and a writer that never rests
    ///
    /// Readers run on cores of their own, the writer on the last core: with fewer readers than
    /// cores it has that core for itself and sets at an even pace, otherwise it shares it with a
    /// reader and makes the sets that are due once a millisecond. `--keys 10000 --readers 1` is a
    /// reader alone on its core while the owner on the other applies sets to the same keys.
    HotKey(hot_key::HotKeyOptions),
    /// All of the above in one document: goals, tables and plots
    Results(results::ResultsOptions),
    /// The cost that each part of a hit adds to the limit, in ns and in instructions
    Costs(reads::CostsOptions),
    /// The steps whose instructions `costs` counts; started by it, not by people
    #[command(hide = true)]
    CountedSteps,
    /// The activity of an idle daemon
    Idle(idle::IdleOptions),
    /// The cost of a process that attaches, reads a hundred keys and ends
    Attach(attach::AttachOptions),
    /// What crashes cost: hits of a dead daemon, entries kept, time to be ready, requests under way
    Crash(crash::CrashOptions),
    /// A client of `crash`; started by it, not by people
    #[command(hide = true)]
    CrashClient(crash::CrashClientPlace),
    /// Kills, stops and faults of everything at random, under load; every value is verified
    ///
    /// The seed decides what is done when. Fails if a value was wrong, a process crashed, memory or
    /// descriptors leaked, or an acknowledged write was lost.
    Torture(torture::TortureOptions),
    /// One client of `torture`; started by it, not by people
    #[command(hide = true)]
    TortureWorker(torture::TortureWorkerPlace),
    /// One process of `attach`; started by it, not by people
    #[command(hide = true)]
    Visitor(attach::VisitorPlace),
    /// One process of `write` and `visibility`; started by them, not by people
    #[command(hide = true)]
    Peer(writes::PeerPlace),
    /// One process of `visibility`; started by it, not by people
    #[command(hide = true)]
    Watcher(visibility::WatcherPlace),
    /// One process of `compare`; started by it, not by people
    #[command(hide = true)]
    Worker(compare::WorkerOptions),
    /// One client of `misses`; started by it, not by people
    #[command(hide = true)]
    MissWorker(misses::WorkerOptions),
    /// The limit of `misses`; started by it, not by people
    #[command(hide = true)]
    Forwarder(misses::ForwarderOptions),
    /// The proxy behind --distance; started by experiments, not by people
    #[command(hide = true)]
    Proxy(distance::ProxyOptions),
    /// One process of `limit` and `read`; started by them, not by people
    #[command(hide = true)]
    Reader(reads::ReaderOptions),
    /// One process of `hot-key`; started by it, not by people
    #[command(hide = true)]
    HotReader(hot_key::HotReaderPlace),
}

fn main() -> ExitCode {
    let Arguments { save, command } = l1d::cli::arguments();
    if let Some(file) = save {
        output::save_in(file);
    }
    // Workers and readers are killed by the process that started them.
    let result = match command {
        Command::Worker(_)
        | Command::Reader(_)
        | Command::HotReader(_)
        | Command::Visitor(_)
        | Command::Peer(_)
        | Command::Watcher(_)
        | Command::MissWorker(_)
        | Command::Forwarder(_)
        | Command::Proxy(_)
        | Command::TortureWorker(_)
        | Command::CrashClient(_)
        | Command::CountedSteps => Ok(()),
        _ => interrupt::watch(),
    };
    let result = result.and_then(|()| match command {
        Command::Limit(options) => reads::limit(&options),
        Command::Read(options) => reads::read(&options),
        Command::Bytes(options) => reads::bytes(&options),
        Command::Compare(options) => compare::compare(&options),
        Command::Write(options) => writes::write(&options),
        Command::Visibility(options) => visibility::visibility(&options),
        Command::Peer(place) => writes::peer(&place),
        Command::Watcher(place) => visibility::watcher(&place),
        Command::Misses(options) => misses::misses(&options),
        Command::MissWorker(options) => misses::worker(&options),
        Command::Proxy(options) => distance::proxy(&options),
        Command::Forwarder(options) => misses::forwarder(&options),
        Command::Turns(options) => turns::turns(&options),
        Command::Copied(options) => copied::copied(&options),
        Command::HitRatio(options) => hit_ratio::hit_ratio(&options),
        Command::Worker(options) => compare::worker(&options),
        Command::Reader(options) => reads::reader(&options),
        Command::Idle(options) => idle::idle(&options),
        Command::Results(options) => results::results(&options),
        Command::Costs(options) => reads::costs(&options),
        Command::CountedSteps => reads::counted(),
        Command::Attach(options) => attach::attach(&options),
        Command::Visitor(place) => attach::visitor(&place),
        Command::HotKey(options) => hot_key::hot_key(&options),
        Command::HotReader(place) => hot_key::hot_reader(&place),
        Command::Crash(options) => crash::crash(&options),
        Command::CrashClient(place) => crash::client(&place),
        Command::Torture(options) => torture::torture(&options),
        Command::TortureWorker(place) => torture::worker(&place),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            interrupt::hold_if_interrupted();
            l1d::cli::print_error(format_args!("l1d-lab: {}", words::chain(error.as_ref())));
            failure::exit_code(&error)
        }
    }
}
