//! The best that two processes with shared memory can do: a round trip by spinning, and one by
//! waking. The other process takes the daemon's place.

use crate::interrupt;
use crate::machine::pin;
use anyhow::{Context, Result, bail};
use l1d_wire::mapping::{Access, Mapping};
use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::thread::futex::{self, Flags, Timespec};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::hint::spin_loop;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Timeout of a round trip, after which the other process is considered gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Loads of a word between two clock readings.
const LOOKS: u32 = 1 << 16;
const BYTES: u64 = 4096;

/// A word for each direction, on lines of their own; all zero at first.
#[repr(C)]
struct Words {
    ask: Word,
    answer: Word,
}

#[repr(C, align(128))]
struct Word(AtomicU32);

/// The words, in memory that both processes have mapped.
struct Shared(Mapping);

impl Shared {
    fn map(file: &File) -> Result<Shared> {
        let map = Mapping::of_file(file, BYTES, Access::Write).context("cannot map two words")?;
        Ok(Shared(map))
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is larger than that, page-aligned, lives as long as `self`, and both
        // processes access it only by these atomic words, which may have any value.
        unsafe { &*self.0.base().cast::<Words>() }
    }
}

/// The round trips that the other process is to answer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Order {
    first: u32,
    count: u32,
    /// Each side sleeps until the other wakes it; otherwise both spin.
    sleeps: bool,
}

/// The other process. Ends when dropped.
pub struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    shared: Shared,
    last: u32,
    _file: File,
}

impl Peer {
    /// Starts it, pinned to `core`. Must be called by the main thread.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(core: Option<usize>) -> Result<Peer> {
        let memory = memfd_create(c"l1d-lab-peer", MFdFlags::MFD_CLOEXEC);
        let file = File::from(memory.context("cannot make a memfd")?);
        file.set_len(BYTES).context("cannot make a memfd")?;
        let shared = Shared::map(&file)?;
        let mut command = Command::new(
            std::env::current_exe().context("this program's own file cannot be found")?,
        );
        let at = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        command.args(["peer", "--at", &at]);
        command.args(core.map(|core| format!("--core={core}")));
        interrupt::die_together(&mut command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the other side of a round trip")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the other side of a round trip without pipes")
        };
        let answers = BufReader::new(answers);
        Ok(Peer { child, orders, answers, shared, last: 0, _file: file })
    }

    /// Round trips between this thread and the other process, in ns. With `pause`, both sides sleep
    /// when the next one begins; without it both spin.
    ///
    /// # Errors
    /// It has ended.
    pub fn round_trips(&mut self, count: u32, pause: Option<Duration>) -> Result<Vec<f64>> {
        let order = Order { first: self.last + 1, count, sleeps: pause.is_some() };
        writeln!(self.orders, "{}", serde_json::to_string(&order)?).context("no other side")?;
        self.ready()?;
        self.last += count;
        let Words { ask, answer } = self.shared.words();
        let trip = |number| {
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
            let begun = Instant::now();
            tell(ask, number, order.sleeps);
            if !wait(answer, number, order.sleeps) {
                bail!("the other side of a round trip does not answer");
            }
            Ok(begun.elapsed().as_nanos() as f64)
        };
        (order.first..order.first + count).map(trip).collect()
    }

    /// Waits until it has accepted an order.
    fn ready(&mut self) -> Result<()> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the other side of a round trip ended; what it said stands above");
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Options of the process: the words, and its core.
#[derive(Debug, Clone, clap::Args)]
pub struct PeerPlace {
    #[arg(long)]
    at: PathBuf,
    #[arg(long)]
    core: Option<usize>,
}

/// Runs the other process: answers until its stdin ends.
///
/// # Errors
/// It cannot map the words, or there is no such core.
pub fn peer(place: &PeerPlace) -> Result<()> {
    if let Some(core) = place.core {
        pin(core)?;
    }
    let file = File::options().read(true).write(true).open(&place.at);
    let shared = Shared::map(&file.context("cannot open two words")?)?;
    let Words { ask, answer } = shared.words();
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line?).context("an order that cannot be read")?;
        let mut out = std::io::stdout().lock();
        writeln!(out)?;
        out.flush()?;
        for number in order.first..order.first + order.count {
            if !wait(ask, number, order.sleeps) {
                bail!("the other side of a round trip does not ask");
            }
            tell(answer, number, order.sleeps);
        }
    }
    Ok(())
}

fn tell(word: &Word, number: u32, wakes: bool) {
    // Pairs with the load in `wait`. A wake-up is a system call after the store.
    word.0.store(number, Ordering::Release);
    if wakes {
        // It fails only for reasons that nothing can be done about.
        let _ = futex::wake(&word.0, Flags::empty(), 1);
    }
}

/// Returns whether the number came.
fn wait(Word(word): &Word, number: u32, sleeps: bool) -> bool {
    let mut begun = None;
    loop {
        for _ in 0..LOOKS {
            // Pairs with the store in `tell`.
            let found = word.load(Ordering::Acquire);
            if found == number {
                return true;
            }
            if sleeps {
                // Not private to this process. It may return spuriously, or because the word has
                // changed.
                let time = Timespec { tv_sec: 1, tv_nsec: 0 };
                let _ = futex::wait(word, Flags::empty(), found, Some(&time));
                break;
            }
            spin_loop();
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return false;
        }
    }
}
