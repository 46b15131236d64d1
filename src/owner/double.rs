//! An owner with a real table, above tiers that whoever drives it plays: it sees the jobs, and
//! answers them when and as it likes.

use super::Owner;
use crate::doors::{Origin, Replies};
use crate::reactor::Readiness;
use crate::table::{FileOptions, Tables};
use crate::tiers::{Inherited, Job, Tier, TierEvent, Tiers};
use l1d_wire::policy::{PolicySet, Rule};
use l1d_wire::protocol::{Response, frame};
use l1d_wire::snapshot::TiersStats;
use rapidhash::RapidHashSet;
use shm_layout::Plan;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest life in its table.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A directory for a table.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// An owner of the table in a directory under these rules, and the script of its tiers.
pub fn owner(directory: &tempfile::TempDir, rules: Vec<Rule>) -> (Owner, Rc<RefCell<Script>>) {
    let plan =
        Plan { table_bytes: 5 << 20, value_bytes_max: 1000, entry_bytes: 112, ..Plan::default() };
    let tables = Tables::open(FileOptions {
        directory: directory.path().to_owned(),
        plan,
        mode: 0o600,
        group: None,
        policy: PolicySet::new(rules).unwrap(),
        keeps_index: false,
    })
    .unwrap();
    let script = Rc::new(RefCell::new(Script::default()));
    let tiers = Box::new(ScriptedTiers(Rc::clone(&script)));
    (Owner::new(tables, 1000, DAY, Some(tiers)), script)
}

/// Answers in the order in which they were sent.
#[derive(Default)]
pub struct Given(pub Vec<(Origin, Vec<u8>)>);

impl Replies for Given {
    fn reply(&mut self, origin: Origin, response: &Response<'_>) {
        let mut bytes = Vec::new();
        response.encode(&mut bytes).unwrap();
        self.0.push((origin, bytes.split_off(frame::HEADER_BYTES)));
    }

    fn reply_with_table(&mut self, origin: Origin, response: &Response<'_>, _: BorrowedFd<'_>) {
        self.reply(origin, response);
    }
}

/// Jobs that the tiers received, and events that they will report.
#[derive(Debug, Default)]
pub struct Script {
    pub jobs: VecDeque<Job>,
    pub events: VecDeque<TierEvent>,
    pub epoch: u64,
    /// Keys of changes that may still be carried out.
    pub sent: Vec<Arc<[u8]>>,
}

/// Tiers that follow the script.
#[derive(Debug)]
struct ScriptedTiers(Rc<RefCell<Script>>);

impl Tiers for ScriptedTiers {
    fn submit(&mut self, job: Job) -> Result<(), Job> {
        self.0.borrow_mut().jobs.push_back(job);
        Ok(())
    }

    fn ready(&mut self, _: u64, _: Readiness) {}

    fn advance(&mut self, _: Instant) -> Option<Instant> {
        None
    }

    fn next_event(&mut self) -> Option<TierEvent> {
        self.0.borrow_mut().events.pop_front()
    }

    fn should_poll(&self, _: Instant) -> bool {
        false
    }

    fn jobs(&self) -> usize {
        self.0.borrow().jobs.len()
    }

    fn has(&self, _: Tier) -> bool {
        true
    }

    fn available(&self, _: Tier) -> bool {
        true
    }

    /// Nobody says when there are none any more.
    fn has_open_changes(&self) -> bool {
        true
    }

    fn l3_session(&self) -> [u64; 2] {
        [0; 2]
    }

    fn take_over(&mut self, _: [u64; 2], _: Inherited) {}

    fn inherits(&self) -> bool {
        false
    }

    fn sent_changes(&self) -> RapidHashSet<Arc<[u8]>> {
        self.0.borrow().sent.iter().cloned().collect()
    }

    fn allow_l2_ttl(&mut self, _: Duration) {}

    fn epoch(&self, _: Tier) -> u64 {
        self.0.borrow().epoch
    }

    fn stats(&self) -> TiersStats {
        TiersStats::default()
    }
}
