//! Following the policy while the daemon changes it.

use super::{Patience, Shared};
use crate::process::Process;

/// Policies that a call follows which come into force one right after the other.
const POLICIES_FOLLOWED: usize = 4;

impl Shared {
    /// To be called where the policy is about to be used: if another one has come into force, gets
    /// it from the daemon. Returns whether this process has the policy in force; it has not if the
    /// daemon does not answer, or not yet.
    #[inline]
    pub(crate) fn follow_policy(&self, process: &Process, patience: Patience<'_>) -> bool {
        self.has_policy_in_force(process) || self.attach_for_policy(process, patience)
    }

    /// Without a table there is nothing to tell: the policy of the last connection holds.
    #[inline]
    fn has_policy_in_force(&self, process: &Process) -> bool {
        let table = self.attachments.current();
        table.is_none_or(|table| process.holds_policy_of(table.policy_epoch()))
    }

    /// The policy comes with every connection. One that was waited for is closed at once.
    #[cold]
    fn attach_for_policy(&self, process: &Process, patience: Patience<'_>) -> bool {
        let Some(deadline) = self.patience_for_attaching(patience) else {
            self.begin_attaching(process);
            return self.has_policy_in_force(process);
        };
        // While one is on its way, the next may come into force.
        for _ in 0..POLICIES_FOLLOWED {
            let has_come = process.attach_for_policy(
                || self.has_policy_in_force(process),
                || self.attach(process, &deadline, false).is_ok(),
            );
            if self.has_policy_in_force(process) {
                return true;
            }
            if !has_come || deadline.has_passed() {
                break;
            }
        }
        false
    }
}
