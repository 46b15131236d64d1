//! The clients of a run: started, killed, stopped, and started again.

use super::ledger::Ledger;
use super::mode::Mode;
use super::report::Kills;
use crate::interrupt;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Visitors at a time.
const VISITORS_MAX: usize = 4;

/// Where a client finds what it needs.
#[derive(Debug, Clone)]
pub struct Stage {
    pub mode: Mode,
    pub writers: usize,
    pub readers: usize,
    pub socket: PathBuf,
    pub ledger: PathBuf,
}

/// The part of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Writer(usize),
    Reader,
    /// Ends by itself.
    Visitor,
    /// Never killed: its memory, descriptors and mappings are counted.
    Anchor,
}

struct Actor {
    child: Child,
    part: Part,
    /// Stopped until then, and killed instead of resumed.
    stopped: Option<(Instant, bool)>,
}

/// All clients. Killed when dropped.
pub struct Cast {
    stage: Stage,
    actors: Vec<Actor>,
    /// Writers that were killed: the daemon may still have requests of theirs, and nobody else
    /// writes their keys until it has none.
    graves: Vec<(u32, usize)>,
}

impl Cast {
    /// Nobody yet.
    pub fn new(stage: Stage) -> Cast {
        Cast { stage, actors: Vec::new(), graves: Vec::new() }
    }

    /// Starts the writers, the readers and the anchor that are missing.
    ///
    /// # Errors
    /// The system cannot start another process.
    pub fn fill(&mut self, mut seed: impl FnMut() -> u64) -> Result<()> {
        for writer in 0..self.stage.writers {
            let is_dead = self.graves.iter().any(|(_, number)| *number == writer);
            if !is_dead && !self.has(Part::Writer(writer)) {
                self.start(Part::Writer(writer), seed(), 0)?;
            }
        }
        let readers = self.count(Part::Reader);
        for _ in readers..self.stage.readers {
            self.start(Part::Reader, seed(), 0)?;
        }
        if !self.has(Part::Anchor) {
            self.start(Part::Anchor, seed(), 0)?;
        }
        Ok(())
    }

    /// A visitor attaches and reads, unless there are many.
    ///
    /// # Errors
    /// As for [`fill`](Self::fill).
    pub fn visit(&mut self, operations: u64, seed: u64) -> Result<()> {
        if self.count(Part::Visitor) >= VISITORS_MAX {
            return Ok(());
        }
        self.start(Part::Visitor, seed, operations + 1)
    }

    fn start(&mut self, part: Part, seed: u64, operations: u64) -> Result<()> {
        let Stage { mode, writers, socket, ledger, .. } = &self.stage;
        let own = std::env::current_exe().context("this program's own file cannot be found")?;
        let mut command = Command::new(own);
        interrupt::die_together(&mut command);
        command.args(["torture-worker", "--mode", mode.name()]);
        command.args(["--writers", &writers.to_string(), "--seed", &seed.to_string()]);
        command.args(["--operations", &operations.to_string()]);
        command.arg("--socket").arg(socket).arg("--ledger").arg(ledger);
        if let Part::Writer(writer) = part {
            command.args(["--writer", &writer.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.context("cannot start a client")?;
        self.actors.push(Actor { child, part, stopped: None });
        Ok(())
    }

    fn has(&self, part: Part) -> bool {
        self.count(part) > 0
    }

    fn count(&self, part: Part) -> usize {
        self.actors.iter().filter(|actor| actor.part == part).count()
    }

    /// The anchor's process.
    pub fn anchor(&self) -> Option<u32> {
        let anchor = self.actors.iter().find(|actor| actor.part == Part::Anchor)?;
        Some(anchor.child.id())
    }

    /// A reader's process.
    pub fn reader(&self, draw: usize) -> Option<u32> {
        let readers: Vec<&Actor> =
            self.actors.iter().filter(|actor| actor.part == Part::Reader).collect();
        let reader = readers.get(draw % readers.len().max(1))?;
        Some(reader.child.id())
    }

    /// Kills a client of this kind that `draw` chooses.
    pub fn kill(&mut self, is_writer: bool, draw: usize, kills: &mut Kills) {
        if let Some(place) = self.place(draw, |part| match part {
            Part::Writer(_) => is_writer,
            Part::Reader | Part::Visitor => !is_writer,
            Part::Anchor => false,
        }) {
            self.kill_at(place, kills);
        }
    }

    fn place(&self, draw: usize, is_meant: impl Fn(Part) -> bool) -> Option<usize> {
        let places: Vec<usize> = (0..self.actors.len())
            .filter(|place| self.actors.get(*place).is_some_and(|actor| is_meant(actor.part)))
            .collect();
        places.get(draw % places.len().max(1)).copied()
    }

    fn kill_at(&mut self, place: usize, kills: &mut Kills) {
        let mut actor = self.actors.swap_remove(place);
        // It may have ended by itself, which is no kill.
        let had_ended = matches!(actor.child.try_wait(), Ok(Some(_)));
        let _ = actor.child.kill();
        let _ = actor.child.wait();
        if had_ended {
            return;
        }
        kills.stopped_clients += u64::from(actor.stopped.is_some());
        match actor.part {
            Part::Writer(number) => {
                kills.writers += 1;
                self.graves.push((actor.child.id(), number));
            }
            _ => kills.readers += 1,
        }
    }

    /// Stops a client that `draw` chooses; at the end it is killed, or goes on.
    pub fn stop(&mut self, draw: usize, lasts: Duration, is_killed: bool) {
        let Some(place) = self.place(draw, |part| part != Part::Anchor) else { return };
        let Some(actor) = self.actors.get_mut(place) else { return };
        if actor.stopped.is_none() && signal(&actor.child, Signal::SIGSTOP) {
            actor.stopped = Some((Instant::now() + lasts, is_killed));
        }
    }

    /// Resumes or kills the clients whose time has come, and looks at those that have ended by
    /// themselves: only visitors do, and without a failure.
    pub fn tick(&mut self, now: Instant, ledger: &Ledger, kills: &mut Kills) {
        let mut place = 0;
        while let Some(actor) = self.actors.get_mut(place) {
            if let Ok(Some(status)) = actor.child.try_wait() {
                if actor.part != Part::Visitor || !status.success() {
                    ledger.find(&format!("{:?} ended by itself: {status}", actor.part));
                }
                self.actors.swap_remove(place);
                continue;
            }
            match actor.stopped {
                Some((due, true)) if due <= now => {
                    self.kill_at(place, kills);
                    continue;
                }
                Some((due, false)) if due <= now => {
                    signal(&actor.child, Signal::SIGCONT);
                    actor.stopped = None;
                }
                _ => {}
            }
            place += 1;
        }
    }

    /// Some writers that were killed may still have requests in the daemon.
    pub fn has_graves(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Only the processes of `clients` still have a mailbox.
    pub fn clear_graves(&mut self, has_mailbox: impl Fn(u32) -> bool) {
        self.graves.retain(|(pid, _)| has_mailbox(*pid));
    }

    /// Kills all but the anchor.
    pub fn clear(&mut self) {
        for actor in &mut self.actors {
            if actor.part != Part::Anchor {
                let _ = actor.child.kill();
                let _ = actor.child.wait();
            }
        }
        self.actors.retain(|actor| actor.part == Part::Anchor);
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        for actor in &mut self.actors {
            let _ = actor.child.kill();
            let _ = actor.child.wait();
        }
    }
}

fn signal(child: &Child, signal: Signal) -> bool {
    let pid = i32::try_from(child.id()).map(Pid::from_raw);
    pid.is_ok_and(|pid| kill(pid, signal).is_ok())
}
