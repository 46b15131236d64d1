//! The proxy's process: one thread with an event loop, because all bytes are held for the same time
//! and so leave in the order of arrival. A kernel timer wakes it on time; nothing spins.

use super::Carried;
use crate::process::say;
use crate::times::Times;
use anyhow::{Context, Result};
use l1d::clock::monotonic_ns;
use l1d_wire::words;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Options of the proxy.
#[derive(Debug, Clone, clap::Args)]
pub struct ProxyOptions {
    /// How long bytes are held in each direction.
    #[arg(long)]
    pub half_ns: u64,
    /// host:port of each server.
    #[arg(long)]
    pub to: Vec<String>,
}

/// Tokens: listeners have their numbers, then comes the timer, then two for each connection.
const TIMER: u64 = 1 << 32;
const FIRST_END: u64 = TIMER + 1;

/// Bytes read from one end that are due at the other; none stands for the end of the stream.
struct Held {
    due_ns: u64,
    to: usize,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Counts {
    messages: u64,
    late_ns: Times,
}

struct Carrier {
    half_ns: u64,
    epoll: Epoll,
    timer: TimerFd,
    armed_ns: u64,
    listeners: Vec<(TcpListener, String)>,
    /// Of connection `n`, the client's end is at `2 * n`, the server's after it.
    ends: Vec<TcpStream>,
    held: VecDeque<Held>,
    buffer: Vec<u8>,
    counts: Arc<Mutex<Counts>>,
}

/// Runs the proxy: prints its addresses, forwards, and answers each line on stdin with its traffic
/// since the last one.
///
/// # Errors
/// No sockets, or a server does not listen.
pub fn run(options: &ProxyOptions) -> Result<()> {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let mut carrier = Carrier::open(options, Arc::clone(&counts))?;
    let addresses: std::io::Result<Vec<String>> = carrier
        .listeners
        .iter()
        .map(|(listener, _)| listener.local_addr().map(|address| address.to_string()))
        .collect();
    say(&serde_json::to_string(&addresses?)?)?;
    // A real network takes no processor time from the contestants. Without the permission for this,
    // the proxy is late more often, which the report shows.
    let _ = rustix::process::setpriority_process(None, -20);
    std::thread::spawn(move || {
        if let Err(error) = carrier.carry() {
            let why = words::chain(error.as_ref());
            l1d::cli::print_error(format_args!("l1d-lab: the proxy: {why}"));
            std::process::exit(4);
        }
    });
    for line in std::io::stdin().lines() {
        line?;
        let Counts { messages, late_ns } =
            std::mem::take(&mut *counts.lock().unwrap_or_else(PoisonError::into_inner));
        let us = |share| late_ns.quantile(share) as f64 / 1e3;
        say(&serde_json::to_string(&Carried {
            messages,
            late_p50_us: us(0.5),
            late_p99_us: us(0.99),
        })?)?;
    }
    Ok(())
}

impl Carrier {
    fn open(options: &ProxyOptions, counts: Arc<Mutex<Counts>>) -> Result<Carrier> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        let mut listeners = Vec::new();
        for (to, token) in options.to.iter().zip(0..) {
            let listener = TcpListener::bind("127.0.0.1:0").context("the proxy cannot listen")?;
            epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            listeners.push((listener, to.clone()));
        }
        Ok(Carrier {
            half_ns: options.half_ns,
            epoll,
            timer,
            armed_ns: 0,
            listeners,
            ends: Vec::new(),
            held: VecDeque::new(),
            buffer: vec![0; 1 << 18],
            counts,
        })
    }

    fn carry(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = self.epoll.wait(&mut events, EpollTimeout::NONE)?;
            for event in events.get(..count).unwrap_or_default() {
                match event.data() {
                    // Edge-triggered: the event itself is the message.
                    TIMER => {}
                    listener @ 0..TIMER => self.accept(usize::try_from(listener)?)?,
                    end => self.take(usize::try_from(end - FIRST_END)?)?,
                }
            }
            self.give()?;
            self.arm()?;
        }
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        let (listener, to) = self.listeners.get(listener).context("no such listener")?;
        let (client, _) = listener.accept()?;
        let server = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
        for end in [client, server] {
            end.set_nodelay(true)?;
            end.set_nonblocking(true)?;
            let token = FIRST_END + self.ends.len() as u64;
            self.epoll.add(&end, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            self.ends.push(end);
        }
        Ok(())
    }

    /// Reads the bytes that have arrived at an end.
    fn take(&mut self, from: usize) -> Result<()> {
        let end = self.ends.get_mut(from).context("no such end")?;
        let count = match end.read(&mut self.buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // A reset connection is at its end, too.
            count => count.unwrap_or(0),
        };
        if count == 0 {
            self.epoll.delete(&*end)?;
        }
        let bytes = self.buffer.get(..count).unwrap_or_default().to_vec();
        // The numbers of the two ends of a connection differ in the last bit.
        self.held.push_back(Held { due_ns: monotonic_ns() + self.half_ns, to: from ^ 1, bytes });
        Ok(())
    }

    /// Forwards the bytes that are due.
    fn give(&mut self) -> Result<()> {
        let mut counts = None;
        while let Some(held) = self.held.front() {
            let now_ns = monotonic_ns();
            if held.due_ns > now_ns {
                break;
            }
            let end = self.ends.get_mut(held.to).context("no such end")?;
            if held.bytes.is_empty() {
                let _ = end.shutdown(Shutdown::Write);
            } else {
                write(end, &held.bytes);
                let counts = counts.get_or_insert_with(|| {
                    self.counts.lock().unwrap_or_else(PoisonError::into_inner)
                });
                counts.messages += 1;
                counts.late_ns.record(now_ns - held.due_ns);
            }
            self.held.pop_front();
        }
        Ok(())
    }

    /// Sets the timer to the next due time.
    fn arm(&mut self) -> Result<()> {
        let Some(&Held { due_ns, .. }) = self.held.front() else { return Ok(()) };
        if due_ns != self.armed_ns {
            let at = TimeSpec::from_duration(Duration::from_nanos(due_ns));
            self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            self.armed_ns = due_ns;
        }
        Ok(())
    }
}

/// Writes everything and waits for a slow peer. A peer that has gone gets nothing.
fn write(end: &mut TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match end.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return,
        }
    }
}
