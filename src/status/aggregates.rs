//! The snapshot without what is only for readers.

use super::figures::Failure;
use l1d_wire::snapshot::{Snapshot, TierStats};

/// The snapshot without paths and without the words of tiers, which may name hosts and keys.
pub(super) fn aggregates(text: &str) -> Result<String, Failure> {
    let failed = |error: serde_json::Error| Failure::NoAnswer(error.to_string());
    let mut snapshot: Snapshot = serde_json::from_str(text).map_err(failed)?;
    snapshot.table_file.path.clear();
    if let Some(tiers) = &mut snapshot.tiers {
        tiers.l2.iter_mut().chain(&mut tiers.l3).for_each(conceal);
    }
    serde_json::to_string(&snapshot).map_err(failed)
}

fn conceal(tier: &mut TierStats) {
    let concealed = || "only shown on the status socket".to_owned();
    tier.lost_by = tier.lost_by.take().map(|_| concealed());
    tier.last_error = tier.last_error.take().map(|_| concealed());
}
