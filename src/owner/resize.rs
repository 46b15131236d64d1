//! Moves all entries to a table of another shape, while service continues.

use super::Owner;
use super::admin::reply_json;
use crate::doors::{Origin, Replies};
use crate::table::{MoveError, Step, Table};
use l1d_wire::protocol::{ErrorCode, Response};
use serde_json::json;
use shm_layout::{MappedMut, Plan};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Copying time per turn, which bounds the delay for other requests.
const STEP: Duration = Duration::from_micros(200);
/// How often to check whether the memory of the new table is cleared.
const PAUSE: Duration = Duration::from_millis(2);
/// The shortest time between two automatic rebuilds of the index.
const FIT_PAUSE: Duration = Duration::from_secs(600);
/// The pause after an attempt to renew the table's clock.
const RENEW_PAUSE: Duration = Duration::from_secs(600);

/// The moves, and the processes that have followed them.
#[derive(Debug, Default)]
pub(super) struct Resizing {
    /// When the move in progress began.
    began: Option<Instant>,
    /// The requester that waits for it.
    origin: Option<Origin>,
    /// Number of moves since the daemon started.
    pub(super) moves: u64,
    fits_index: bool,
    /// When the index was last rebuilt, or reported.
    fitted: Option<Instant>,
    /// When the table's clock was last about to be renewed.
    renewed: Option<Instant>,
    /// Entries that a full index had evicted when that was last reported.
    displaced: u64,
    /// The table that each connection was given, and its process.
    given: HashMap<Origin, (i32, u64)>,
    /// Bytes of the former tables.
    former: HashMap<u64, u64>,
}

impl Resizing {
    pub(super) fn attached(&mut self, origin: Origin, pid: i32, table: &Table<MappedMut>) {
        self.given.insert(origin, (pid, table.writer().geometry().identity().table_id));
    }

    pub(super) fn gone(&mut self, origin: Origin) {
        self.given.remove(&origin);
        if self.origin == Some(origin) {
            self.origin = None;
        }
    }

    /// The connected processes that have not yet asked for the current table, and the most bytes of
    /// former tables that they keep alive.
    pub(super) fn behind(&self, current: u64) -> (usize, u64) {
        let up_to_date: HashSet<i32> =
            self.given.values().filter(|given| given.1 == current).map(|given| given.0).collect();
        let behind = || self.given.values().filter(|given| !up_to_date.contains(&given.0));
        let processes: HashSet<i32> = behind().map(|given| given.0).collect();
        let tables: HashSet<u64> = behind().map(|given| given.1).collect();
        let bytes = tables.iter().filter_map(|table| self.former.get(table)).sum();
        (processes.len(), bytes)
    }
}

/// What to change if entries of this size fill the index.
fn advice_for(entry_bytes: u32) -> String {
    format!(
        "the index is full, so entries are evicted although the table has room: set \
         average_entry_bytes = {entry_bytes} or fit_index = true in [table], or run \
         l1ctl resize --fit-index"
    )
}

impl Owner {
    /// Whether the table moves by itself to one with a better index when its entries turn out to be
    /// of another size than planned.
    pub fn fit_index(&mut self, yes: bool) {
        self.resizing.fits_index = yes;
    }

    pub(super) fn resize(
        &mut self,
        origin: Origin,
        (table_bytes, entry_bytes): (Option<u64>, Option<u32>),
        replies: &mut dyn Replies,
    ) {
        let refuse = |message: &str, replies: &mut dyn Replies| {
            replies.reply(origin, &Response::Error { code: ErrorCode::Refused, message });
        };
        let plan = self.tables.plan();
        let entry_bytes = match entry_bytes {
            None => plan.entry_bytes,
            Some(0) => match self.tables.current().mean_entry_bytes() {
                Some(bytes) => bytes,
                None => {
                    let message = "the table has no entries to plan an index for; give their size \
                                   with --average-entry-bytes, or try again when it has some";
                    return refuse(message, replies);
                }
            },
            Some(bytes) => bytes,
        };
        let table_bytes = table_bytes.unwrap_or(plan.table_bytes);
        match self.tables.begin_move(&Plan { table_bytes, entry_bytes, ..plan }) {
            Ok(()) => {
                self.resizing.origin = Some(origin);
                self.resizing.began = Some(Instant::now());
                tracing::info!(table_bytes, entry_bytes, "the table begins to move");
            }
            Err(error) => refuse(&error.to_string(), replies),
        }
    }

    /// Begins to move to a table with a new clock, long before the clock of this one ends.
    pub(super) fn look_at_clock(&mut self) {
        let lately = self.resizing.renewed.is_some_and(|renewed| renewed.elapsed() < RENEW_PAUSE);
        if lately || self.tables.progress().is_some() {
            return;
        }
        match self.tables.renew_clock(self.now_ns()) {
            Ok(false) => return,
            Ok(true) => {
                self.resizing.began = Some(Instant::now());
                tracing::info!(
                    "half of the table's clock is over: it moves to a table with a new one"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the table's clock cannot be renewed yet; trying again");
            }
        }
        self.resizing.renewed = Some(Instant::now());
    }

    /// If the index is full, so that entries are lost: what to change.
    pub(super) fn index_advice(&self) -> Option<String> {
        let table = self.tables.current();
        let loses = table.stats().displaced > 0;
        table.misfit().filter(|_| loses).map(advice_for)
    }

    /// Begins to rebuild an unsuitable index, if enabled; otherwise says what it costs.
    pub(super) fn look_at_index(&mut self) {
        let lately = self.resizing.fitted.is_some_and(|fitted| fitted.elapsed() < FIT_PAUSE);
        if lately || self.tables.progress().is_some() {
            return;
        }
        let Some(entry_bytes) = self.tables.current().misfit() else { return };
        if !self.resizing.fits_index {
            let stats = self.tables.current().stats();
            if stats.displaced > self.resizing.displaced {
                self.resizing.fitted = Some(Instant::now());
                self.resizing.displaced = stats.displaced;
                let advice = advice_for(entry_bytes);
                let (evicted, free_bytes) = (stats.displaced, stats.free_bytes);
                tracing::warn!(evicted, free_bytes, "{advice}");
            }
            return;
        }
        self.resizing.fitted = Some(Instant::now());
        match self.tables.begin_move(&Plan { entry_bytes, ..self.tables.plan() }) {
            Ok(()) => {
                self.resizing.began = self.resizing.fitted;
                tracing::info!(
                    entry_bytes,
                    "the index does not suit the entries: they begin to move to a table with a \
                     better one"
                );
            }
            Err(MoveError::SameShape { .. }) => {}
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the index does not suit the entries, and they cannot move to a better one; \
                     trying again later"
                );
            }
        }
    }

    /// Runs a step of the move. Returns the pause until the next one, if there is one.
    pub(super) fn go_on_moving(&mut self, replies: &mut dyn Replies) -> Option<Duration> {
        let identity = *self.tables.current().writer().geometry().identity();
        let result = match self.tables.step(self.now_ns(), STEP) {
            Step::Idle => return None,
            Step::Waiting => return Some(PAUSE),
            Step::More => return Some(Duration::ZERO),
            Step::Ended(result) => result,
        };
        let took = self.resizing.began.take().map(|began| began.elapsed());
        let origin = self.resizing.origin.take();
        if let Err(error) = result {
            tracing::warn!(%error, "the table stays as it is: it could not move");
            if let Some(origin) = origin {
                let message = error.to_string();
                let code = ErrorCode::Refused;
                replies.reply(origin, &Response::Error { code, message: &message });
            }
            return None;
        }
        self.resizing.moves += 1;
        self.resizing.former.insert(identity.table_id, identity.table_bytes);
        let given: HashSet<u64> = self.resizing.given.values().map(|given| given.1).collect();
        self.resizing.former.retain(|table, _| given.contains(table));
        // Tasks that were walking the old table start again in this one.
        self.tasks.restart();
        let stats = self.tables.current().stats();
        tracing::info!(
            bytes = stats.table_bytes,
            entries = stats.entries,
            took_ms = took.and_then(|took| u64::try_from(took.as_millis()).ok()),
            "the table has moved"
        );
        if let Some(origin) = origin {
            let answer = json!({
                "table_bytes": stats.table_bytes,
                "index_bytes": stats.index_bytes,
                "entries": stats.entries,
                "live_bytes": stats.live_bytes,
                "seconds": took.map(|took| took.as_secs_f64()),
            });
            reply_json(origin, &answer, replies);
        }
        None
    }
}
