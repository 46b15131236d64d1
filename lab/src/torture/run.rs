//! One mode from its start to its end.

use super::TortureOptions;
use super::action::{Action, Plan};
use super::cast::{Cast, Stage};
use super::end;
use super::flips::{self, Place, TableFile};
use super::leaks::{Held, Leaks, Start};
use super::ledger::{Count, Ledger};
use super::mode::Mode;
use super::report::{Done, Kills, Part, Seen};
use super::tiers::Tiers;
use crate::daemon::{Daemon, connect};
use crate::progress::Progress;
use crate::scratch;
use anyhow::{Context, Result};
use l1d_client::Client;
use l1d_wire::snapshot::{Clients, Snapshot};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Between two looks at whatever has a time of its own.
const TICK: Duration = Duration::from_millis(4);
/// Between two looks at the daemon's figures.
const SAMPLE: Duration = Duration::from_millis(500);
/// Load before the first count of memory, descriptors and mappings.
const WARM_UP: Duration = Duration::from_secs(1);
/// For a daemon to end after SIGTERM.
const END: Duration = Duration::from_secs(15);

/// The daemon's state, as the run has made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// Until then.
    Stopped(Instant),
    Dead(Instant),
}

/// A mode under way.
pub struct Run<'a> {
    pub options: &'a TortureOptions,
    pub mode: Mode,
    pub ledger: Ledger,
    pub daemon: Daemon,
    pub tiers: Option<Tiers>,
    pub part: Part,
    plan: Plan,
    cast: Cast,
    state: State,
    /// A bit was flipped since the daemon started.
    is_damaged: bool,
    client: Option<Client>,
    moving: Option<JoinHandle<()>>,
    is_large: bool,
    sampled: Instant,
    table_id: u64,
    _directory: TempDir,
}

/// Runs `mode` for `time`.
///
/// # Errors
/// Something that is needed does not start. Findings are no errors.
pub fn run(
    options: &TortureOptions,
    mode: Mode,
    time: Duration,
    progress: &Progress,
) -> Result<Part> {
    let begun = Instant::now();
    let mut run = Run::new(options, mode)?;
    run.fill()?;
    run.wait_until(Instant::now() + WARM_UP.min(time / 4))?;
    run.quiesce()?;
    let start = run.held()?;
    run.fill()?;
    while begun.elapsed() < time {
        let left = time.saturating_sub(begun.elapsed());
        let (kills, wrong) = (run.part.kills(), run.ledger.count(Count::Wrong));
        progress.say(&format!(
            "{}: {} s left, {kills} kills, {wrong} wrong",
            mode.name(),
            left.as_secs()
        ));
        let (pause, action) = run.plan.next();
        run.wait_until(Instant::now() + pause)?;
        run.perform(action)?;
        run.fill()?;
    }
    progress.say(&format!("{}: verifying", mode.name()));
    run.quiesce()?;
    run.leaks(start)?;
    end::verify(&mut run)?;
    Ok(run.finish(begun.elapsed()))
}

impl<'a> Run<'a> {
    fn new(options: &'a TortureOptions, mode: Mode) -> Result<Run<'a>> {
        let directory = scratch::directory()?;
        let tiers = mode.has_tiers().then(|| Tiers::start(directory.path())).transpose()?;
        let addresses = tiers.as_ref().map(Tiers::addresses);
        let rules = mode.rules(0, addresses.as_ref());
        let daemon = Daemon::start(options.l1d.as_deref(), mode.shape(), &rules)?;
        let path = directory.path().join("ledger");
        let ledger = Ledger::create(&path, options.writers as usize * mode.keys_per_writer())?;
        let stage = Stage {
            mode,
            writers: options.writers as usize,
            readers: options.readers as usize,
            socket: daemon.socket(),
            ledger: path,
        };
        Ok(Run {
            options,
            mode,
            ledger,
            daemon,
            tiers,
            part: Part::new(mode),
            plan: Plan::new(mode, options.seed),
            cast: Cast::new(stage),
            state: State::Up,
            is_damaged: false,
            client: None,
            moving: None,
            is_large: false,
            sampled: Instant::now(),
            table_id: 0,
            _directory: directory,
        })
    }

    fn fill(&mut self) -> Result<()> {
        let plan = &mut self.plan;
        self.cast.fill(|| plan.seed())
    }

    /// Looks at everything that has a time of its own, until `at`.
    fn wait_until(&mut self, at: Instant) -> Result<()> {
        loop {
            self.tick()?;
            let now = Instant::now();
            if now >= at {
                return Ok(());
            }
            std::thread::sleep(TICK.min(at - now));
        }
    }

    fn tick(&mut self) -> Result<()> {
        let now = Instant::now();
        if let Some(tiers) = &mut self.tiers {
            tiers.end(now)?;
        }
        match self.state {
            State::Stopped(due) if due <= now => self.resume()?,
            State::Dead(due) if due <= now => self.start_again()?,
            _ => {}
        }
        if !matches!(self.state, State::Dead(_))
            && let Some(status) = self.daemon.exited()?
        {
            let words = self.daemon.last_words();
            self.ledger.find(&format!("the daemon ended by itself, {status}: {words}"));
            self.start_again()?;
        }
        self.cast.tick(now, &self.ledger, &mut self.part.kills);
        if self.cast.has_graves() && self.state == State::Up {
            self.look_for_graves();
        }
        if now.duration_since(self.sampled) > SAMPLE {
            self.sample();
        }
        Ok(())
    }

    /// Writers whose mailboxes are gone have successors.
    fn look_for_graves(&mut self) {
        let Some(clients) = self.ask(|client| client.admin().clients_json()) else { return };
        let Ok(Clients { clients }) = serde_json::from_str(&clients) else { return };
        let has = |pid: u32| clients.iter().any(|client| i64::from(client.pid) == i64::from(pid));
        self.cast.clear_graves(has);
    }

    /// Asks the daemon, if it answers at once.
    pub fn ask<T>(&mut self, ask: impl Fn(&Client) -> Result<T, l1d_client::Error>) -> Option<T> {
        if self.state != State::Up {
            return None;
        }
        if self.client.is_none() {
            self.client = connect(&self.daemon.socket()).ok();
        }
        ask(self.client.as_ref()?).ok()
    }

    /// The daemon's figures.
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        let text = self.ask(|client| client.admin().stats_json())?;
        serde_json::from_str(&text).ok()
    }

    /// Adds up what this daemon has evicted: its counts end with it.
    fn sample(&mut self) {
        self.sampled = Instant::now();
        let Some(snapshot) = self.snapshot() else { return };
        let table = snapshot.table;
        self.table_id = table.table_id;
        let evicted = table.evicted + table.evicted_over_share + table.displaced;
        self.part.evicted = self.part.evicted.max(evicted);
        if self.mode == Mode::Presence && evicted > 0 {
            self.ledger.find(&format!("{evicted} entries were evicted from a table with room"));
        }
    }

    fn perform(&mut self, action: Action) -> Result<()> {
        match action {
            Action::KillWriter(draw) => self.cast.kill(true, draw, &mut self.part.kills),
            Action::KillReader(draw) => self.cast.kill(false, draw, &mut self.part.kills),
            Action::StopClient(draw, lasts, is_killed) => {
                self.part.done.client_stops += 1;
                self.cast.stop(draw, lasts, is_killed);
            }
            Action::Visit(operations) => {
                self.part.done.visits += 1;
                let seed = self.plan.seed();
                self.cast.visit(operations, seed)?;
            }
            Action::KillDaemon(down) => self.kill(down)?,
            Action::StopDaemon(lasts) if self.state == State::Up => {
                self.part.done.daemon_stops += 1;
                self.daemon.signal(Signal::SIGSTOP)?;
                self.state = State::Stopped(Instant::now() + lasts);
            }
            Action::TerminateDaemon if self.state == State::Up => {
                self.part.done.daemon_ends += 1;
                self.terminate()?;
                self.start_again()?;
            }
            Action::Tier(tier, fault, lasts) => {
                if let Some(tiers) = &mut self.tiers {
                    self.part.done.tier_faults += u64::from(tiers.begin(tier, fault, lasts)?);
                }
            }
            Action::Resize => self.resize(),
            Action::Reload(variant) if self.state == State::Up => {
                self.part.done.reloads += 1;
                let addresses = self.tiers.as_ref().map(Tiers::addresses);
                let rules = self.mode.rules(variant, addresses.as_ref());
                self.daemon.configure(self.mode.shape(), &rules)?;
                self.daemon.signal(Signal::SIGHUP)?;
            }
            Action::Flip(place, draw, bit) => self.flip(place, draw, bit)?,
            _ => {}
        }
        Ok(())
    }

    /// Kills the daemon. It stays dead for `down`.
    pub fn kill(&mut self, down: Duration) -> Result<()> {
        if matches!(self.state, State::Dead(_)) {
            return Ok(());
        }
        self.part.kills.daemon += 1;
        self.ledger.step_kills();
        self.daemon.kill()?;
        self.ledger.step_kills();
        self.state = State::Dead(Instant::now() + down);
        if down.is_zero() { self.start_again() } else { Ok(()) }
    }

    /// Ends the daemon by SIGTERM, and says if that takes long or goes wrong.
    pub fn terminate(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGTERM)?;
        let begun = Instant::now();
        loop {
            match self.daemon.exited()? {
                Some(status) if status.success() => break,
                Some(status) => {
                    let words = self.daemon.last_words();
                    self.ledger.find(&format!("SIGTERM ended the daemon, {status}: {words}"));
                    break;
                }
                None if begun.elapsed() > END => {
                    self.ledger.find(&format!("SIGTERM did not end the daemon in {END:?}"));
                    self.daemon.kill()?;
                    break;
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        self.state = State::Dead(Instant::now());
        Ok(())
    }

    /// Starts the daemon with the table that it left.
    pub fn start_again(&mut self) -> Result<()> {
        let former = self.table_id;
        self.daemon.restart().context("the daemon does not start again")?;
        self.state = State::Up;
        self.sample();
        if std::mem::take(&mut self.is_damaged) && self.table_id != former {
            self.part.fresh_tables += 1;
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGCONT)?;
        self.state = State::Up;
        Ok(())
    }

    /// Moves the table in a thread of its own, so that the daemon can be killed meanwhile.
    fn resize(&mut self) {
        if self.moving.as_ref().is_some_and(|moving| !moving.is_finished()) {
            return;
        }
        self.part.done.resizes += 1;
        self.is_large = !self.is_large;
        let bytes = self.mode.table_bytes()[usize::from(self.is_large)];
        let socket = self.daemon.socket();
        self.moving = Some(std::thread::spawn(move || {
            // It may fail in every way: the daemon is killed.
            let moved = connect(&socket).map(|client| client.admin().resize(Some(bytes), None));
            drop(moved);
        }));
    }

    /// Flips a bit. The daemon is killed and started again soon after, since new clients may not be
    /// able to attach to a damaged table.
    fn flip(&mut self, place: Place, draw: u64, bit: u32) -> Result<()> {
        let is_flipped = match place {
            Place::Mailbox => {
                let reader = self.cast.reader(usize::try_from(draw >> 32)?);
                reader.is_some_and(|pid| flips::flip_mailbox(pid, draw, bit))
            }
            // It may be damaged already.
            _ => match TableFile::open(&self.daemon.table()) {
                Ok(table) => table.flip(place, draw, bit)?,
                Err(_) => false,
            },
        };
        *self.part.flips.entry(place).or_default() += u64::from(is_flipped);
        self.is_damaged |= is_flipped && place != Place::Mailbox;
        Ok(())
    }

    /// Ends all faults, and all clients but the anchor.
    fn quiesce(&mut self) -> Result<()> {
        if let Some(tiers) = &mut self.tiers {
            tiers.end_all()?;
        }
        match self.state {
            State::Stopped(_) => self.resume()?,
            State::Dead(_) => self.start_again()?,
            State::Up => {}
        }
        self.cast.clear();
        if let Some(moving) = self.moving.take() {
            let _ = moving.join();
        }
        let begun = Instant::now();
        while begun.elapsed() < END {
            self.tick()?;
            let clients = self.ask(|client| client.admin().clients_json());
            let clients = clients.and_then(|text| serde_json::from_str::<Clients>(&text).ok());
            let anchor = self.cast.anchor();
            let stays = |pid: i32| {
                u32::try_from(pid).is_ok_and(|pid| Some(pid) == anchor || pid == std::process::id())
            };
            if clients.is_some_and(|Clients { clients }| clients.iter().all(|c| stays(c.pid))) {
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
        self.ledger.find("mailboxes of clients that were killed stay");
        Ok(())
    }

    fn held(&self) -> Result<[Held; 2]> {
        let anchor = self.cast.anchor().context("the anchor has ended")?;
        Ok([Held::by(self.daemon.pid())?, Held::by(anchor)?])
    }

    fn leaks(&mut self, [daemon, anchor]: [Held; 2]) -> Result<()> {
        let pid = self.cast.anchor().context("the anchor has ended")?;
        // A start with another size than the table's is a move, too.
        let Done { resizes, daemon_ends, .. } = self.part.done;
        let tables = resizes + daemon_ends + self.part.kills.daemon;
        self.part.daemon = Leaks::since(Start { held: daemon, tables: 0 }, self.daemon.pid())?;
        self.part.anchor = Leaks::since(Start { held: anchor, tables }, pid)?;
        for (who, leaks) in [("the daemon", &self.part.daemon), ("a client", &self.part.anchor)] {
            if let Some(text) = &leaks.text {
                self.ledger.find(&format!("{who} has leaked: {text}"));
            }
        }
        Ok(())
    }

    fn finish(mut self, time: Duration) -> Part {
        self.ledger.stop();
        let count = |count| self.ledger.count(count);
        self.part.seconds = time.as_secs_f64();
        self.part.seen = Seen {
            attached: count(Count::Attached),
            reads: count(Count::Reads),
            values: count(Count::Values),
            writes: count(Count::Writes),
            acknowledged: count(Count::Acknowledged),
            unanswered: count(Count::Unanswered),
            unknown: count(Count::Unknown),
            errors: count(Count::Errors),
        };
        self.part.lost = count(Count::Lost);
        self.part.wrong = count(Count::Wrong);
        self.part.findings = self.ledger.findings();
        self.part
    }
}

impl Part {
    fn new(mode: Mode) -> Part {
        Part {
            mode,
            seconds: 0.0,
            kills: Kills::default(),
            done: Done::default(),
            seen: Seen::default(),
            flips: BTreeMap::new(),
            fresh_tables: 0,
            values_flipped: 0,
            values_found_by_check: 0,
            values_found_by_restart: 0,
            verified: 0,
            lost: 0,
            evicted: 0,
            daemon: Leaks::default(),
            anchor: Leaks::default(),
            wrong: 0,
            findings: Vec::new(),
        }
    }
}
