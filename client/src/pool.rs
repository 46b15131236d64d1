//! A few connections, one request in flight on each.

use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::failure::Reason;
use crate::sentinel::ProcessMark;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Connections of one process.
pub(crate) struct Pool {
    state: Mutex<State>,
    freed: Condvar,
    connections_max: usize,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    /// Leases and idle connections together.
    open: usize,
}

impl Pool {
    pub(crate) fn new(connections_max: usize) -> Pool {
        Pool {
            state: Mutex::default(),
            freed: Condvar::new(),
            connections_max: connections_max.max(1),
        }
    }

    /// Nothing panics while it holds this lock; a caller's panic elsewhere must not end the cache.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to one connection: an idle one that still stands, or none yet. `None` when all are
    /// in use until the deadline.
    pub(crate) fn lease(&self, deadline: &Deadline) -> Result<Option<Lease<'_>>, Reason> {
        let mut state = self.lock();
        loop {
            while let Some(connection) = state.idle.pop() {
                // Closed by a daemon that has gone: the next one may be closed too.
                if connection.is_quiet() {
                    return Ok(Some(self.leased(Some(connection))));
                }
                state.open = state.open.saturating_sub(1);
            }
            if state.open < self.connections_max {
                state.open += 1;
                return Ok(Some(self.leased(None)));
            }
            if deadline.has_passed() {
                return Ok(None);
            }
            let waited = self.freed.wait_timeout(state, deadline.slice());
            let (held, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = held;
            if timeout.timed_out() && deadline.may_be_interrupted() {
                drop(state);
                deadline.go_on()?;
                state = self.lock();
            }
        }
    }

    /// Whether a connection stands, as far as one system call tells: those in use are looked after
    /// by their users.
    pub(crate) fn is_connected(&self) -> bool {
        let mut state = self.lock();
        let Some(connection) = state.idle.pop() else { return state.open > 0 };
        let is_connected = !connection.is_closed();
        if is_connected {
            state.idle.push(connection);
        } else {
            state.open = state.open.saturating_sub(1);
        }
        is_connected
    }

    fn leased(&self, connection: Option<Connection>) -> Lease<'_> {
        Lease { pool: self, process: ProcessMark::own(), connection }
    }

    /// Keeps `connection` for later, unless there are enough.
    pub(crate) fn offer(&self, connection: Connection) {
        let mut state = self.lock();
        if state.open < self.connections_max {
            state.open += 1;
            state.idle.push(connection);
            self.freed.notify_one();
        }
    }
}

/// The right to one connection. Without [`keep`](Self::keep) it is closed at the end: one on which
/// something failed, or whose reply may still come, is never used again.
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    process: ProcessMark,
    /// An idle connection, the first time it is asked for.
    pub connection: Option<Connection>,
}

impl Lease<'_> {
    /// Puts `connection` back for the next request.
    pub(crate) fn keep(mut self, connection: Connection) {
        self.connection = Some(connection);
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // In a child, a thread of the parent may have held the lock (R9).
        if !self.process.is_own() {
            return;
        }
        let mut state = self.pool.lock();
        match self.connection.take() {
            Some(connection) => state.idle.push(connection),
            None => state.open = state.open.saturating_sub(1),
        }
        self.pool.freed.notify_one();
    }
}
