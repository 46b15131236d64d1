//! What to change, in sentences: each only if the figures bear it.

use super::Estimate;
use crate::config::show_size;
use l1d_wire::snapshot::{Advice, PolicyFigures, Snapshot};

/// Points of hit ratio that twice the memory must bring.
const MORE_POINTS: f64 = 2.0;
/// Points of hit ratio that half the memory may cost.
const LESS_POINTS: f64 = 0.5;
/// A table that has room to spare after this long will not need it.
const LONG_SECONDS: u64 = 24 * 3600;
/// A table has room to spare while less of it than this is live.
const SPARE_PERCENT: u64 = 25;
/// A rule takes much of the table from this part on, in percent.
const SHARE_PERCENT: f64 = 50.0;
/// It brings few hits up to this part of them, in percent.
const HITS_PERCENT: f64 = 5.0;
/// Hits from which on their distribution over the rules means something.
const HITS_MIN: u64 = 10_000;

/// What to change about the table of this snapshot.
#[must_use]
pub fn advice(snapshot: &Snapshot, estimate: &Estimate) -> Vec<Advice> {
    let index = snapshot.index_advice.as_ref().map(|sentence| {
        let entry_bytes = snapshot.moves.index_suits_entry_bytes.map(f64::from);
        let figures = entry_bytes.map(|bytes| ("average_entry_bytes", bytes));
        advise("index", capitalised(sentence) + ".", figures)
    });
    let shares = snapshot.policies.iter().filter_map(|rule| share_max(snapshot, rule));
    memory(snapshot, estimate).into_iter().chain(shares).chain(index).collect()
}

fn advise(
    kind: &str,
    sentence: String,
    figures: impl IntoIterator<Item = (&'static str, f64)>,
) -> Advice {
    let figures = figures.into_iter().map(|(name, figure)| (name.to_owned(), figure));
    Advice { kind: kind.to_owned(), sentence, figures: figures.collect() }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// More memory, or less.
fn memory(snapshot: &Snapshot, estimate: &Estimate) -> Option<Advice> {
    let [half, own, twice, _] = estimate.overall?.map(|ratio| ratio * 100.0);
    let table = &snapshot.table;
    let size = |halves: u64| show_size(table.table_bytes / 2 * halves);
    let is_full = !table.is_filling;
    if is_full && twice - own >= MORE_POINTS {
        let sentence = format!(
            "Twice the memory would bring {twice:.1} % hits instead of {own:.1} %: \
             l1ctl resize {0}, and the same size in [table].",
            size(4)
        );
        return Some(advise(
            "more-memory",
            sentence,
            [("hit_percent", own), ("hit_percent_with_twice", twice)],
        ));
    }
    let has_room = table.live_bytes < table.log_bytes / 100 * SPARE_PERCENT
        && snapshot.daemon.uptime_seconds >= LONG_SECONDS;
    ((is_full || has_room) && own > 0.0 && own - half <= LESS_POINTS).then(|| {
        let sentence = format!(
            "Half the memory would do: {half:.1} % hits instead of {own:.1} %; \
             l1ctl resize {0}, and the same size in [table].",
            size(1)
        );
        advise("less-memory", sentence, [("hit_percent", own), ("hit_percent_with_half", half)])
    })
}

/// A rule that takes others' room and brings little.
fn share_max(snapshot: &Snapshot, rule: &PolicyFigures) -> Option<Advice> {
    let hits: u64 = snapshot.policies.iter().map(|rule| rule.hits).sum();
    let part = l1d_wire::snapshot::percent(rule.hits, hits)?;
    let is_limited = rule.share_max_percent.is_some_and(|most| most < SHARE_PERCENT);
    let others_leave = snapshot.table.evicted > snapshot.table.evicted_over_share;
    let takes_much = rule.share_percent >= SHARE_PERCENT && part <= HITS_PERCENT;
    if !takes_much || is_limited || !others_leave || hits < HITS_MIN {
        return None;
    }
    let whose = if rule.prefix.is_empty() {
        "[defaults], for keys without another rule,".to_owned()
    } else {
        format!("`{}`", rule.prefix)
    };
    // A quarter of what it takes, in steps that people write.
    let most = (rule.share_percent / 4.0 / 5.0).round() * 5.0;
    let sentence = format!(
        "{whose} takes {:.1} % of the table at {part:.1} % of the hits: set share_max, \
         for example share_max = \"{most:.0}%\".",
        rule.share_percent
    );
    Some(advise(
        "share-max",
        sentence,
        [
            ("share_percent", rule.share_percent),
            ("hits_percent", part),
            ("share_max_percent", most),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(percents: [f64; 4]) -> Estimate {
        Estimate {
            sampled_one_in: 1,
            sampled_reads: 1000,
            times: [0.5, 1.0, 2.0, 4.0],
            overall: Some(percents.map(|percent| percent / 100.0)),
            policies: Vec::new(),
        }
    }

    fn full() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.table.table_bytes = 1 << 30;
        snapshot.table.log_bytes = 1 << 30;
        snapshot.table.live_bytes = 900 << 20;
        snapshot.table.evicted = 1000;
        snapshot
    }

    fn kinds(snapshot: &Snapshot, percents: [f64; 4]) -> Vec<String> {
        advice(snapshot, &estimate(percents)).into_iter().map(|advice| advice.kind).collect()
    }

    #[test]
    fn memory_is_advised_only_where_it_changes_something() {
        let told = &advice(&full(), &estimate([55.0, 63.0, 71.0, 80.0]))[0];
        assert_eq!(
            told.sentence,
            "Twice the memory would bring 71.0 % hits instead of 63.0 %: l1ctl resize 2GiB, and \
             the same size in [table]."
        );
        assert!((told.figures["hit_percent_with_twice"] - 71.0).abs() < 1e-6);
        assert_eq!(kinds(&full(), [55.0, 63.0, 64.9, 90.0]), [""; 0]);
        let told = &advice(&full(), &estimate([62.6, 63.0, 63.1, 63.2]))[0];
        assert!(told.sentence.starts_with("Half the memory would do: 62.6 % hits"), "{told:?}");
        assert!(told.sentence.contains("l1ctl resize 512MiB"), "{told:?}");
        assert_eq!(kinds(&full(), [62.4, 63.0, 63.1, 63.2]), [""; 0]);
        // Nobody reads, or too few reads are known.
        assert_eq!(kinds(&full(), [0.0; 4]), [""; 0]);
        let unknown = Estimate { overall: None, ..estimate([0.0; 4]) };
        assert_eq!(advice(&full(), &unknown), []);
        // A table with room: more would not help, and less only if it has had time to fill.
        let mut filling = full();
        filling.table.is_filling = true;
        filling.table.live_bytes = 200 << 20;
        assert_eq!(kinds(&filling, [55.0, 63.0, 71.0, 80.0]), [""; 0]);
        assert_eq!(kinds(&filling, [63.0; 4]), [""; 0]);
        filling.daemon.uptime_seconds = LONG_SECONDS;
        assert_eq!(kinds(&filling, [63.0; 4]), ["less-memory"]);
        filling.table.live_bytes = 300 << 20;
        assert_eq!(kinds(&filling, [63.0; 4]), [""; 0]);
    }

    #[test]
    fn a_share_is_advised_only_for_a_rule_that_takes_much_and_brings_little() {
        let rule = |prefix: &str, share_percent, hits| PolicyFigures {
            prefix: prefix.to_owned(),
            share_percent,
            hits,
            ..PolicyFigures::default()
        };
        let mut snapshot = full();
        snapshot.policies = vec![rule("", 10.0, 98_000), rule("market:", 80.0, 2000)];
        let told = advice(&snapshot, &estimate([50.0, 60.0, 61.0, 62.0]));
        assert_eq!(
            told[0].sentence,
            "`market:` takes 80.0 % of the table at 2.0 % of the hits: set share_max, for example \
             share_max = \"20%\"."
        );
        let share = ["share-max"].as_slice();
        type Change = fn(&mut Snapshot);
        let changes: [(&[&str], Change); 8] = [
            (&[], |s| s.policies[1].share_percent = 49.0),
            (share, |s| s.policies[1].share_percent = 50.0),
            (&[], |s| s.policies[1].hits = 6000),
            (&[], |s| s.policies[1].share_max_percent = Some(40.0)),
            (share, |s| s.policies[1].share_max_percent = Some(100.0)),
            (&[], |s| s.table.evicted = 0),
            (&[], |s| s.table.evicted_over_share = 1000),
            (&[], |s| s.policies[0].hits = 7000),
        ];
        for (number, (expected, change)) in changes.into_iter().enumerate() {
            let mut changed = snapshot.clone();
            change(&mut changed);
            assert_eq!(kinds(&changed, [50.0, 60.0, 61.0, 62.0]), expected, "{number}");
        }
    }

    #[test]
    fn an_index_that_costs_entries_is_advised_with_its_figure() {
        let mut snapshot = full();
        assert_eq!(kinds(&snapshot, [50.0, 60.0, 61.0, 62.0]), [""; 0]);
        snapshot.index_advice = Some("set average_entry_bytes = 64".to_owned());
        snapshot.moves.index_suits_entry_bytes = Some(64);
        let told = &advice(&snapshot, &estimate([50.0, 60.0, 61.0, 62.0]))[0];
        assert!((told.figures["average_entry_bytes"] - 64.0).abs() < 1e-6, "{told:?}");
        assert!(told.sentence.contains("average_entry_bytes = 64"), "{told:?}");
    }
}
