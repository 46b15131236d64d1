//! What belongs to one process and not to its forked children: connections, locks, the process
//! cache, the policy as the daemon last told it.

use crate::mailbox_place::MailboxPlace;
use crate::policy::{PolicySet, Scope};
use crate::pool::Pool;
use crate::process_cache::ProcessCache;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

/// Shortest wait between two attempts of `peek` to attach anew.
const ATTACH_PAUSE: Duration = Duration::from_millis(10);

/// An attempt that took long is followed by a wait this many times as long, so that a daemon which
/// accepts and says nothing costs a reader a fifth of its time and no more.
const ATTACH_PAUSE_FACTOR: u32 = 4;

const ATTACH_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a key's policy means to a client.
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
    pub cache: ProcessCache,
    policy: RwLock<Option<PolicySet>>,
    /// Whether any rule says `scope = "process"`: most hosts have none, and pay nothing.
    has_process_scope: AtomicBool,
    /// The table that was populated last in this process.
    populated: AtomicU64,
    /// Held while a table is being verified and put in place.
    adopting: Mutex<()>,
    /// When to try to attach anew at the earliest. Held by whoever tries.
    next_attach: Mutex<Option<Instant>>,
}

impl Process {
    pub(crate) fn new(connections_max: usize, cache_bytes: u64) -> Process {
        Process {
            pool: Pool::new(connections_max),
            mailbox: MailboxPlace::default(),
            cache: ProcessCache::new(cache_bytes),
            policy: RwLock::new(None),
            has_process_scope: AtomicBool::new(false),
            populated: AtomicU64::new(0),
            adopting: Mutex::new(()),
            next_attach: Mutex::new(None),
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
        let has_process_scope = policy.has_process_scope();
        // What was kept under another policy may live too long under this one. (Before the first
        // nothing was kept, and the answer that is under way is to be.)
        if current.is_some() {
            self.cache.forget(b"");
        }
        self.has_process_scope.store(has_process_scope, Ordering::Relaxed);
        *current = Some(policy);
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

    /// Runs `attach`, which tells whether it succeeded, unless another thread does, or the last
    /// failure is too recent.
    pub(crate) fn attach_now_and_then(&self, attach: impl FnOnce() -> bool) {
        let mut next = match self.next_attach.try_lock() {
            Ok(next) => next,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let begun = Instant::now();
        if next.is_some_and(|next| begun < next) {
            return;
        }
        let attached = attach();
        let pause = begun
            .elapsed()
            .saturating_mul(ATTACH_PAUSE_FACTOR)
            .clamp(ATTACH_PAUSE, ATTACH_PAUSE_MAX);
        *next = if attached { None } else { Instant::now().checked_add(pause) };
    }
}
