//! memcached and Redis behind proxies, and their faults.

use super::action::Fault;
use crate::failure::Failure;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use test_support::servers::{LateRequests, Proxy, Server};

/// Both tiers.
pub struct Tiers([Tier; 2]);

struct Tier {
    server: Server,
    proxy: Arc<Proxy>,
    /// The fault under way, and when it ends.
    fault: Option<(Instant, End)>,
}

/// What ends a fault.
enum End {
    Release,
    Deliver(LateRequests),
    Mend,
    Resume,
    Restart,
}

impl Tiers {
    /// Starts both. Redis writes each change to a file in `directory` before it acknowledges it, so
    /// that a kill of it loses nothing.
    ///
    /// # Errors
    /// The directory has no name in UTF-8.
    pub fn start(directory: &Path) -> Result<Tiers> {
        let directory = directory.to_str().context("a directory for Redis")?;
        let kept = ["--appendonly", "yes", "--appendfsync", "always", "--dir", directory];
        let servers = [Server::memcached(), Server::redis_with(&kept)];
        Ok(Tiers(servers.map(|server| {
            let proxy = Proxy::before(&server);
            Tier { server, proxy, fault: None }
        })))
    }

    /// Where the daemon reaches them.
    pub fn addresses(&self) -> [String; 2] {
        [0, 1].map(|tier| self.0[tier].proxy.address())
    }

    /// Where they are, without a proxy.
    pub fn servers(&self) -> [&Server; 2] {
        [0, 1].map(|tier| &self.0[tier].server)
    }

    /// Begins a fault. Returns `false` if one is under way.
    ///
    /// # Errors
    /// The server has ended by itself.
    pub fn begin(&mut self, tier: usize, fault: Fault, lasts: Duration) -> Result<bool> {
        let Tier { server, proxy, fault: under_way } = &mut self.0[tier % 2];
        if under_way.is_some() {
            return Ok(false);
        }
        let end = match fault {
            Fault::Replies => {
                proxy.hold();
                End::Release
            }
            Fault::Requests => End::Deliver(proxy.hold_requests()),
            Fault::Cut => {
                proxy.cut();
                End::Mend
            }
            Fault::HalfOpen => {
                proxy.forget_connections();
                return Ok(true);
            }
            Fault::Stop => {
                signal(server, Signal::SIGSTOP)?;
                End::Resume
            }
            Fault::Kill => {
                server.kill();
                End::Restart
            }
        };
        *under_way = Some((Instant::now() + lasts, end));
        Ok(true)
    }

    /// Ends the faults that are due by `now`.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    pub fn end(&mut self, now: Instant) -> Result<()> {
        for Tier { server, proxy, fault } in &mut self.0 {
            let Some((_, end)) = fault.take_if(|(due, _)| *due <= now) else { continue };
            match end {
                End::Release => proxy.release(),
                End::Deliver(late) => late.deliver(),
                End::Mend => proxy.mend(),
                End::Resume => signal(server, Signal::SIGCONT)?,
                End::Restart => server.restart(),
            }
        }
        Ok(())
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    pub fn end_all(&mut self) -> Result<()> {
        self.end(Instant::now() + Duration::from_secs(3600))
    }
}

fn signal(server: &Server, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(server.pid())?);
    kill(pid, signal).with_context(|| Failure::Tier("a server has ended by itself".to_owned()))
}
