//! The owner: carries out requests. Only the owner changes the table, in one thread, and it never
//! waits: a request that needs a tier is answered in a later turn.
//!
//! | part | file |
//! |---|---|
//! | one fetch for everyone who misses a key | `flight` |
//! | changes on their way through the tiers | `write` |
//! | what the next daemon is to know of them | `changing` |
//! | how long a value lives in each place | `life` |
//! | one loader for each key that nobody has | `loads` |
//! | get, set, delete | `request` |
//! | changes that depend on what a key holds | `operation` |
//! | results of the tiers | `landing` |
//! | what a client may do | `access` |
//! | the administrator's requests | `admin` |
//! | those that take several turns | `tasks` |
//! | figures for people | `figures`, `history` |
//! | keys that stand out | `keys` |
//! | when versions were given | `versions` |
//! | where a key stands, and the last changes | `explain`, `changes` |
//! | moving to a table of another shape | `resize` |
//! | reading the configuration again | `reload` |

mod access;
mod admin;
mod changes;
mod changing;
#[cfg(any(test, fuzzing))]
mod double;
mod explain;
mod figures;
mod flags;
mod flight;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod history;
mod keys;
mod landing;
mod life;
mod loads;
mod operation;
mod reload;
mod request;
mod resize;
mod response;
mod tasks;
#[cfg(test)]
mod tests;
mod versions;
mod write;

use crate::access::{Grant, Quota};
use crate::clock;
use crate::doors::{Origin, Peer, Replies, Service};
use crate::manager::Reloads;
use crate::reactor::Readiness;
use crate::table::Tables;
use crate::tiers::{JOBS_MAX, Tiers};
use access::Guard;
use changes::{Author, Changes};
use changing::Changing;
use explain::{Explaining, LOOKS_MAX};
use figures::{PolicyHits, Samples};
use flight::Flights;
use history::History;
use keys::HotKeys;
use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::version::{
    PROTOCOL_NEGOTIATED, PROTOCOL_OLDEST, PROTOCOL_VERSION, agreed_version,
};
use l1d_wire::protocol::{Attached, ErrorCode, Layouts, Operate, Request, Response, Set};
use l1d_wire::snapshot::{Clients, Requests};
use loads::Loads;
use reload::Reloading;
use resize::Resizing;
use response::{Groups, Waiter};
use shm_layout::KeyHash;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use tasks::Tasks;
use write::Writes;

/// Entries that background work visits in one turn.
const SWEEP_ENTRIES: usize = 128;
/// How often the clock offset is checked: a suspend shows within this time.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
/// A change of the clock offset below this is the noise of reading two clocks.
const CLOCK_NOISE_NS: u64 = 1_000_000;

/// Each flight has one job for the tiers, each key one for the first of its changes, and each
/// explanation one for each tier. So an
/// accepted change is never rejected there, when its requester may no longer be waiting.
const _: () = assert!(flight::FLIGHTS_MAX + write::CHANGES_MAX + LOOKS_MAX <= JOBS_MAX);

/// Serves requests from the table and the tiers.
#[derive(Debug)]
pub struct Owner {
    tables: Tables,
    policy: PolicySet,
    policy_bytes: Vec<u8>,
    /// The tiers below the table, if there are any.
    below: Option<Box<dyn Tiers>>,
    ttl_max: Duration,
    /// What the table says of that.
    unsettled: Option<[u64; 2]>,
    flights: Flights,
    writes: Writes,
    changing: Changing,
    loads: Loads,
    groups: Groups,
    tasks: Tasks,
    counters: Requests,
    policy_hits: PolicyHits,
    samples: Samples,
    history: History,
    hot_keys: HotKeys,
    /// Who asked for what is being carried out.
    author: Author,
    changes: Changes,
    explaining: Explaining,
    started: Instant,
    clock_checked: Instant,
    jitter: u64,
    /// The current time, while several requests are served at once.
    now_ns: Option<u64>,
    resizing: Resizing,
    reloading: Reloading,
    guard: Guard,
}

impl Owner {
    /// An owner of `tables`. Known absences take at most this number of thousandths of the table,
    /// and no value lives in it for longer than `ttl_max`.
    #[must_use]
    pub fn new(
        tables: Tables,
        absent_share_max_permille: u16,
        ttl_max: Duration,
        below: Option<Box<dyn Tiers>>,
    ) -> Owner {
        let now = Instant::now();
        let unsettled = tables.unsettled();
        let policy = tables.policy().clone();
        let samples = Samples::new(tables.current().next_version());
        let mut owner = Owner {
            tables,
            policy_bytes: policy.encode(),
            policy,
            below,
            ttl_max,
            unsettled,
            flights: Flights::default(),
            writes: Writes::default(),
            changing: Changing::default(),
            loads: Loads::default(),
            groups: Groups::default(),
            tasks: Tasks::default(),
            counters: Requests::default(),
            policy_hits: PolicyHits::new(),
            samples,
            history: History::new(now),
            hot_keys: HotKeys::new(),
            author: Author::default(),
            changes: Changes::new(),
            explaining: Explaining::default(),
            started: now,
            clock_checked: now,
            jitter: clock::monotonic_ns(),
            now_ns: None,
            resizing: Resizing::default(),
            reloading: Reloading::default(),
            guard: Guard::new(),
        };
        owner.set_clock();
        owner.look_at_clock();
        owner.take_over_changing();
        owner.tables.limit_absences(Some(absent_share_max_permille));
        owner
    }

    /// Nanoseconds since the table's epoch.
    fn now_ns(&self) -> u64 {
        if let Some(now_ns) = self.now_ns {
            return now_ns;
        }
        clock::boottime_ns()
            .wrapping_sub(self.tables.current().writer().geometry().identity().epoch_ns)
    }

    /// The time of CLOCK_BOOTTIME.
    fn boottime_ns(&self) -> u64 {
        let epoch_ns = self.tables.current().writer().geometry().identity().epoch_ns;
        self.now_ns().wrapping_add(epoch_ns)
    }

    /// Remembers who has changed `key` in L1, and why.
    fn note_change(&mut self, key: &[u8], author: Author) {
        self.changes.note(key, self.boottime_ns(), author);
    }

    /// R7: sets the offset that readers add to their clock.
    fn set_clock(&mut self) {
        let writer = self.tables.current().writer();
        let offset = clock::offset_ns(writer.geometry().identity().epoch_ns);
        let change = offset.wrapping_sub(writer.clock_offset());
        if change.min(change.wrapping_neg()) > CLOCK_NOISE_NS {
            self.tables.set_clock_offset(offset);
        }
    }

    /// P12: before a change is sent, notes in the table that something below is unsettled; and that
    /// nothing is, once that is so.
    fn note_unsettled(&mut self) {
        let Some(below) = &self.below else { return };
        let unsettled = below.has_open_changes().then(|| below.l3_session());
        if unsettled != self.unsettled {
            self.unsettled = unsettled;
            self.tables.set_unsettled(unsettled);
        }
    }

    fn attach(&mut self, origin: Origin, peer: &Peer, protocol: u32, replies: &mut dyn Replies) {
        let Some(agreed) = agreed_version(protocol) else {
            let message = format!(
                "the client speaks protocol {protocol} at most, this daemon {PROTOCOL_OLDEST} to \
                 {PROTOCOL_VERSION}; upgrade the client"
            );
            let code = ErrorCode::WrongProtocol;
            return replies.reply(origin, &Response::Error { code, message: &message });
        };
        if self.refuse_attach(origin, replies) {
            return;
        }
        self.counters.attaches += 1;
        self.resizing.attached(origin, peer.pid, self.tables.current());
        let response = Response::Attached(Attached {
            protocol: agreed,
            table_id: self.tables.current().writer().geometry().identity().table_id,
            table_bytes: self.tables.file().bytes(),
            instance: self.tables.current().instance(),
            clock_ns: clock::monotonic_ns(),
            mailbox_bytes: 0,
            policy: &self.policy_bytes,
            layouts: (agreed >= PROTOCOL_NEGOTIATED).then_some(Layouts::OWN),
            policy_epoch: (agreed >= PROTOCOL_NEGOTIATED).then(|| self.tables.policy_epoch()),
        });
        replies.reply_with_table(origin, &response, self.tables.file().read_only().as_fd());
    }
}

impl Service for Owner {
    fn admit(&mut self, peer: &Peer, stream: BorrowedFd<'_>) -> Result<(Grant, Quota), String> {
        self.admission(peer, stream)
    }

    fn reached_quota(&mut self, peer: &Peer, limit: &'static str, most: usize) {
        self.count_over_quota(peer, limit, most);
    }

    fn request(
        &mut self,
        origin: Origin,
        peer: &Peer,
        request: Request<'_>,
        replies: &mut dyn Replies,
    ) {
        self.author = Author::of(peer, &request);
        self.guard.peer = *peer;
        match request {
            Request::Attach { protocol, .. } => self.attach(origin, peer, protocol, replies),
            Request::Get { key } => self.get(key, Waiter::Origin(origin), replies),
            Request::GetMany { keys } => self.get_many(&keys, origin, replies),
            Request::Set(set) => {
                let waiter = if set.reply { Waiter::Origin(origin) } else { Waiter::Nobody };
                self.set(&set, waiter, replies);
            }
            Request::SetMany { sets } => self.set_many(&sets, origin, replies),
            Request::Delete { key } => self.delete(key, origin, replies),
            Request::Operate(operate) => {
                self.operate(&operate, Waiter::Origin(origin), replies);
            }
            Request::Reserve { key, lease, waits_for } => {
                self.reserve((key, lease, waits_for), origin, peer, replies);
            }
            Request::Fill { token, set } => self.fill(token, &set, origin, replies),
            Request::Abandon { key, token, error } => {
                self.abandon((key, token, error), origin, replies);
            }
            // The administrator's requests.
            request if self.refuse_admin(&request, origin, replies) => {}
            Request::Flush { prefix } => self.flush(prefix, origin, replies),
            Request::Stats => self.stats(origin, replies),
            Request::Clients => {
                let clients = Clients { clients: replies.clients() };
                admin::reply_json(origin, &clients, replies);
            }
            Request::Explain { key } => self.explain(key, origin, replies),
            Request::Check => self.check(origin, replies),
            Request::Policy => self.policy(origin, replies),
            Request::ReloadPolicy => self.begin_reload(Some(origin), replies),
            Request::Advise => self.advise(origin, replies),
            Request::Access { of } => self.tell_access(of.as_ref(), origin, replies),
            Request::Keys { prefix, top, by } => self.keys((prefix, top, by), origin, replies),
            Request::Resize { table_bytes, entry_bytes } => {
                self.resize(origin, (table_bytes, entry_bytes), replies);
            }
        }
    }

    fn prefetch_index(&mut self, request: &Request<'_>) {
        match request {
            Request::Set(Set { key, .. })
            | Request::Get { key }
            | Request::Delete { key }
            | Request::Operate(Operate { key, .. }) => {
                self.tables.current().prefetch_index(key);
            }
            _ => {}
        }
    }

    fn prefetch_entry(&mut self, request: &Request<'_>) {
        if let Request::Set(Set { key, .. })
        | Request::Delete { key }
        | Request::Operate(Operate { key, .. }) = request
        {
            self.tables.current().prefetch_entry(key);
        }
    }

    fn begin(&mut self) {
        self.now_ns = Some(self.now_ns());
    }

    fn end(&mut self) {
        self.now_ns = None;
    }

    fn gone(&mut self, origin: Origin) {
        self.groups.forget(origin);
        self.resizing.gone(origin);
        self.loads.gone(origin);
        self.reloading.gone(origin);
        self.explaining.gone(origin);
        self.tasks.gone(origin);
    }

    fn hit(&mut self, hash: u64, times: u32) {
        self.tables.hit(KeyHash(hash), times, self.now_ns());
        self.count_hit(KeyHash(hash), times);
    }

    fn takes_more(&self) -> bool {
        !self.writes.is_full()
    }

    fn takes_more_of(&self, peer: &Peer) -> bool {
        let quota = || self.guard.access.rights(peer.grant).quota;
        self.takes_more()
            && (self.writes.count() == 0 || self.writes.reached(peer.uid, quota()).is_none())
    }

    fn reload(&mut self, replies: &mut dyn Replies) {
        self.begin_reload(None, replies);
    }

    fn reloads(&self) -> Reloads {
        self.reloading.reloads
    }

    fn config_ready(&mut self, replies: &mut dyn Replies) {
        self.config_read(replies);
    }

    fn tier_ready(&mut self, number: u64, readiness: Readiness, replies: &mut dyn Replies) {
        if let Some(below) = &mut self.below {
            below.ready(number, readiness);
            self.land_all(replies);
        }
    }

    fn advance_tiers(&mut self, now: Instant, replies: &mut dyn Replies) -> Option<Instant> {
        self.note_unsettled();
        let due = self.below.as_mut()?.advance(now);
        // A job that a lost tier rejected, or whose deadline has passed, ends here; its waiters may
        // then submit another job.
        if self.land_all(replies) { Some(now) } else { due }
    }

    fn should_poll(&self, now: Instant) -> bool {
        self.below.as_ref().is_some_and(|below| below.should_poll(now))
    }

    fn is_idle(&self) -> bool {
        self.below.as_ref().is_none_or(|below| below.jobs() == 0)
    }

    fn turn(&mut self, now: Instant, replies: &mut dyn Replies) -> Option<Instant> {
        self.work_on_tasks(replies);
        if now.duration_since(self.clock_checked) >= CLOCK_CHECK {
            self.clock_checked = now;
            self.set_clock();
            self.look_at_clock();
            self.look_at_index();
            self.tables.look_at_room();
            self.settle_changing();
            self.take_sample(replies);
            crate::log::tell_left_out();
        }
        let mut next = self.clock_checked + CLOCK_CHECK;
        if let Some(due) = self.explain_without(now, replies) {
            next = next.min(due);
        }
        if let Some(pause) = self.go_on_moving(replies) {
            next = next.min(now + pause);
        }
        if let Some(due) = self.tables.prepare(now, self.served()) {
            next = next.min(due);
        }
        let now_ns = self.now_ns();
        if let Some(due_ns) = self.tables.current().next_sweep_ns() {
            let wait = Duration::from_nanos(due_ns.saturating_sub(now_ns));
            let more = wait.is_zero() && self.tables.sweep(now_ns, SWEEP_ENTRIES);
            next = next.min(if more { now } else { now + wait });
        }
        Some(if self.tasks.is_empty() { next } else { now })
    }

    fn turned(&mut self, took: Duration) {
        self.samples.turned(took);
    }
}
