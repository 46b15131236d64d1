//! Work that spans several turns, a step in each: users take turns, and each has its share of the
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

    /// Has a task of this user gone on, when each of the others who wait has had a step.
    pub(super) fn put_back(&mut self, uid: u32, task: Task) {
        self.waiting.insert(0, (uid, task));
        self.rotate(uid);
    }

    /// This user has had a step: the tasks of others come first, each user's in their order.
    pub(super) fn rotate(&mut self, uid: u32) {
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
