//! Tasks that wait for the daemon.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// Tasks of this process that wait for replies or for a free lane. They share one descriptor, and
/// the task that drains it wakes them all.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    tasks: Arc<Mutex<Vec<(u64, Waker)>>>,
}

impl Waiters {
    /// A place among those that wait, until it is dropped.
    pub(crate) fn enter(&self) -> Waiting {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Waiting { id: NEXT.fetch_add(1, Ordering::Relaxed), tasks: self.tasks.clone() }
    }

    /// Wakes every task that waits.
    pub(crate) fn wake(&self) {
        // Woken after the lock is released: a waker may run anything.
        let wakers: Vec<Waker> = {
            let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.iter().map(|(_, waker)| waker.clone()).collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }
}

/// A task's place among those that wait.
pub(crate) struct Waiting {
    id: u64,
    tasks: Arc<Mutex<Vec<(u64, Waker)>>>,
}

impl Waiting {
    /// Makes [`Waiters::wake`] wake this waker.
    pub(crate) fn renew(&self, waker: &Waker) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match tasks.iter_mut().find(|(id, _)| *id == self.id) {
            Some((_, own)) => own.clone_from(waker),
            None => tasks.push((self.id, waker.clone())),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|(id, _)| *id != self.id);
    }
}
