//! State that belongs to one process and not to its forked children: connections, locks, the
//! process cache, the policy as the daemon last told it.

use crate::clock;
use crate::mailbox_place::MailboxPlace;
use crate::pool::Pool;
use crate::process_cache::{Fresh, ProcessCache, Ticket};
use crate::shared::Attaching;
use l1d_wire::policy::{PolicySet, Scope};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

/// Shortest wait between two attempts of `peek` to attach again.
const ATTACH_PAUSE: Duration = Duration::from_millis(10);

/// An attempt that took long is followed by a wait this many times as long, so that a daemon which
/// accepts and says nothing costs a reader a fifth of its time and no more.
const ATTACH_PAUSE_FACTOR: u32 = 4;

const ATTACH_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Without a table, reads check at most this often that the daemon is there.
const DAEMON_CHECK_NS: u64 = 1_000_000_000;

/// The part of a key's rule that a client needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRule {
    pub scope: Scope,
    pub ttl: Duration,
    pub value_bytes_max: u32,
}

pub(crate) struct Process {
    /// For what the administrator asks, and for everything where the daemon gives no mailbox.
    pub pool: Pool,
    pub mailbox: MailboxPlace,
    /// The attachment under way that no thread waits for.
    pub attaching: Mutex<Option<Attaching>>,
    pub cache: ProcessCache,
    policy: RwLock<Option<PolicySet>>,
    /// Whether any rule says `scope = "process"`, or none is known yet: most hosts have none, and
    /// pay nothing.
    has_process_scope: AtomicBool,
    /// The table that was populated last in this process.
    populated: AtomicU64,
    /// Held while a table is being verified and put in place.
    adopting: Mutex<()>,
    /// The earliest time of the next attempt to attach again. Held by the thread that tries.
    next_attach: Mutex<Option<Instant>>,
    /// The earliest time of the next check that the daemon is there, by the coarse clock.
    next_daemon_check_ns: AtomicU64,
}

impl Process {
    pub(crate) fn new(connections_max: usize, cache_bytes: u64) -> Process {
        Process {
            pool: Pool::new(connections_max),
            mailbox: MailboxPlace::default(),
            attaching: Mutex::default(),
            cache: ProcessCache::new(cache_bytes),
            policy: RwLock::new(None),
            has_process_scope: AtomicBool::new(true),
            populated: AtomicU64::new(0),
            adopting: Mutex::new(()),
            next_attach: Mutex::new(None),
            next_daemon_check_ns: AtomicU64::new(0),
        }
    }

    /// The right to put a table in place; not held while anything is waited for.
    pub(crate) fn adopt(&self) -> MutexGuard<'_, ()> {
        self.adopting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this table is not yet populated in this process. Says so once.
    pub(crate) fn must_populate(&self, table_id: u64) -> bool {
        self.populated.swap(table_id, Ordering::Relaxed) != table_id
    }

    /// Takes the policy that came with a connection.
    pub(crate) fn set_policy(&self, policy: PolicySet) {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref() == Some(&policy) {
            return;
        }
        self.has_process_scope.store(policy.has_process_scope(), Ordering::Relaxed);
        // What was kept under another policy may live too long under this one. (Before the first
        // nothing was kept, and the answer that is under way is to be.) Last: a question that is
        // ticket behind this, whose locks order it, is behind every write that found no process
        // scope above.
        if current.replace(policy).is_some() {
            self.cache.forget(b"");
        }
    }

    /// The rule of `key`; `None` before a daemon has told its policy.
    pub(crate) fn rule(&self, key: &[u8]) -> Option<KeyRule> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        policy.as_ref().map(|policy| {
            let rule = policy.rule(key);
            KeyRule { scope: rule.scope, ttl: rule.ttl, value_bytes_max: rule.value_bytes_max }
        })
    }

    /// Largest value that any rule allows.
    pub(crate) fn value_bytes_max(&self) -> u32 {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        let rules = policy.as_ref().map(PolicySet::rules).unwrap_or_default();
        rules.iter().map(|rule| rule.value_bytes_max).max().unwrap_or(0)
    }

    /// The process cache, where `key` belongs in it.
    pub(crate) fn cache_of(&self, key: &[u8]) -> Option<&ProcessCache> {
        let has_it = self.has_process_scope.load(Ordering::Relaxed)
            && self.rule(key)?.scope == Scope::Process;
        has_it.then_some(&self.cache)
    }

    /// Before the daemon is asked for `key`. `None` where its answer is not to be kept.
    pub(crate) fn begin_read(&self, key: &[u8]) -> Option<Ticket> {
        let has_it = self.has_process_scope.load(Ordering::Relaxed);
        has_it.then(|| self.cache.begin_read(key))
    }

    /// Before the daemon is told to change `key`. `None` where no key belongs in the process cache.
    pub(crate) fn begin_write(&self, key: &[u8]) -> Option<Ticket> {
        let has_it = self.has_process_scope.load(Ordering::Relaxed);
        has_it.then(|| self.cache.begin_write(key))
    }

    /// After it: keeps what the daemon has taken, or, with no `fresh`, forgets the key.
    pub(crate) fn end_write(&self, ticket: Option<Ticket>, key: &[u8], fresh: Option<&Fresh<'_>>) {
        match ticket {
            Some(ticket) => self.cache.end_write(&ticket, key, fresh),
            // A policy that came in between has made the cache forget all; what was asked for under
            // it may be from before the write. One that comes later does so behind the write.
            None => {
                if let Some(ticket) = self.begin_write(key) {
                    self.cache.end_write(&ticket, key, None);
                }
            }
        }
    }

    /// Whether this process has a connection, and the daemon has not hung up. At most one system
    /// call.
    pub(crate) fn is_connected(&self) -> bool {
        match self.mailbox.get() {
            Some(mailbox) => !mailbox.is_hung_up(),
            None => self.pool.is_connected(),
        }
    }

    /// Whether the daemon that this process asks may have gone. Checked now and then: in between it
    /// counts as there. A process that only peeks learns of its successor by this alone.
    pub(crate) fn may_have_lost_daemon(&self) -> bool {
        // Relaxed: threads that check at the same time do no harm.
        if clock::monotonic_coarse_ns() < self.next_daemon_check_ns.load(Ordering::Relaxed) {
            return false;
        }
        self.put_off_daemon_check();
        !self.is_connected()
    }

    /// The next check is due in a while: the daemon has just answered, or is being looked at.
    pub(crate) fn put_off_daemon_check(&self) {
        let now_ns = clock::monotonic_coarse_ns();
        self.next_daemon_check_ns.store(now_ns.saturating_add(DAEMON_CHECK_NS), Ordering::Relaxed);
    }

    /// Runs `attach`, which tells whether it succeeded, unless another thread does, or the last
    /// failure is too recent.
    pub(crate) fn attach_now_and_then(&self, attach: impl FnOnce() -> bool) {
        let mut next = match self.next_attach.try_lock() {
            Ok(next) => next,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let started = Instant::now();
        if next.is_some_and(|next| started < next) {
            return;
        }
        let attached = attach();
        let pause = started
            .elapsed()
            .saturating_mul(ATTACH_PAUSE_FACTOR)
            .clamp(ATTACH_PAUSE, ATTACH_PAUSE_MAX);
        *next = if attached { None } else { Instant::now().checked_add(pause) };
    }
}

#[cfg(test)]
mod tests {
    //! The hazard: writes that find no key of process scope leave the process cache alone, and a
    //! policy that brings process scope in the middle of one makes this process keep what is older
    //! than it.

    use super::*;
    use crate::process_cache::ProcessRead;
    use l1d_wire::policy::Rule;

    fn policy(scope: Scope) -> PolicySet {
        PolicySet::new(vec![Rule { scope, ..Rule::default() }]).unwrap()
    }

    fn fresh(value: &[u8]) -> Fresh<'_> {
        Fresh { value: Some(value), flags: 0, ttl: Duration::from_secs(1000) }
    }

    fn is_kept(process: &Process) -> bool {
        let cache = process.cache_of(b"key").unwrap();
        !matches!(cache.read(b"key", &mut Vec::new()), ProcessRead::Miss)
    }

    #[test]
    fn without_process_scope_nothing_is_begun_and_before_a_policy_everything_is() {
        let process = Process::new(1, 1 << 20);
        assert!(process.begin_read(b"key").is_some() && process.begin_write(b"key").is_some());
        process.set_policy(policy(Scope::Host));
        assert!(process.begin_read(b"key").is_none() && process.begin_write(b"key").is_none());
        process.set_policy(policy(Scope::Process));
        assert!(process.begin_read(b"key").is_some() && process.begin_write(b"key").is_some());
    }

    #[test]
    fn an_answer_overtaken_by_a_write_that_began_without_process_scope_is_not_kept() {
        let process = Process::new(1, 1 << 20);
        process.set_policy(policy(Scope::Host));
        let write = process.begin_write(b"key");
        process.set_policy(policy(Scope::Process));
        let question = process.begin_read(b"key").unwrap();
        // Kept before the write ends, or asked for before and kept behind it.
        process.cache.end_read(&process.begin_read(b"key").unwrap(), b"key", &fresh(b"old"));
        assert!(is_kept(&process));
        process.end_write(write, b"key", Some(&fresh(b"new")));
        assert!(!is_kept(&process));
        process.cache.end_read(&question, b"key", &fresh(b"old"));
        assert!(!is_kept(&process));
    }

    #[test]
    fn an_answer_from_before_a_policy_is_not_kept_under_it() {
        let process = Process::new(1, 1 << 20);
        process.set_policy(policy(Scope::Process));
        let question = process.begin_read(b"key").unwrap();
        process.set_policy(policy(Scope::Host));
        let write = process.begin_write(b"key");
        process.end_write(write, b"key", None);
        process.set_policy(policy(Scope::Process));
        process.cache.end_read(&question, b"key", &fresh(b"old"));
        assert!(!is_kept(&process));
    }
}
