//! The parent: starts everything, listens, shows, and leaves nothing behind.

use super::daemon::{DIRECTORY_BYTES, Daemon, last_lines, program};
use super::directory::Directory;
use super::process::Process;
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
use std::path::PathBuf;
use std::process::{ChildStdin, ExitCode, Stdio};
use std::time::{Duration, Instant};

const READY_DEADLINE: Duration = Duration::from_secs(20);
const END_DEADLINE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(250);

/// Web processes go on for so long after the last signal is published: each looks at every signal
/// twice a second, so what it has not seen by then it will not see.
const LAST_LOOK: Duration = Duration::from_millis(700);

/// One process of the play, as its parent knows it.
pub struct Worker {
    pub way: Way,
    pub role: Role,
    /// Counts the processes of one role and way, from 1.
    pub number: u32,
    /// All that it has reported.
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

/// Plays the demo and prints what came of it.
///
/// # Errors
///
/// When the daemon or a process cannot be started or fails, with the reason in its own words.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (events, received) = unbounded();
    // From here on these signals are events, and all that is started is stopped by leaving this
    // function.
    forward_signals(events.clone())?;
    let directory = Directory::new(DIRECTORY_BYTES)?;
    let daemon = match Daemon::start(&directory, options, &|| !received.is_empty()) {
        Ok(daemon) => daemon,
        Err(error) => {
            return match received.try_recv() {
                Ok(Event::Signal(signal)) => Ok(exit_code(signal)),
                _ => Err(error),
            };
        }
    };
    let log = directory.join("processes.log");
    let mut play =
        Play { workers: Vec::new(), daemon, received, interrupted: None, last_look: false, log };
    let played = play.start(options, &events).and_then(|()| play.perform(options));
    let elapsed = match (played, play.interrupted) {
        (Ok(elapsed), _) => elapsed,
        // Whatever else went wrong did so because of it.
        (Err(_), Some(signal)) => return Ok(exit_code(signal)),
        (Err(error), None) => return Err(error),
    };
    let in_table = Store::open(Way::L1d, play.daemon.socket())?.copies_in_table();
    let summary = Summary::of(options, elapsed, &play.workers, in_table);
    let mut out = anstream::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &summary.json())?;
        writeln!(out)?;
    } else {
        write!(out, "{}", summary.text())?;
    }
    out.flush()?;
    Ok(play.interrupted.map_or(ExitCode::SUCCESS, exit_code))
}

// Fields are dropped in this order: processes before the daemon; the directory outlives both.
struct Play {
    workers: Vec<Worker>,
    daemon: Daemon,
    received: Receiver<Event>,
    interrupted: Option<Signal>,
    /// Nothing is published any more, so ages would count against nobody.
    last_look: bool,
    /// Where the processes write what goes wrong.
    log: PathBuf,
}

impl Play {
    /// Starts all processes, and returns when all are ready.
    fn start(&mut self, options: &Options, events: &Sender<Event>) -> Result<()> {
        let log = File::create(&self.log)?;
        let slots = options.web * u32::try_from(WAYS.len())?;
        let mut slot = 0;
        for way in WAYS {
            self.add(way, Role::Monitor, 1, (0, 1), &log, events)?;
        }
        for number in 1..=options.web {
            for way in WAYS {
                self.add(way, Role::Web, number, (slot, slots), &log, events)?;
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

    fn add(
        &mut self,
        way: Way,
        role: Role,
        number: u32,
        (slot, slots): (u32, u32),
        log: &File,
        events: &Sender<Event>,
    ) -> Result<()> {
        let role_name = match role {
            Role::Monitor => "monitor",
            Role::Web => "web",
        };
        let mut command = program()?;
        command
            .args(["demo-worker", "--role", role_name, "--way", way.name()])
            .args(["--slot", &slot.to_string(), "--slots", &slots.to_string()])
            .arg("--socket")
            .arg(self.daemon.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?);
        let mut process = Process::start(&mut command)?;
        let stdin = process.child().stdin.take();
        let stdout = process.child().stdout.take().context("a process without stdout")?;
        let (index, events) = (self.workers.len(), events.clone());
        std::thread::Builder::new().name("listener".to_owned()).spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Half a line is what a killed process leaves.
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

    /// Lets them play for the time asked, or until a signal. How long that was.
    fn perform(&mut self, options: &Options) -> Result<Duration> {
        let begun = Instant::now();
        for worker in &mut self.workers {
            if let Some(stdin) = &mut worker.stdin {
                stdin.write_all(b"begin\n").context("a process ended before the play began")?;
            }
        }
        let length = Duration::from_secs(options.seconds);
        let mut progress = Progress::new(options);
        while begun.elapsed() < length && self.interrupted.is_none() {
            let left = length.saturating_sub(begun.elapsed());
            self.listen(TICK.min(left))?;
            progress.show(begun.elapsed().min(length), &self.workers)?;
        }
        let elapsed = begun.elapsed();
        progress.end()?;
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

    /// Ends the processes of a role, and hears out what they have to say.
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

    /// Waits for `time` at most for something to happen, and takes note of it.
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
            // Better told of the cause than of what came of it.
            self.daemon.check_again()?;
        }
        noted.and_then(|()| self.daemon.check())
    }

    fn said(&mut self, index: usize, message: Message) -> Result<()> {
        let Some(worker) = self.workers.get_mut(index) else { return Ok(()) };
        match message {
            Message::Ready => worker.ready = true,
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

/// Makes events of the signals that ask a program to end.
fn forward_signals(events: Sender<Event>) -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Threads and children begun later inherit this.
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

/// What a shell says of a program that a signal ended.
fn exit_code(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX))
}
