//! A reader in its own process or thread. It carries out orders: when to begin, and for how long to
//! read.

use super::blackboard::BlackboardView;
use super::cells::Cells;
use super::lmdb::LmdbView;
use super::owner::OwnerView;
use super::service::ServiceView;
use super::view::{Figures, Looping, Reader};
use crate::interrupt;
use crate::machine::pin;
use anyhow::{Context, Result, bail};
use l1d::clock::monotonic_ns;
use l1d_wire::mapping::Access;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// The store that a process reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shared {
    /// The limit's cells, in a file.
    Cells,
    /// A daemon's table, by its socket.
    Service,
    /// A table, in a file.
    Owner,
    /// LMDB, in a directory.
    Lmdb,
    /// A blackboard, in a directory.
    Blackboard,
}

/// Options of a reader process.
#[derive(Debug, Clone, clap::Args)]
pub struct HotReaderOptions {
    /// The store to read
    #[arg(long)]
    pub shared: Shared,
    /// Its path
    #[arg(long)]
    pub at: PathBuf,
    /// Prefix of its files in /dev/shm, if it has any
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// Number of keys
    #[arg(long)]
    pub keys: u32,
}

/// An order to read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Order {
    /// When to begin, on CLOCK_MONOTONIC: slightly in the future, so that all readers begin
    /// together.
    pub begin_ns: u64,
    /// Warm-up, which is not counted.
    pub warm_up_ms: u64,
    /// Measured time.
    pub round_ms: u64,
}

fn carry_out(reader: &mut dyn Reader, order: Order) -> Figures {
    while monotonic_ns() < order.begin_ns {
        std::hint::spin_loop();
    }
    reader.pass(Duration::from_millis(order.warm_up_ms));
    reader.pass(Duration::from_millis(order.round_ms))
}

/// Makes a reader with this seed, in the thread that will use it.
pub type MakeReader = Box<dyn FnOnce(u64) -> Box<dyn Reader> + Send>;

/// A running reader. Its process ends when it is dropped, its thread soon after.
pub enum Handle {
    /// In a process.
    Process {
        /// The process.
        child: Child,
        /// Orders to the process.
        orders: ChildStdin,
        /// Its answers.
        answers: BufReader<ChildStdout>,
    },
    /// In a thread.
    Thread {
        /// Orders to the thread.
        orders: Sender<Order>,
        /// Its answers.
        answers: Receiver<Result<Figures>>,
    },
}

impl Handle {
    /// Starts a process. Must be called by the main thread.
    ///
    /// # Errors
    /// It does not start, or cannot read the store.
    pub fn process(options: &HotReaderOptions, core: usize, seed: u64) -> Result<Handle> {
        let HotReaderOptions { shared, at, prefix, keys } = options;
        let shared = clap::ValueEnum::to_possible_value(shared).context("no such reader")?;
        let mut command = Command::new(
            std::env::current_exe().context("this program's own file cannot be found")?,
        );
        command.args(["hot-reader", "--shared", shared.get_name(), "--prefix", prefix]);
        command.args(["--keys", &keys.to_string(), "--core", &core.to_string()]);
        command.args(["--seed", &seed.to_string(), "--at"]).arg(at);
        interrupt::die_together(&mut command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a reader")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a reader without pipes")
        };
        let mut handle = Handle::Process { child, orders, answers: BufReader::new(answers) };
        handle.figures()?;
        Ok(handle)
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// No thread, or no such core.
    pub fn thread(make: MakeReader, core: usize, seed: u64) -> Result<Handle> {
        let (orders, to_do) = channel();
        let (done, answers) = channel();
        let work = move || {
            if let Err(error) = pin(core) {
                let _ = done.send(Err(error));
                return;
            }
            let mut reader = make(seed);
            let _ = done.send(Ok(reader.pass(Duration::ZERO)));
            for order in to_do {
                if done.send(Ok(carry_out(reader.as_mut(), order))).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn(work).context("no thread for a reader")?;
        let mut handle = Handle::Thread { orders, answers };
        handle.figures()?;
        Ok(handle)
    }

    /// Gives an order.
    ///
    /// # Errors
    /// It has ended.
    pub fn tell(&mut self, order: Order) -> Result<()> {
        match self {
            Handle::Process { orders, .. } => {
                writeln!(orders, "{}", serde_json::to_string(&order)?)
                    .context("a reader does not listen")
            }
            Handle::Thread { orders, .. } => orders.send(order).context("a reader has ended"),
        }
    }

    /// Waits for the figures of an order.
    ///
    /// # Errors
    /// It has ended.
    pub fn figures(&mut self) -> Result<Figures> {
        match self {
            Handle::Process { answers, .. } => {
                let mut line = String::new();
                if answers.read_line(&mut line)? == 0 {
                    bail!("a reader process ended; what it said stands above");
                }
                serde_json::from_str(&line).with_context(|| format!("a reader says {line:?}"))
            }
            Handle::Thread { answers, .. } => answers.recv().context("a reader has ended")?,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Handle::Process { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The place of a reader process: its core, and the seed of its order of keys.
#[derive(Debug, Clone, clap::Args)]
pub struct HotReaderPlace {
    #[command(flatten)]
    options: HotReaderOptions,
    #[arg(long)]
    core: usize,
    #[arg(long)]
    seed: u64,
}

/// Runs a reader process: carries out orders until its stdin ends.
///
/// # Errors
/// The store cannot be read.
pub fn hot_reader(place: &HotReaderPlace) -> Result<()> {
    let HotReaderPlace { options, core, seed } = place;
    let HotReaderOptions { shared, at, prefix, keys } = options;
    pin(*core)?;
    let file = || File::open(at).with_context(|| format!("cannot open {}", at.display()));
    let mut reader: Box<dyn Reader> = match shared {
        Shared::Cells => {
            Box::new(Looping::new(Cells::map(&file()?, *keys, Access::Read)?, *keys, *seed))
        }
        Shared::Service => Box::new(Looping::new(ServiceView::attach(at)?, *keys, *seed)),
        Shared::Owner => Box::new(Looping::new(OwnerView::attach(&file()?)?, *keys, *seed)),
        Shared::Lmdb => Box::new(Looping::new(LmdbView::open(at)?, *keys, *seed)),
        Shared::Blackboard => {
            Box::new(Looping::new(BlackboardView::open(at, prefix, *keys)?, *keys, *seed))
        }
    };
    answer(reader.pass(Duration::ZERO))?;
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line?).context("an order that cannot be read")?;
        answer(carry_out(reader.as_mut(), order))?;
    }
    Ok(())
}

fn answer(figures: Figures) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&figures)?)?;
    Ok(out.flush()?)
}
