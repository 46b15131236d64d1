//! What was to be reached, and how it is read out of the documents of experiments.

use super::Outcome;
use crate::statistics::Spread;
use serde_json::Value;

/// Something to be reached.
#[derive(Debug)]
pub struct Goal {
    /// Its name, by which evidence is found.
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    /// The experiment that shows it.
    pub experiment: &'static str,
    /// The greatest figure that is good.
    at_most: f64,
    /// Finds the figure in the experiment's document.
    find: fn(&Value) -> Option<Spread>,
    /// Finds what the figure is to lie within where it is too large: the limit's own spread.
    within: Option<fn(&Value) -> Option<bool>>,
}

/// What became of a goal.
#[derive(Debug)]
pub enum Verdict {
    /// Reached.
    Met(Spread),
    /// Not below the bound, but inside what the limit itself came to in this run.
    WithinSpread(Spread),
    /// Not reached.
    Missed(Spread),
    /// There is no such figure.
    NotMeasured,
}

impl Goal {
    /// As bound and figure are shown: the other way round where the figure is a share that is to be
    /// large.
    pub fn bound(&self) -> f64 {
        self.at_most
    }

    /// What these experiments say of it.
    pub fn verdict(&self, outcomes: &[Outcome]) -> Verdict {
        let outcome = outcomes.iter().find(|outcome| outcome.experiment.name == self.experiment);
        let Some((document, _)) = outcome.and_then(|outcome| outcome.result.as_ref().ok()) else {
            return Verdict::NotMeasured;
        };
        match (self.find)(document) {
            None => Verdict::NotMeasured,
            Some(figure) if figure.median <= self.at_most => Verdict::Met(figure),
            Some(figure) => match self.within.and_then(|within| within(document)) {
                Some(true) => Verdict::WithinSpread(figure),
                _ => Verdict::Missed(figure),
            },
        }
    }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn numbers(value: &Value, name: &str) -> Vec<f64> {
    list(value, name).iter().filter_map(Value::as_f64).collect()
}

fn spread(figures: Vec<f64>) -> Option<Spread> {
    (!figures.is_empty()).then(|| Spread::of(figures))
}

/// A spread as documents have it.
fn written(value: &Value) -> Option<Spread> {
    let figure = |name| value.get(name)?.as_f64();
    Some(Spread { median: figure("median")?, min: figure("min")?, max: figure("max")? })
}

fn is(value: &Value, name: &str, text: &str) -> bool {
    value.get(name).and_then(Value::as_str) == Some(text)
}

/// ns of a contestant that reads hits.
fn hits(document: &Value, workload: &str, chain: &str, name: &str) -> Option<Vec<f64>> {
    let run = list(document, "runs").iter().find(|run| is(run, "workload", workload))?;
    let entrant = list(run, "entrants").iter().find(|entrant| is(entrant, "name", name))?;
    let ns = numbers(entrant, &format!("{chain}_ns"));
    (!ns.is_empty()).then_some(ns)
}

const L1D: &str = "l1d peek_into";

fn ratio_to(document: &Value, workload: &str, chain: &str, to: &str) -> Option<Spread> {
    let own = hits(document, workload, chain, L1D)?;
    spread(own.iter().zip(hits(document, workload, chain, to)?).map(|(a, b)| a / b).collect())
}

fn is_within_limit(document: &Value, workload: &str) -> Option<bool> {
    let own = Spread::of(hits(document, workload, "dependent", L1D)?);
    let limit = Spread::of(hits(document, workload, "dependent", "limit")?);
    Some((limit.min..=limit.max).contains(&own.median))
}

/// The median of l1d, times the fastest rival's.
fn to_fastest(document: &Value, workload: &str) -> Option<Spread> {
    let run = list(document, "runs").iter().find(|run| is(run, "workload", workload))?;
    let rivals = list(run, "entrants")
        .iter()
        .filter(|entrant| !is(entrant, "name", "limit") && !is(entrant, "name", L1D));
    let own = Spread::of(hits(document, workload, "dependent", L1D)?).median;
    let all = rivals.map(|rival| Spread::of(numbers(rival, "dependent_ns")).median);
    let least = all.fold(f64::INFINITY, f64::min);
    least.is_finite().then(|| one(own / least))
}

const fn one(figure: f64) -> Spread {
    Spread { median: figure, min: figure, max: figure }
}

/// The limit's scaling, times l1d's: the worst of all kinds of reads.
fn scaling(document: &Value) -> Option<Spread> {
    let mut worst: Option<Spread> = None;
    for run in list(document, "runs") {
        for limit in list(run, "scaling").iter().filter(|row| is(row, "name", "limit")) {
            let chain = limit.get("chain")?.as_str()?;
            let own = list(run, "scaling")
                .iter()
                .find(|row| is(row, "name", L1D) && is(row, "chain", chain))?;
            let pairs = numbers(limit, "scaling").into_iter().zip(numbers(own, "scaling"));
            let found = spread(pairs.map(|(limit, own)| limit / own).collect())?;
            if worst.is_none_or(|worst| found.median > worst.median) {
                worst = Some(found);
            }
        }
    }
    worst
}

/// The same of two readers on one key.
fn hot_scaling(document: &Value) -> Option<Spread> {
    let row = list(document, "scaling").iter().find(|row| {
        is(row, "contestant", L1D) && row.get("readers").and_then(Value::as_u64) == Some(2)
    })?;
    spread(numbers(row, "to_limit").into_iter().map(|times| 1.0 / times).collect())
}

/// The greatest number of times that a daemon's threads were woken in a second.
fn wakeups(document: &Value) -> Option<Spread> {
    let all = list(document, "rows").iter().filter(|row| is(row, "thread", "all"));
    let figures = all.filter_map(|row| row.get("wakeups_per_second")?.as_f64());
    figures.reduce(f64::max).map(one)
}

/// The ratio of a row of `costs` to the limit with the key's hash.
fn cost(document: &Value, step: &str) -> Option<Spread> {
    let row = list(document, "rows")
        .iter()
        .find(|row| is(row, "workload", "10k-zipf") && is(row, "step", step))?;
    spread(numbers(row, "independent_hashed_ratio"))
}

/// The ratio of a row of the cases, or of hot keys.
fn row(document: &Value, wanted: &[(&str, &str)]) -> Option<Spread> {
    let row = list(document, "rows")
        .iter()
        .find(|row| wanted.iter().all(|(name, text)| is(row, name, text)))?;
    spread(numbers(row, "ratio"))
}

fn case(document: &Value, case: &str, chain: &str, who: &str, to: &str) -> Option<Spread> {
    row(document, &[("case", case), ("chain", chain), ("contestant", who), ("yardstick", to)])
}

fn line<'a>(document: &'a Value, name: &str, text: &str) -> Option<&'a Value> {
    list(document, "lines").iter().find(|line| is(line, name, text))
}

fn set_ns(document: &Value, figure: &str) -> Option<Spread> {
    written(line(document, "figure", figure)?.get("ns")?)
}

fn set_times(document: &Value, figure: &str) -> Option<Spread> {
    written(line(document, "figure", figure)?.get("times_limit")?)
}

fn number(document: &Value, path: &str) -> Option<Spread> {
    document.pointer(path)?.as_f64().map(one)
}

/// A contestant's mean of object hit ratios.
fn mean(document: &Value, name: &str, figure: &str) -> Option<f64> {
    let means = document.pointer("/object_hits/means")?.as_array()?;
    means.iter().find(|mean| is(mean, "name", name))?.get(figure)?.as_f64()
}

/// The best rival's mean hit ratio, times l1d's.
fn best_rival(document: &Value) -> Option<Spread> {
    let means = document.pointer("/object_hits/means")?.as_array()?;
    let rivals =
        means.iter().filter(|mean| !is(mean, "name", "l1d") && !is(mean, "name", "optimum"));
    let best = rivals.filter_map(|mean| mean.get("hit_percent")?.as_f64()).fold(0.0, f64::max);
    Some(one(best / mean(document, "l1d", "hit_percent")?))
}

/// The greatest of a figure over all points of `copied`.
fn greatest(document: &Value, figure: &str) -> Option<Spread> {
    let points = list(document, "points");
    let most = points.iter().filter_map(|point| point.get(figure)?.as_f64()).reduce(f64::max)?;
    Some(one(most))
}

macro_rules! goal {
    ($name:literal, $what:literal, $experiment:literal, $at_most:expr, $find:expr) => {
        goal!($name, $what, $experiment, $at_most, $find, None)
    };
    ($name:literal, $what:literal, $experiment:literal, $at_most:expr, $find:expr, $within:expr) => {
        Goal {
            name: $name,
            what: $what,
            experiment: $experiment,
            at_most: $at_most,
            find: $find,
            within: $within,
        }
    };
}

/// All of them.
pub const GOALS: &[Goal] = &[
    goal!(
        "hit-10k",
        "hit, dependent, 10k zipf, times the limit",
        "read",
        1.6,
        |d| { ratio_to(d, "10k-zipf", "dependent", "limit") },
        Some(|d| is_within_limit(d, "10k-zipf"))
    ),
    goal!(
        "hit-1M",
        "hit, dependent, 1M uniform, times the limit",
        "read",
        1.05,
        |d| { ratio_to(d, "1M-uniform", "dependent", "limit") },
        Some(|d| is_within_limit(d, "1M-uniform"))
    ),
    goal!(
        "hit-5M",
        "hit, dependent, 5M uniform, times the limit",
        "read-5M",
        1.05,
        |d| { ratio_to(d, "5M-uniform", "dependent", "limit") },
        Some(|d| is_within_limit(d, "5M-uniform"))
    ),
    goal!("rivals-10k", "hit, dependent, 10k zipf, times quick_cache", "read", 1.0, |d| {
        ratio_to(d, "10k-zipf", "dependent", "quick_cache")
    }),
    goal!("rivals-1M", "hit, dependent, 1M uniform, times the fastest rival", "read", 1.0, |d| {
        to_fastest(d, "1M-uniform")
    }),
    goal!(
        "rivals-5M",
        "hit, dependent, 5M uniform, times the fastest rival",
        "read-5M",
        1.0,
        |d| { to_fastest(d, "5M-uniform") }
    ),
    goal!(
        "independent",
        "hit, independent, 10k zipf, without expiry, times the limit with hash",
        "costs",
        2.0,
        |d| { cost(d, "l1d peek_into, entries without expiry") }
    ),
    goal!("independent-expiry", "the same with expiry", "costs", 2.7, |d| cost(d, L1D)),
    goal!(
        "scaling",
        "two readers: the limit's scaling, times l1d's, worst case",
        "read",
        1.0 / 0.95,
        scaling
    ),
    goal!(
        "scaling-hot",
        "two readers of one key: the limit's scaling, times l1d's",
        "hot-key",
        1.0 / 0.95,
        hot_scaling
    ),
    goal!(
        "written",
        "reader alone, owner sets 100,000 a second, times without",
        "written-keys",
        1.1,
        |d| {
            row(
                d,
                &[
                    ("case", "written"),
                    ("contestant", "l1d table, owner alone"),
                    ("yardstick", "quiet"),
                ],
            )
        }
    ),
    goal!("miss", "miss, 1M, times quick_cache's", "cases", 1.0, |d| {
        case(d, "miss", "independent", L1D, "quick_cache")
    }),
    goal!("batch", "get_many_into of 16, 1M, per key, times the limit's", "cases", 1.2, |d| {
        case(d, "batch", "independent", "l1d get_many_into", "limit")
    }),
    goal!("copy-1KiB", "1 KiB read, times memcpy from a known place", "cases", 1.05, |d| {
        case(d, "copy 1 KiB", "dependent", L1D, "memcpy")
    }),
    goal!("copy-16KiB", "16 KiB read, times memcpy from a known place", "cases", 1.05, |d| {
        case(d, "copy 16 KiB", "dependent", L1D, "memcpy")
    }),
    goal!("in-place", "8 bytes of 16 KiB in place, times quick_cache's Arc", "cases", 1.5, |d| {
        case(d, "in-place", "dependent", "l1d read_with", "quick_cache")
    }),
    goal!("decoded", "decoded object of 16 KiB, times quick_cache's Arc", "cases", 1.5, |d| {
        case(d, "decoded", "dependent", "l1d decoded", "quick_cache")
    }),
    goal!("set-awake", "set acknowledged, daemon awake, ns", "write", 1000.0, |d| set_ns(
        d,
        "set_awake"
    )),
    goal!(
        "set-asleep",
        "set acknowledged, daemon asleep, times a futex round trip",
        "write",
        1.2,
        |d| { set_times(d, "set_asleep") }
    ),
    goal!(
        "set-no-wait",
        "set not waited for, sustained, ns (5 million a second)",
        "write",
        200.0,
        |d| { set_ns(d, "set_no_wait") }
    ),
    goal!(
        "visibility",
        "visible, times spin round trip + 2 owner's sets",
        "visibility",
        1.0,
        |d| { set_times(d, "visibility") }
    ),
    goal!("idle", "daemon idle, % of a core", "idle", 0.1, |d| {
        let all = list(d, "rows").iter().filter(|row| is(row, "thread", "all"));
        spread(all.filter_map(|row| row.get("cpu_percent")?.as_f64()).collect())
    }),
    // Its timer ticks once a second: 21 times at most within 20 s.
    goal!("idle-wake-ups", "daemon idle, wake-ups a second (its timer: 1)", "idle", 1.05, wakeups),
    goal!("hit-ratio", "best rival's mean hit ratio, times l1d's", "hit-ratio", 1.0, best_rival),
    goal!(
        "hit-ratio-gap",
        "mean gap to the best rival of each point, points",
        "hit-ratio",
        2.0,
        |d| { number(d, "/object_hits/gap_mean") }
    ),
    goal!("hit-ratio-gap-max", "greatest gap, points", "hit-ratio", 8.0, |d| {
        number(d, "/object_hits/gap_max")
    }),
    goal!(
        "optimum",
        "part of the offline optimum that is missed (0.17: a fraction of 0.83)",
        "hit-ratio",
        0.17,
        |d| { Some(one(1.0 - mean(d, "l1d", "of_optimum")?)) }
    ),
    goal!("advise", "greatest error of an estimate, points", "advise", 2.0, |d| number(
        d,
        "/greatest_error"
    )),
    goal!("bytes", "bytes beyond key and value", "bytes", 40.0, |d| number(
        d,
        "/overhead_bytes_per_entry"
    )),
    goal!(
        "dead",
        "most of the log that was dead when a live entry was evicted, %",
        "copied",
        35.0,
        |d| { greatest(d, "dead_percent_at_eviction") }
    ),
    goal!("copied", "bytes copied for each byte overwritten, at most", "copied", 1.0, |d| {
        greatest(d, "copied_per_byte")
    }),
    goal!("turn", "longest turn with a million expirations, ms", "turns", 2.0, |d| {
        let turn =
            written(line(d, "experiment", "full load, expirations")?.get("longest_turn_us")?)?;
        Some(Spread { median: turn.median / 1e3, min: turn.min / 1e3, max: turn.max / 1e3 })
    }),
    goal!("resize", "a reader's p99 while 1 GiB moves, times before", "turns", 2.0, |d| {
        let lines = list(d, "lines").iter();
        let mut found = lines.filter_map(|line| written(line.get("reader_p99_times_before")?));
        found.rfind(|times| times.median > 0.0)
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcomes(document: Value) -> Vec<Outcome> {
        super::super::experiments::EXPERIMENTS
            .iter()
            .map(|experiment| Outcome { experiment, result: Ok((document.clone(), String::new())) })
            .collect()
    }

    fn goal(name: &str) -> &'static Goal {
        GOALS.iter().find(|goal| goal.name == name).expect("a goal of this name")
    }

    #[test]
    fn every_goal_is_of_an_experiment_and_stands_where_nothing_is_known() {
        let nothing = [json!({}), json!(null), json!({"runs": 1, "rows": [{}], "lines": [null]})];
        for goal in GOALS {
            let known = super::super::experiments::EXPERIMENTS;
            assert!(known.iter().any(|one| one.name == goal.experiment), "{}", goal.name);
            for document in &nothing {
                let verdict = goal.verdict(&outcomes(document.clone()));
                assert!(matches!(verdict, Verdict::NotMeasured), "{}: {verdict:?}", goal.name);
            }
            assert!(matches!(goal.verdict(&[]), Verdict::NotMeasured));
        }
    }

    #[test]
    fn what_bounds_each_goal_of_speed_is_known() {
        let evidence = include_str!("../../evidence.md");
        let of_speed = [
            "read",
            "read-5M",
            "costs",
            "cases",
            "hot-key",
            "written-keys",
            "write",
            "visibility",
            "idle",
        ];
        for goal in GOALS.iter().filter(|goal| of_speed.contains(&goal.experiment)) {
            assert!(evidence.contains(&format!("\n## {}\n", goal.name)), "{}", goal.name);
        }
    }

    #[test]
    fn a_hit_is_compared_round_by_round_and_with_the_limits_own_spread() {
        let document = |own: [f64; 3]| {
            json!({"runs": [{"workload": "1M-uniform", "entrants": [
                {"name": "limit", "dependent_ns": [100.0, 110.0, 200.0]},
                {"name": "l1d peek_into", "dependent_ns": own},
                {"name": "lmdb", "dependent_ns": [300.0, 300.0, 300.0]},
            ]}]})
        };
        let verdict = |name: &str, own| goal(name).verdict(&outcomes(document(own)));
        assert!(matches!(verdict("hit-1M", [101.0, 111.0, 202.0]), Verdict::Met(_)));
        assert!(matches!(verdict("hit-1M", [150.0, 165.0, 300.0]), Verdict::WithinSpread(_)));
        assert!(matches!(verdict("hit-1M", [250.0, 250.0, 300.0]), Verdict::Missed(_)));
        assert!(matches!(verdict("rivals-1M", [250.0, 250.0, 300.0]), Verdict::Met(_)));
        assert!(matches!(verdict("rivals-1M", [350.0, 350.0, 350.0]), Verdict::Missed(_)));
    }

    #[test]
    fn two_readers_of_one_key_are_judged_by_the_limits_scaling() {
        let document = |to_limit: f64| {
            let row = |readers: u64, contestant: &str, to_limit: f64| json!({"readers": readers, "contestant": contestant, "to_limit": [to_limit, to_limit]});
            json!({"scaling": [
                row(2, "limit", 1.0),
                row(3, "l1d peek_into", 0.1),
                row(2, "quick_cache", 0.1),
                row(2, "l1d peek_into", to_limit),
            ]})
        };
        let verdict = |to_limit| goal("scaling-hot").verdict(&outcomes(document(to_limit)));
        assert!(matches!(verdict(0.96), Verdict::Met(_)));
        assert!(matches!(verdict(0.94), Verdict::Missed(_)));
    }

    #[test]
    fn the_worst_of_two_rests_is_judged() {
        let document = |first: f64, second: f64| {
            let row = |thread: &str, wakeups: f64| json!({"thread": thread, "cpu_percent": 0.01, "wakeups_per_second": wakeups});
            json!({"rows": [row("all", first), row("l1d", 7.0), row("all", second)]})
        };
        let verdict = |one, other| goal("idle-wake-ups").verdict(&outcomes(document(one, other)));
        assert!(matches!(verdict(1.0, 1.0499), Verdict::Met(_)));
        assert!(matches!(verdict(1.0, 1.2), Verdict::Missed(_)));
        assert!(matches!(verdict(1.2, 1.0), Verdict::Missed(_)));
    }

    #[test]
    fn a_mean_is_compared_with_the_best_rivals() {
        let document = |own: f64| {
            json!({"object_hits": {"gap_mean": 0.4, "means": [
                {"name": "optimum", "hit_percent": 66.0, "of_optimum": 1.0},
                {"name": "l1d", "hit_percent": own, "of_optimum": 0.85},
                {"name": "moka", "hit_percent": 50.0, "of_optimum": 0.76},
            ]}})
        };
        let verdict = |own| goal("hit-ratio").verdict(&outcomes(document(own)));
        assert!(matches!(verdict(51.0), Verdict::Met(_)));
        assert!(matches!(verdict(49.0), Verdict::Missed(_)));
        assert!(matches!(goal("optimum").verdict(&outcomes(document(51.0))), Verdict::Met(_)));
    }
}
