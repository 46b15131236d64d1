//! Sizes that follow the size of the table where they are not configured, so that a small table
//! needs no further settings.

use super::{Config, TableConfig};
use l1d_wire::policy::{PolicySet, Rule};
use shm_layout::{Geometry, LayoutError, Plan};

/// The smallest size that is accepted. A table has room for 64 of its largest entries, with keys of
/// 65,000 bytes, so that one of this size is made a little larger.
const SIZE_LEAST: u64 = 4 << 20;
/// The largest value of the smallest table.
const VALUE_BYTES_LEAST: u32 = 8 << 10;

/// The largest value of a table of this plan, if none is configured: the largest power of two up to
/// `most` that it can have.
pub(super) fn value_bytes_max(plan: &Plan, most: u32) -> u32 {
    let fits = |value_bytes_max: &u32| {
        let planned = Geometry::plan(&Plan { value_bytes_max: *value_bytes_max, ..*plan });
        let segment = planned.map(|geometry| geometry.identity().segment_bytes);
        // A configured segment is not enlarged.
        segment.is_ok_and(|bytes| plan.segment_bytes.is_none_or(|given| bytes <= given + 4096))
    };
    let sizes = std::iter::successors(Some(most), |bytes| Some(bytes / 2));
    let mut sizes = sizes.take_while(|bytes| *bytes > VALUE_BYTES_LEAST);
    sizes.find(fits).unwrap_or(VALUE_BYTES_LEAST)
}

/// The plan's size, or up to a quarter more where the smallest table needs it.
pub(super) fn table_bytes(plan: &Plan) -> u64 {
    let most = plan.table_bytes / 4 * 5;
    match Geometry::plan(plan) {
        Err(LayoutError::TableTooSmall { smallest, .. })
            if plan.table_bytes >= SIZE_LEAST && smallest <= most =>
        {
            smallest
        }
        _ => plan.table_bytes,
    }
}

/// Another size of the table is in force: its largest value follows, unless it is configured, and
/// so do the rules' limits. Those that rules set for themselves hold.
pub(super) fn follow(config: &mut Config) {
    if !config.table.value_follows_size {
        return;
    }
    let rules = config.policy.rules();
    let origins = &config.origins;
    let follows = |rule: &Rule| !origins.gives(&rule.prefix, "value_bytes_max");
    let own = rules.iter().filter(|rule| !follows(rule)).map(|rule| rule.value_bytes_max).max();
    let most = TableConfig::default().value_bytes_max;
    let plan = Plan { table_bytes: config.table.size, ..config.table.plan() };
    let now = value_bytes_max(&plan, most).max(own.unwrap_or(0));
    config.table.value_bytes_max = now;
    config.tiers.value_bytes_max = now as usize;
    let rules = rules.iter().cloned().map(|rule| match follows(&rule) {
        true => Rule { value_bytes_max: now, ..rule },
        false => rule,
    });
    if let Ok(policy) = PolicySet::new(rules.collect()) {
        config.policy = policy;
    }
}
