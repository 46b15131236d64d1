//! The service manager, systemd or one that speaks its protocol (`sd_notify`): it learns when the
//! daemon is ready, reloads and stops, and that the owner makes progress.
//!
//! Nothing here waits (S10): what the manager does not take at once is sent again in a later turn.

use sd_notify::NotifyState;
use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// When to send again what the manager did not take.
const SEND_AGAIN: Duration = Duration::from_millis(10);

/// Reloads of the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reloads {
    /// How many have been asked for since the start.
    pub asked: u64,
    /// One of them is not complete.
    pub is_under_way: bool,
}

/// The manager that has started this process, if there is one.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<OsString>,
    /// The time between two signs of life.
    interval: Option<Duration>,
    sign_due: Instant,
    /// Reloads that the manager knows of.
    reloads_told: u64,
    /// The manager is to be told that the daemon serves, for the first time or after a reload.
    owes_ready: bool,
}

impl ServiceManager {
    /// The manager that the environment names.
    #[must_use]
    pub fn from_environment() -> ServiceManager {
        // A third of its patience: two signs may be late. Without a watchdog, none is sent.
        let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
        let interval = patience.map(|patience| patience / 3);
        let socket = std::env::var_os("NOTIFY_SOCKET");
        ServiceManager { socket, interval, ..ServiceManager::none() }
    }

    /// No manager.
    #[must_use]
    pub fn none() -> ServiceManager {
        ServiceManager {
            socket: None,
            interval: None,
            sign_due: Instant::now(),
            reloads_told: 0,
            owes_ready: false,
        }
    }

    /// Clients can attach.
    pub fn ready(&mut self) {
        self.owes_ready = true;
        self.send_ready();
    }

    /// The owner's loop has completed a turn.
    pub fn turned(&mut self, now: Instant, reloads: Reloads) {
        if reloads.asked != self.reloads_told {
            // systemd takes it for an earlier reload without the time, in the same message.
            let time = NotifyState::monotonic_usec_now();
            if time.is_ok_and(|time| self.send(&[NotifyState::Reloading, time])) {
                self.reloads_told = reloads.asked;
                self.owes_ready = true;
            }
        }
        if !reloads.is_under_way && self.reloads_told == reloads.asked {
            self.send_ready();
        }
        if let Some(interval) = self.interval
            && now >= self.sign_due
            && self.send(&[NotifyState::Watchdog])
        {
            self.sign_due = now + interval;
        }
    }

    /// When the loop is to complete another turn at the latest.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let again = self.owes_ready.then_some(now + SEND_AGAIN);
        let sign = self.interval.map(|_| self.sign_due.max(now + SEND_AGAIN));
        again.into_iter().chain(sign).min()
    }

    /// The daemon accepts nobody any more, and ends.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    fn send_ready(&mut self) {
        if self.owes_ready {
            self.owes_ready = !self.send(&[NotifyState::Ready]);
        }
    }

    /// Returns `false` if the manager has no room for the message now.
    fn send(&self, states: &[NotifyState<'_>]) -> bool {
        let Some(socket) = &self.socket else { return true };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        let sent = UnixDatagram::unbound().and_then(|from| {
            from.set_nonblocking(true)?;
            from.send_to(message.as_bytes(), socket)
        });
        !sent.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}
