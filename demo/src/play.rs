//! The parent process: starts the others, collects their reports, shows them, and cleans up.

use super::daemon::{DIRECTORY_BYTES, Daemon, last_lines};
use super::dashboard::Dashboard;
use super::directory::Directory;
use super::process::{Process, command};
use super::progress::Progress;
use super::report::{Message, Report};
use super::store::Store;
use super::summary::Summary;
use super::{Options, Role, WAYS, Way};
use anyhow::{Context, Result, bail};
use crossbeam::channel::{Receiver, Sender, unbounded};
use nix::sys::signal::{SigSet, Signal};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const READY_DEADLINE: Duration = Duration::from_secs(20);
const END_DEADLINE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(250);

/// Web processes continue for this time after the last signal is published. Each reads every signal
/// twice a second, so it will never see a signal that it has not seen by then.
const LAST_LOOK: Duration = Duration::from_millis(700);

/// One process of the play, as its parent knows it.
pub struct Worker {
    pub way: Way,
    pub role: Role,
    /// Counts the processes of one role and way, from 1.
    pub number: u32,
    /// The sum of its reports.
    pub total: Report,
    ready: bool,
    ended: bool,
    /// Closing it ends the process.
    stdin: Option<ChildStdin>,
    process: Process,
}

enum Event {
    Said(usize, Message),
    Ended(usize),
    Signal(Signal),
}

/// The end of a demo.
#[derive(Debug)]
pub struct Outcome {
    /// The comparison, for standard output; empty if a signal ended the demo before it was known.
    pub text: String,
    /// The exit code: success, or as a shell reports the signal that ended the demo.
    pub code: ExitCode,
}

/// Plays the demo. `program` is the executable to start as the daemon (`program serve ...`) and as
/// the processes of the demo (`program demo-worker ...`, which must call [`run_worker`] with
/// [`WorkerOptions`]).
///
/// From this call on, SIGINT, SIGTERM and SIGHUP are blocked in the calling thread, and end the
/// demo.
///
/// # Errors
/// The daemon or a process cannot be started or fails. [`TierFailed`]: a tier is to blame.
///
/// [`run_worker`]: crate::run_worker
/// [`WorkerOptions`]: crate::WorkerOptions
/// [`TierFailed`]: crate::TierFailed
pub fn run(program: &Path, options: &Options) -> Result<Outcome> {
    let (events, received) = unbounded();
    // From here on these signals are events: leaving this function stops all that was started.
    forward_signals(events.clone())?;
    let dashboard = options.page.then(|| Dashboard::open(options)).transpose()?;
    let directory = Directory::new(DIRECTORY_BYTES)?;
    let daemon = match Daemon::start(program, &directory, options, &|| !received.is_empty()) {
        Ok(daemon) => daemon,
        Err(error) => {
            return match received.try_recv() {
                Ok(Event::Signal(signal)) => Ok(Outcome::interrupted(signal)),
                _ => Err(error),
            };
        }
    };
    let log = directory.join("processes.log");
    let mut play = Play {
        workers: Vec::new(),
        daemon,
        dashboard,
        received,
        interrupted: None,
        last_look: false,
        log,
    };
    let played = play.start(program, options, &events).and_then(|()| play.perform(options));
    let elapsed = match (played, play.interrupted) {
        (Ok(elapsed), _) => elapsed,
        // The signal is the cause of any other failure.
        (Err(_), Some(signal)) => return Ok(Outcome::interrupted(signal)),
        (Err(error), None) => return Err(error),
    };
    let in_table = Store::open(Way::L1d, play.daemon.socket())?.copies_in_table();
    let summary = Summary::of(options, elapsed, &play.workers, in_table);
    let text = if options.json {
        serde_json::to_string_pretty(&summary.json())? + "\n"
    } else {
        summary.text()
    };
    Ok(Outcome { text, code: play.interrupted.map_or(ExitCode::SUCCESS, exit_code) })
}

impl Outcome {
    fn interrupted(signal: Signal) -> Outcome {
        Outcome { text: String::new(), code: exit_code(signal) }
    }
}

// Fields are dropped in this order: processes before the daemon. The directory outlives both.
struct Play {
    workers: Vec<Worker>,
    daemon: Daemon,
    /// The page in a browser, if there is to be one.
    dashboard: Option<Dashboard>,
    received: Receiver<Event>,
    interrupted: Option<Signal>,
    /// Publishing has ended, so the ages of signals no longer count.
    last_look: bool,
    /// Standard error of the processes.
    log: PathBuf,
}

impl Play {
    /// Starts all processes, and returns when all are ready.
    fn start(&mut self, program: &Path, options: &Options, events: &Sender<Event>) -> Result<()> {
        let log = File::create(&self.log)?;
        let slots = options.web * u32::try_from(WAYS.len())?;
        let mut slot = 0;
        for way in WAYS {
            let mut command = self.worker_command(program, way, Role::Monitor, (0, 1), &log)?;
            self.screen(&mut command);
            self.add((way, Role::Monitor, 1), command, events)?;
        }
        for number in 1..=options.web {
            for way in WAYS {
                let mut command =
                    self.worker_command(program, way, Role::Web, (slot, slots), &log)?;
                if number == 1 {
                    self.screen(&mut command);
                }
                self.add((way, Role::Web, number), command, events)?;
                slot += 1;
            }
        }
        let end = Instant::now() + READY_DEADLINE;
        while self.workers.iter().any(|worker| !worker.ready) {
            if Instant::now() > end {
                bail!(
                    "not all processes are ready after {READY_DEADLINE:?}; is this host overloaded?"
                );
            }
            self.listen(TICK)?;
            if self.interrupted.is_some() {
                bail!("stopped before the play began");
            }
        }
        Ok(())
    }

    /// Has a process tell what its dashboard shows, for the page.
    fn screen(&self, command: &mut Command) {
        if self.dashboard.is_some() {
            command.arg("--screen");
        }
    }

    fn worker_command(
        &self,
        program: &Path,
        way: Way,
        role: Role,
        (slot, slots): (u32, u32),
        log: &File,
    ) -> Result<Command> {
        let role_name = match role {
            Role::Monitor => "monitor",
            Role::Web => "web",
        };
        let mut command = command(program);
        command
            .args(["demo-worker", "--role", role_name, "--way", way.name()])
            .args(["--slot", &slot.to_string(), "--slots", &slots.to_string()])
            .arg("--socket")
            .arg(self.daemon.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?);
        Ok(command)
    }

    fn add(
        &mut self,
        (way, role, number): (Way, Role, u32),
        mut command: Command,
        events: &Sender<Event>,
    ) -> Result<()> {
        let mut process = Process::start(&mut command)?;
        let stdin = process.child().stdin.take();
        let stdout = process.child().stdout.take().context("a process without stdout")?;
        let (index, events) = (self.workers.len(), events.clone());
        std::thread::Builder::new().name("listener".to_owned()).spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A killed process may leave half a line.
                if let Ok(message) = serde_json::from_str(&line) {
                    let _ = events.send(Event::Said(index, message));
                }
            }
            let _ = events.send(Event::Ended(index));
        })?;
        self.workers.push(Worker {
            way,
            role,
            number,
            total: Report::default(),
            ready: false,
            ended: false,
            stdin,
            process,
        });
        Ok(())
    }

    /// Plays for the requested time or until a signal, and returns the time played.
    fn perform(&mut self, options: &Options) -> Result<Duration> {
        let begun = Instant::now();
        for worker in &mut self.workers {
            if let Some(stdin) = &mut worker.stdin {
                stdin.write_all(b"begin\n").context("a process ended before the play began")?;
            }
        }
        let length = Duration::from_secs(options.seconds);
        let mut progress = Progress::new(options);
        if let Some(dashboard) = &self.dashboard {
            progress.say(&format!("The dashboards: {}\nCtrl-C ends them.\n", dashboard.url()));
        }
        while begun.elapsed() < length && self.interrupted.is_none() {
            let left = length.saturating_sub(begun.elapsed());
            self.listen(TICK.min(left))?;
            progress.show(begun.elapsed().min(length), &self.workers);
            if let Some(dashboard) = &mut self.dashboard {
                dashboard.show(begun.elapsed(), &self.workers);
            }
        }
        let elapsed = begun.elapsed();
        progress.end();
        if self.interrupted.is_none() {
            self.end(Role::Monitor)?;
            self.last_look = true;
            let last_look = Instant::now() + LAST_LOOK;
            while Instant::now() < last_look && self.interrupted.is_none() {
                self.listen(last_look.saturating_duration_since(Instant::now()))?;
            }
        }
        self.end(Role::Monitor)?;
        self.end(Role::Web)?;
        Ok(elapsed)
    }

    /// Ends the processes of a role and collects their last reports.
    fn end(&mut self, role: Role) -> Result<()> {
        for worker in self.workers.iter_mut().filter(|worker| worker.role == role) {
            worker.stdin = None;
        }
        let end = Instant::now() + END_DEADLINE;
        let going = |worker: &Worker| worker.role == role && !worker.ended;
        while self.workers.iter().any(going) && Instant::now() < end {
            self.listen(TICK)?;
        }
        Ok(())
    }

    /// Waits at most `time` for an event and handles it.
    fn listen(&mut self, time: Duration) -> Result<()> {
        let noted = match self.received.recv_timeout(time) {
            Ok(Event::Signal(signal)) => {
                self.interrupted = Some(signal);
                Ok(())
            }
            Ok(Event::Said(index, message)) => self.said(index, message),
            Ok(Event::Ended(index)) => self.ended(index),
            Err(_) => Ok(()),
        };
        if noted.is_err() {
            // If the daemon has ended, report that: it is the cause.
            self.daemon.check_again()?;
        }
        noted.and_then(|()| self.daemon.check())
    }

    fn said(&mut self, index: usize, message: Message) -> Result<()> {
        let Some(worker) = self.workers.get_mut(index) else { return Ok(()) };
        if let (Some(dashboard), Message::Report(report)) = (&mut self.dashboard, &message) {
            dashboard.reported(index, report);
        }
        match message {
            Message::Ready => worker.ready = true,
            Message::Screen(screen) => {
                if let Some(dashboard) = &mut self.dashboard {
                    dashboard.shown(index, screen);
                }
            }
            Message::Report(report) if self.last_look => worker.total.add_news(&report),
            Message::Report(report) => worker.total.add(&report),
            Message::Failed { reason, tier } => {
                let reason =
                    format!("a process of the way {:?} failed: {reason}", worker.way.title());
                if tier {
                    bail!(super::TierFailed(reason));
                }
                bail!(reason)
            }
        }
        Ok(())
    }

    fn ended(&mut self, index: usize) -> Result<()> {
        let Some(worker) = self.workers.get_mut(index) else { return Ok(()) };
        worker.ended = true;
        if worker.stdin.is_none() {
            return Ok(());
        }
        let status = worker.process.child().wait()?;
        bail!("a process of the demo ended too soon ({status}): {}", last_lines(&self.log))
    }
}

/// Turns the signals that ask a program to end into events.
fn forward_signals(events: Sender<Event>) -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Threads and children started later inherit the mask.
    signals.thread_block().context("blocking signals")?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// The exit code that a shell reports for a program that this signal ended.
fn exit_code(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX))
}
