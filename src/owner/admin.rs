//! The administrator's requests: answered in JSON, and in bounded steps if they take long.

use super::Owner;
use super::keys::Search;
use crate::advise::SIZES;
use crate::config::policy_json;
use crate::doors::{Origin, Replies};
use crate::table::CheckReport;
use l1d_wire::protocol::{ErrorCode, Response};
use serde_json::json;

/// Buckets that a task visits in one turn.
pub(super) const BUCKETS_PER_TURN: u32 = 512;

/// Work that spans several turns.
#[derive(Debug)]
pub(super) enum Task {
    Check {
        origin: Origin,
        next: u32,
        report: Box<CheckReport>,
    },
    FlushPrefix {
        origin: Origin,
        next: u32,
        prefix: Vec<u8>,
        below_version: u64,
        removed: u64,
        /// The table in force is done; its successor is being walked.
        in_successor: bool,
    },
    /// Looks for keys that stand out.
    Keys {
        origin: Origin,
        search: Box<Search>,
    },
    /// Another policy is coming into force: removes keys that now belong to another rule.
    WalkPolicy {
        next: u32,
        removed: u64,
        in_successor: bool,
    },
}

impl Task {
    /// Another table is in force.
    pub(super) fn restart(&mut self) {
        match self {
            Task::Check { next, report, .. } => {
                *next = 0;
                **report = CheckReport::default();
            }
            Task::Keys { search, .. } => search.restart(),
            Task::FlushPrefix { next, in_successor, .. }
            | Task::WalkPolicy { next, in_successor, .. } => {
                *next = 0;
                *in_successor = false;
            }
        }
    }

    /// Only `origin` waits for it. A flush continues even if its requester has gone.
    pub(super) fn is_for(&self, origin: Origin) -> bool {
        matches!(
            self,
            Task::Check { origin: asked, .. } | Task::Keys { origin: asked, .. }
                if *asked == origin
        )
    }
}

impl Owner {
    pub(super) fn check(&mut self, origin: Origin, replies: &mut dyn Replies) {
        self.queue(Task::Check { origin, next: 0, report: Box::default() }, origin, replies);
    }

    /// Queues a task for the client that is being served, unless too many wait already.
    pub(super) fn queue(&mut self, task: Task, origin: Origin, replies: &mut dyn Replies) {
        if let Err(message) = self.tasks.add(self.guard.peer.uid, task) {
            replies.reply(origin, &Response::Error { code: ErrorCode::Busy, message: &message });
        }
    }

    pub(super) fn flush(&mut self, prefix: &[u8], origin: Origin, replies: &mut dyn Replies) {
        self.loads.revoke_prefix(prefix);
        self.flights.kill_prefix(prefix);
        self.changes.flushed(prefix, self.boottime_ns(), self.author);
        if prefix.is_empty() {
            let entries = self.tables.current().stats().entries;
            self.tables.flush();
            return reply_json(origin, &json!({ "flushed": "all", "entries": entries }), replies);
        }
        let task = Task::FlushPrefix {
            origin,
            next: 0,
            prefix: prefix.to_vec(),
            below_version: self.tables.current().next_version(),
            removed: 0,
            in_successor: false,
        };
        self.queue(task, origin, replies);
    }

    /// Runs a step of the next task.
    pub(super) fn work_on_tasks(&mut self, replies: &mut dyn Replies) {
        let Some((uid, mut task)) = self.tasks.take() else { return };
        let finished = match &mut task {
            Task::Check { origin, next, report } => {
                match self.tables.check_buckets(*next, BUCKETS_PER_TURN, report) {
                    Some(bucket) => {
                        *next = bucket;
                        false
                    }
                    None => {
                        self.tables.finish_check(report);
                        reply_json(*origin, &report, replies);
                        true
                    }
                }
            }
            Task::FlushPrefix { origin, next, prefix, below_version, removed, in_successor } => {
                let more = if *in_successor {
                    let tables = &mut self.tables;
                    tables.flush_prefix_in_successor(
                        prefix,
                        *below_version,
                        *next,
                        BUCKETS_PER_TURN,
                    )
                } else {
                    let tables = &mut self.tables;
                    let step = tables.flush_prefix(prefix, *below_version, *next, BUCKETS_PER_TURN);
                    *removed += step.0;
                    if step.1.is_none() && tables.is_filling_successor() {
                        *in_successor = true;
                        Some(0)
                    } else {
                        step.1
                    }
                };
                if let Some(bucket) = more {
                    *next = bucket;
                    false
                } else {
                    let flushed = String::from_utf8_lossy(prefix).into_owned();
                    let answer = json!({ "flushed": flushed, "entries": removed });
                    reply_json(*origin, &answer, replies);
                    true
                }
            }
            Task::Keys { origin, search } => self.search_keys(*origin, search, replies),
            Task::WalkPolicy { next, removed, in_successor } => {
                let step = self.tables.walk_policy(*in_successor, *next, BUCKETS_PER_TURN);
                *removed += step.0;
                let more = match step.1 {
                    None if !*in_successor && self.tables.is_filling_successor() => {
                        *in_successor = true;
                        Some(0)
                    }
                    more => more,
                };
                if let Some(bucket) = more {
                    *next = bucket;
                } else {
                    self.policy_in_force(*removed, replies);
                }
                more.is_none()
            }
        };
        if finished {
            self.tasks.ended(uid);
        } else {
            self.tasks.put_back(uid, task);
        }
    }

    pub(super) fn advise(&mut self, origin: Origin, replies: &mut dyn Replies) {
        let advice = self.snapshot(replies).advice;
        let estimate = self.tables.estimate();
        let table_bytes = self.tables.file().bytes();
        let percents = |ratios: [f64; SIZES]| ratios.map(|ratio| ratio * 100.0);
        let policies = estimate.policies.iter().map(|(id, part, ratios)| {
            let prefix = self.policy.by_id(*id).map(|rule| String::from_utf8_lossy(&rule.prefix));
            json!({
                "id": id,
                "prefix": prefix,
                "reads_percent": part * 100.0,
                "hit_percent": ratios.map(percents),
            })
        });
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "sizes for people"
        )]
        let bytes = estimate.times.map(|times| (table_bytes as f64 * times) as u64);
        let answer = json!({
            "table_bytes": table_bytes,
            "advice": advice,
            "index_advice": self.index_advice(),
            "sampled_one_key_in": estimate.sampled_one_in,
            "sampled_reads": estimate.sampled_reads,
            "times": estimate.times,
            "bytes": bytes,
            "hit_percent": estimate.overall.map(percents),
            "policies": policies.collect::<Vec<_>>(),
        });
        reply_json(origin, &answer, replies);
    }

    pub(super) fn policy(&mut self, origin: Origin, replies: &mut dyn Replies) {
        reply_json(origin, &json!({ "rules": policy_json(&self.policy) }), replies);
    }
}

pub(super) fn reply_json(origin: Origin, value: &impl serde::Serialize, replies: &mut dyn Replies) {
    match serde_json::to_string(value) {
        Ok(text) => replies.reply(origin, &Response::Json(&text)),
        Err(error) => {
            let message = error.to_string();
            replies
                .reply(origin, &Response::Error { code: ErrorCode::Internal, message: &message });
        }
    }
}
