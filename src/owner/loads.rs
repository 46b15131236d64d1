//! Loads: for a key that nobody has, one process of the host computes the value, and the others
//! wait for it.
//!
//! A *reservation* makes a process the loader of a key. It ends when the loader fills the key or
//! abandons it, when its lease runs out, when its process dies, and when anybody else changes the
//! key; the next one that asks is then the loader. The token of a reservation that has ended fills
//! nothing any more, so there is never more than one valid token for a key.
//!
//! Nobody waits here: who asks for a key that is being loaded is told so, and asks again. A request
//! that waited would hold one of its process's lanes, and the loader's own value may need that.

use super::Owner;
use super::flight::FETCHES_OF_USER_MAX;
use super::request::{key_fits, right_to};
use super::response::{OwnedResponse, Waiter};
use crate::access::Right;
use crate::doors::{Origin, Peer, Replies};
use l1d_wire::protocol::{ErrorCode, Set};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rapidhash::RapidHashMap;
use std::collections::VecDeque;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most keys that are being loaded; one more is refused.
const LOADS_MAX: usize = 8192;
/// The longest lease.
const LEASE_MAX: Duration = Duration::from_secs(3600);
/// Errors of loaders that are remembered for those who wait.
const ERRORS_MAX: usize = 256;
/// How long they are.
const ERROR_AGE_MAX: Duration = Duration::from_secs(1);
/// Bytes of a loader's error that are passed on.
const ERROR_BYTES_MAX: usize = 4096;

/// Keys that are being loaded.
#[derive(Debug, Default)]
pub(super) struct Loads {
    by_key: RapidHashMap<Arc<[u8]>, Load>,
    /// How many each user has.
    per_uid: RapidHashMap<u32, usize>,
    /// Of the processes that have reservations, by their connection.
    processes: RapidHashMap<Origin, OwnedFd>,
    /// Reservations given so far.
    given: u32,
    /// Errors of loaders, by their token, the oldest first.
    errors: VecDeque<(u64, String, Instant)>,
}

/// A reservation.
#[derive(Debug)]
struct Load {
    token: u64,
    /// The loader's connection.
    loader: Origin,
    /// The loader's user.
    uid: u32,
    /// When the lease ends.
    until: Instant,
    /// The loader has filled the key, and the value is on its way to the tiers.
    is_filled: bool,
    /// How often others were told to wait.
    told: u64,
}

impl Loads {
    /// The number of keys that are being loaded.
    pub(super) fn count(&self) -> usize {
        self.by_key.len()
    }

    /// How often others were told to wait for the loader of `key`, if it is being loaded.
    pub(super) fn told(&self, key: &[u8]) -> Option<u64> {
        Some(self.by_key.get(key)?.told)
    }

    /// Ends the reservation of `key`, if there is one.
    pub(super) fn revoke(&mut self, key: &[u8]) {
        // Every change comes here, and usually nothing is being loaded.
        if !self.by_key.is_empty()
            && let Some(load) = self.by_key.remove(key)
        {
            self.uncount(load.uid);
        }
    }

    fn uncount(&mut self, uid: u32) {
        if let Some(count) = self.per_uid.get_mut(&uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_uid.remove(&uid);
            }
        }
    }

    /// Keeps the reservations for which `keeps` holds.
    fn retain(&mut self, keeps: impl Fn(&[u8], &Load) -> bool) {
        let ended = self.by_key.extract_if(|key, load| !keeps(key, load));
        let users: Vec<u32> = ended.map(|(_, load)| load.uid).collect();
        for uid in users {
            self.uncount(uid);
        }
    }

    /// Ends the reservations of keys with this prefix.
    pub(super) fn revoke_prefix(&mut self, prefix: &[u8]) {
        self.retain(|key, _| !key.starts_with(prefix));
    }

    /// The last change of `key` has ended. If it was the fill, well or not, so has the load.
    pub(super) fn ended(&mut self, key: &[u8]) {
        if !self.by_key.is_empty() && self.by_key.get(key).is_some_and(|load| load.is_filled) {
            self.revoke(key);
        }
    }

    /// Forgets a client that has gone, and its reservations.
    pub(super) fn gone(&mut self, origin: Origin) {
        let gone = origin.connection();
        if self.processes.remove(&gone).is_some() || !self.by_key.is_empty() {
            self.retain(|_, load| load.is_filled || load.loader != gone);
        }
    }

    /// Whether the load may still end by itself.
    fn is_alive(&self, load: &Load, now: Instant) -> bool {
        load.is_filled || (load.until > now && !self.has_ended(load.loader))
    }

    /// Whether the process at the other end of a connection is known to have ended. Its socket
    /// tells, too, but a forked child may hold that open.
    fn has_ended(&self, connection: Origin) -> bool {
        self.processes.get(&connection).is_some_and(|process| {
            let mut process = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            loop {
                match poll(&mut process, PollTimeout::ZERO) {
                    Err(Errno::EINTR) => {}
                    ended => return ended == Ok(1),
                }
            }
        })
    }

    /// Watches the process at the other end of `connection`.
    fn watch(&mut self, connection: Origin, pid: i32) {
        if pid <= 0 || self.processes.contains_key(&connection) {
            return;
        }
        // SAFETY: the call takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if let Ok(fd) = i32::try_from(fd)
            && fd >= 0
        {
            // SAFETY: the kernel has just given us this descriptor.
            self.processes.insert(connection, unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }

    fn remember_error(&mut self, token: u64, error: &str) {
        let mut end = error.len().min(ERROR_BYTES_MAX);
        while !error.is_char_boundary(end) {
            end -= 1;
        }
        if self.errors.len() >= ERRORS_MAX {
            self.errors.pop_front();
        }
        let error = error.get(..end).unwrap_or_default().to_owned();
        self.errors.push_back((token, error, Instant::now()));
    }

    /// The error of the loader with this token, if it has ended with one lately.
    fn error(&mut self, token: u64, now: Instant) -> Option<&str> {
        while self.errors.front().is_some_and(|(.., at)| now.duration_since(*at) > ERROR_AGE_MAX) {
            self.errors.pop_front();
        }
        let mut errors = self.errors.iter();
        errors.find(|(of, ..)| *of == token).map(|(_, error, _)| error.as_str())
    }
}

impl Owner {
    /// Answers with the value of `key` if the table has it. Otherwise makes the requester its
    /// loader for `lease`, or tells it that there is one. `waits_for` is the token of the loader
    /// that the requester was told of before; 0: none.
    pub(super) fn reserve(
        &mut self,
        (key, lease, waits_for): (&[u8], Duration, u64),
        origin: Origin,
        peer: &Peer,
        replies: &mut dyn Replies,
    ) {
        let answer = match key_fits(key) {
            Err(answer) => answer,
            Ok(()) => match self.find(key) {
                Some(found) => found,
                None => match self.permit(Right::Write, key) {
                    Ok(()) => self.reserve_absent((key, lease, waits_for), origin, peer),
                    Err(answer) => answer,
                },
            },
        };
        self.groups.give(Waiter::Origin(origin), &answer, replies);
    }

    fn reserve_absent(
        &mut self,
        (key, lease, waits_for): (&[u8], Duration, u64),
        origin: Origin,
        peer: &Peer,
    ) -> OwnedResponse {
        let now = Instant::now();
        let load = self.loads.by_key.get(key);
        let is_alive = load.is_some_and(|load| self.loads.is_alive(load, now));
        if let Some(load) = self.loads.by_key.get_mut(key).filter(|_| is_alive) {
            load.told += 1;
            return OwnedResponse::Loading { token: load.token };
        }
        if let Some(error) = self.loads.error(waits_for, now) {
            return OwnedResponse::error(ErrorCode::LoadFailed, error);
        }
        // What a loader computes now would be older than a change under way.
        if self.writes.is_changing(key) {
            return OwnedResponse::Loading { token: 0 };
        }
        if self.loads.count() >= LOADS_MAX {
            self.loads.retain(|_, load| load.is_filled || load.until > now);
        }
        if self.loads.count() >= LOADS_MAX {
            let message = "too many keys are being loaded at once";
            return OwnedResponse::error(ErrorCode::Busy, message);
        }
        let most = self.guard.quota().fetches.unwrap_or(FETCHES_OF_USER_MAX);
        if self.loads.per_uid.get(&peer.uid).is_some_and(|count| *count >= most) {
            return self.over_quota("loads", "fetches_max", most);
        }
        let loader = origin.connection();
        self.loads.watch(loader, peer.pid);
        self.loads.given = self.loads.given.wrapping_add(1).max(1);
        // With the daemon's instance: never one that an earlier daemon has given.
        let token = self.tables.current().instance() << 32 | u64::from(self.loads.given);
        let until = now + lease.min(LEASE_MAX);
        // One whose process has ended may be in its place.
        self.loads.revoke(key);
        let load = Load { token, loader, uid: peer.uid, until, is_filled: false, told: 0 };
        self.loads.by_key.insert(key.into(), load);
        *self.loads.per_uid.entry(peer.uid).or_default() += 1;
        OwnedResponse::Reserved { token }
    }

    /// Stores the value of a loader.
    pub(super) fn fill(
        &mut self,
        token: u64,
        set: &Set<'_>,
        origin: Origin,
        replies: &mut dyn Replies,
    ) {
        if let Err(answer) = self.permit(right_to(set), set.key) {
            return self.groups.give(Waiter::Origin(origin), &answer, replies);
        }
        let now = Instant::now();
        let load = self.loads.by_key.get_mut(set.key);
        let load = load.filter(|load| load.token == token && !load.is_filled && load.until > now);
        let Some(load) = load else {
            let message = "the value was not stored, because its reservation has ended: the lease \
                           has run out, or the key was changed meanwhile; load it again";
            let answer = OwnedResponse::error(ErrorCode::Refused, message);
            return self.groups.give(Waiter::Origin(origin), &answer, replies);
        };
        load.is_filled = true;
        self.store(set, Waiter::Origin(origin), replies);
        if !self.writes.is_changing(set.key) {
            self.loads.ended(set.key);
        }
    }

    /// Ends a reservation whose loader has no value. With an error, those who wait get that;
    /// without one, the next of them that asks becomes the loader.
    pub(super) fn abandon(
        &mut self,
        (key, token, error): (&[u8], u64, &str),
        origin: Origin,
        replies: &mut dyn Replies,
    ) {
        if let Err(answer) = self.permit(Right::Write, key) {
            return self.groups.give(Waiter::Origin(origin), &answer, replies);
        }
        let load = self.loads.by_key.get(key);
        if load.is_some_and(|load| load.token == token && !load.is_filled) {
            self.loads.revoke(key);
            if !error.is_empty() {
                self.loads.remember_error(token, error);
            }
        }
        self.groups.give(Waiter::Origin(origin), &OwnedResponse::Done, replies);
    }

    /// The value of `key` in the table.
    fn find(&mut self, key: &[u8]) -> Option<OwnedResponse> {
        let now_ns = self.now_ns();
        let held = self.tables.get(key, now_ns).filter(|held| !held.absent)?;
        let ttl = super::request::remaining(held.expiry, now_ns);
        let value = held.value.into();
        Some(OwnedResponse::Found { value, flags: held.flags, version: held.version, ttl })
    }
}
