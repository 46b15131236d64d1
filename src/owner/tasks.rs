//! Work that spans several turns, a step in each, one task after the other: a walk over the table
//! relies on being the only one (`table/walk.rs`). Users take turns, and each has its share of the
//! places.

use super::admin::Task;
use crate::doors::Origin;

/// The most tasks that wait. Each walks the whole index.
const TASKS_MAX: usize = 32;
/// Of these, the most of one user. Root may have as many of its own, whatever others have.
const TASKS_OF_USER_MAX: usize = 8;

/// Tasks, and the users for whom they are.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// The next one first.
    waiting: Vec<(u32, Task)>,
}

impl Tasks {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a task for this user.
    ///
    /// # Errors
    /// Too many wait; the text says so.
    pub(super) fn add(&mut self, uid: u32, task: Task) -> Result<(), String> {
        let held = self.waiting.iter().filter(|(other, _)| *other == uid).count();
        let (all, most) = match uid {
            0 => (held, TASKS_MAX),
            _ => (self.waiting.len(), TASKS_OF_USER_MAX),
        };
        if held >= most || all >= TASKS_MAX {
            return Err(format!(
                "{all} flushes by prefix, checks and searches for keys wait already, {held} of them of \
                 user {uid}: try again when some have ended"
            ));
        }
        self.waiting.push((uid, task));
        Ok(())
    }

    /// Adds the daemon's own, which nobody can keep out.
    pub(super) fn add_own(&mut self, task: Task) {
        self.waiting.push((0, task));
    }

    /// Takes the next task out, for a step.
    pub(super) fn take(&mut self) -> Option<(u32, Task)> {
        (!self.waiting.is_empty()).then(|| self.waiting.remove(0))
    }

    /// The task that was taken out goes on with the next step.
    pub(super) fn put_back(&mut self, uid: u32, task: Task) {
        self.waiting.insert(0, (uid, task));
    }

    /// A task of this user has ended: those of others come first, each user's in their order.
    pub(super) fn ended(&mut self, uid: u32) {
        self.waiting.sort_by_key(|(other, _)| *other == uid);
    }

    /// Another table is in force.
    pub(super) fn restart(&mut self) {
        self.waiting.iter_mut().for_each(|(_, task)| task.restart());
    }

    /// A client has gone, and with it what only it waits for.
    pub(super) fn gone(&mut self, origin: Origin) {
        self.waiting.retain(|(_, task)| !task.is_for(origin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flush(origin: u64) -> Task {
        let (prefix, below_version) = (b"k".to_vec(), 0);
        let origin = Origin(origin);
        let (next, removed, in_successor) = (0, 0, false);
        Task::FlushPrefix { origin, next, prefix, below_version, removed, in_successor }
    }

    /// Two walks at once would each overlook what the other let a change move.
    #[test]
    fn a_walk_goes_on_to_its_end_before_the_next_one_begins() {
        let mut tasks = Tasks::default();
        for (uid, origin) in [(1, 10), (1, 11), (2, 20)] {
            tasks.add(uid, flush(origin)).unwrap();
        }
        let mut order = Vec::new();
        while let Some((uid, mut task)) = tasks.take() {
            let Task::FlushPrefix { origin, next, .. } = &mut task else { panic!("{task:?}") };
            order.push(origin.0);
            *next += 1;
            if *next < 3 {
                tasks.put_back(uid, task);
            } else {
                tasks.ended(uid);
            }
        }
        assert_eq!(order, [10, 10, 10, 20, 20, 20, 11, 11, 11]);
    }
}
