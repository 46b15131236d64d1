//! The highest value of each counter that is an estimate.

use std::collections::HashMap;

/// Counters of hits are estimates, and clients' own words: they can fall a little, which a scraper
/// would take for a restart, and add the whole once more. So each shows the highest value so far.
#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<(&'static str, String), u64>);

impl Marks {
    /// The highest value so far of this metric and label.
    pub(super) fn raise(&mut self, metric: &'static str, label: &str, value: u64) -> u64 {
        let mark = self.0.entry((metric, label.to_owned())).or_default();
        *mark = value.max(*mark);
        *mark
    }

    /// Forgets the labels that are gone: what comes back begins with nothing.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|(_, label), _| is_there(label));
    }
}
