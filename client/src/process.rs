//! State that belongs to one process and not to its forked children: connections, locks, the
//! process cache, the policy as the daemon last told it.

use crate::clock;
use crate::mailbox_place::MailboxPlace;
use crate::pool::Pool;
use crate::process_cache::{Fresh, ProcessCache, Ticket};
use crate::shared::Attaching;
use l1d_wire::policy::{PolicySet, Rule, Scope};
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

/// No epoch of a table: the policy that came with the last connection holds until the next one.
const UNFOLLOWED: u64 = u64::MAX;

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
    /// The table's epoch at which that holds; [`UNFOLLOWED`]: the daemon does not tell.
    policy_epoch: AtomicU64,
    /// Whether any rule says `scope = "process"`, or none is known yet: most hosts have none, and
    /// pay nothing.
    has_process_scope: AtomicBool,
    /// The table that was populated last in this process.
    populated: AtomicU64,
    /// Held while a table is being verified and put in place.
    adopting: Mutex<()>,
    /// The earliest time of the next attempt to attach again. Held by the thread that tries.
    next_attach: Mutex<Option<Instant>>,
    /// The same for an attempt to get the policy in force.
    next_policy: Mutex<Option<Instant>>,
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
            policy_epoch: AtomicU64::new(UNFOLLOWED),
            has_process_scope: AtomicBool::new(true),
            populated: AtomicU64::new(0),
            adopting: Mutex::new(()),
            next_attach: Mutex::new(None),
            next_policy: Mutex::new(None),
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

    /// Whether the policy is the one that the table says is in force.
    pub(crate) fn holds_policy_of(&self, table_epoch: u64) -> bool {
        // Relaxed: a thread that sees an older epoch asks for the policy once more.
        let epoch = self.policy_epoch.load(Ordering::Relaxed);
        epoch == table_epoch || epoch == UNFOLLOWED
    }

    /// Whether a policy of this epoch of the table in use is not older than the one held.
    pub(crate) fn is_news(&self, epoch: u64) -> bool {
        let held = self.policy_epoch.load(Ordering::Relaxed);
        held == UNFOLLOWED || held <= epoch
    }

    /// Takes the policy that came with a connection, and its epoch in the table in use, if the
    /// daemon tells. Call it while [`adopt`](Self::adopt) is held.
    pub(crate) fn set_policy(&self, policy: PolicySet, epoch: Option<u64>) {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        self.policy_epoch.store(epoch.unwrap_or(UNFOLLOWED), Ordering::Relaxed);
        if current.as_ref() == Some(&policy) {
            return;
        }
        self.has_process_scope.store(policy.has_process_scope(), Ordering::Relaxed);
        // Values kept under another rule may live too long under this one. (Before the first
        // policy nothing was kept, and the answer under way is to be kept.) This comes last: a read
        // that gets its ticket after this, whose locks order it, comes after every write that found
        // no process scope above.
        let former = current.replace(policy);
        if let (Some(former), Some(policy)) = (former, current.as_ref()) {
            self.cache.forget(|key| !may_stay(former.rule(key), policy.rule(key)));
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

    /// Whether a daemon has told its policy.
    pub(crate) fn has_policy(&self) -> bool {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Largest value that any rule allows.
    pub(crate) fn value_bytes_max(&self) -> u32 {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        let rules = policy.as_ref().map(PolicySet::rules).unwrap_or_default();
        rules.iter().map(|rule| rule.value_bytes_max).max().unwrap_or(0)
    }

    /// Whether any rule keeps keys in the process cache.
    #[inline]
    pub(crate) fn has_process_scope(&self) -> bool {
        self.has_process_scope.load(Ordering::Relaxed)
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
        attach_unless_too_soon(&mut next, attach);
    }

    /// Runs `attach` to get the policy in force. Other threads wait for that, since keys of process
    /// scope would miss without it; `holds_it` tells them that it has come. Returns whether it has.
    pub(crate) fn attach_for_policy(
        &self,
        holds_it: impl Fn() -> bool,
        attach: impl FnOnce() -> bool,
    ) -> bool {
        let mut next = self.next_policy.lock().unwrap_or_else(PoisonError::into_inner);
        holds_it() || attach_unless_too_soon(&mut next, attach)
    }
}

/// Whether what was kept under the rule `former` may be kept under `rule`.
fn may_stay(former: &Rule, rule: &Rule) -> bool {
    (&former.prefix, former.scope) == (&rule.prefix, rule.scope)
        && former.ttl <= rule.ttl
        && former.value_bytes_max <= rule.value_bytes_max
}

/// Runs `attach` unless its last failure, after which `next` is the earliest time for another
/// attempt, is too recent. Returns whether it attached.
fn attach_unless_too_soon(next: &mut Option<Instant>, attach: impl FnOnce() -> bool) -> bool {
    let started = Instant::now();
    if next.is_some_and(|next| started < next) {
        return false;
    }
    let attached = attach();
    let pause =
        started.elapsed().saturating_mul(ATTACH_PAUSE_FACTOR).clamp(ATTACH_PAUSE, ATTACH_PAUSE_MAX);
    *next = if attached { None } else { Instant::now().checked_add(pause) };
    attached
}

#[cfg(test)]
mod tests {
    //! The hazard: writes that find no key of process scope leave the process cache alone, and a
    //! policy that brings process scope in the middle of one makes this process keep what is older
    //! than it.

    use super::*;
    use crate::process_cache::ProcessRead;

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
        process.set_policy(policy(Scope::Host), None);
        assert!(process.begin_read(b"key").is_none() && process.begin_write(b"key").is_none());
        process.set_policy(policy(Scope::Process), None);
        assert!(process.begin_read(b"key").is_some() && process.begin_write(b"key").is_some());
    }

    #[test]
    fn an_answer_overtaken_by_a_write_that_began_without_process_scope_is_not_kept() {
        let process = Process::new(1, 1 << 20);
        process.set_policy(policy(Scope::Host), None);
        let write = process.begin_write(b"key");
        process.set_policy(policy(Scope::Process), None);
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
    fn a_changed_rule_forgets_its_own_keys_alone() {
        let rule = |id, prefix: &[u8], seconds| Rule {
            id,
            prefix: prefix.to_vec(),
            scope: Scope::Process,
            ttl: Duration::from_secs(seconds),
            ..Rule::default()
        };
        let policy = |rules: [Rule; 3]| {
            PolicySet::new(vec![Rule::default()].into_iter().chain(rules).collect())
        };
        let process = Process::new(1, 1 << 20);
        let first = policy([rule(1, b"a:", 9), rule(2, b"b:", 9), rule(3, b"c:", 9)]).unwrap();
        process.set_policy(first, Some(1));
        let keys: [&[u8]; 4] = [b"a:1", b"b:1", b"c:1", b"c:x:1"];
        for key in keys {
            process.cache.end_read(&process.begin_read(key).unwrap(), key, &fresh(b"value"));
        }
        let second = policy([rule(1, b"c:x:", 9), rule(2, b"a:", 8), rule(3, b"b:", 10)]).unwrap();
        let third =
            PolicySet::new(second.rules().iter().cloned().chain([rule(4, b"c:", 9)]).collect());
        process.set_policy(third.unwrap(), Some(2));
        let is_kept =
            |key: &&[u8]| !matches!(process.cache.read(key, &mut Vec::new()), ProcessRead::Miss);
        assert_eq!(keys.map(|key| is_kept(&key)), [false, true, true, false]);
        assert!(process.holds_policy_of(2) && !process.holds_policy_of(3) && !process.is_news(1));
    }

    #[test]
    fn an_answer_from_before_a_policy_is_not_kept_under_it() {
        let process = Process::new(1, 1 << 20);
        process.set_policy(policy(Scope::Process), None);
        let question = process.begin_read(b"key").unwrap();
        process.set_policy(policy(Scope::Host), None);
        let write = process.begin_write(b"key");
        process.end_write(write, b"key", None);
        process.set_policy(policy(Scope::Process), None);
        process.cache.end_read(&question, b"key", &fresh(b"old"));
        assert!(!is_kept(&process));
    }
}
