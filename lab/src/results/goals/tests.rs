//! Goals and their verdicts.

use super::*;
use serde_json::json;

fn outcomes(document: Value) -> Vec<Outcome> {
    crate::results::experiments::EXPERIMENTS
        .iter()
        .map(|experiment| Outcome { experiment, result: Ok((document.clone(), String::new())) })
        .collect()
}

fn goal(name: &str) -> &'static Goal {
    all().find(|goal| goal.name == name).expect("a goal of this name")
}

#[test]
fn every_goal_is_of_an_experiment_and_stands_where_nothing_is_known() {
    let nothing = [json!({}), json!(null), json!({"runs": 1, "rows": [{}], "lines": [null]})];
    for goal in all() {
        let known = crate::results::experiments::EXPERIMENTS;
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
    let evidence = include_str!("../../../evidence.md");
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
    for goal in all().filter(|goal| of_speed.contains(&goal.experiment)) {
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
        let row = |readers: u64, contestant: &str, to_limit: f64| {
            json!({
                "readers": readers,
                "contestant": contestant,
                "to_limit": [to_limit, to_limit],
            })
        };
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
        let row = |thread: &str, wakeups: f64| {
            json!({
                "thread": thread,
                "cpu_percent": 0.01,
                "wakeups_per_second": wakeups,
            })
        };
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

#[test]
fn the_worst_operation_is_judged_and_a_void_row_is_not() {
    let document = |of_set: f64, carried: f64| {
        let spread = |median: f64| json!({"median": median, "min": median, "max": median});
        let row = |operation: &str, contestant: &str| {
            let proxy = json!([{"per_second": carried, "capacity_per_second": 90_000.0}]);
            json!({
                "operation": operation,
                "processes": 8,
                "contestant": contestant,
                "proxy": proxy,
            })
        };
        let ratio = |operation: &str, rate: f64| {
            json!({"operation": operation, "processes": 8, "of": "l1d", "to": "direct",
                "per_second": spread(rate)})
        };
        json!({
            "rows": [row("absent", "direct"), row("absent", "l1d"), row("set", "l1d")],
            "ratios": [ratio("absent", 1.2), ratio("set", of_set)],
        })
    };
    let verdict = |of_set, carried| goal("through-8").verdict(&outcomes(document(of_set, carried)));
    assert!(matches!(verdict(1.1, 1000.0), Verdict::Met(_)));
    assert!(matches!(verdict(0.9, 1000.0), Verdict::Missed(_)));
    assert!(matches!(verdict(1.1, 40_000.0), Verdict::NotMeasured));
}

#[test]
fn system_calls_are_judged_by_the_operation_with_the_most() {
    let row = |operation: &str, total: f64| {
        json!({
            "operation": operation,
            "processes": 8,
            "total": total,
        })
    };
    let document = |in_l2: f64| json!({"syscalls": [row("absent", 1.4), row("in-l2", in_l2)]});
    let verdict = |in_l2| goal("calls-8").verdict(&outcomes(document(in_l2)));
    assert!(matches!(verdict(1.5), Verdict::Met(_)));
    assert!(matches!(verdict(1.6), Verdict::Missed(_)));
}

#[test]
fn a_load_is_compared_with_the_better_of_the_two_own_caches() {
    let one = |name: &str, reads: f64, write: f64| {
        json!({"contestant": name, "reads_per_second": reads, "write_ns": {"p50": write},
            "stale_shared": 0, "proxy": []})
    };
    let document = |reads: f64| {
        json!({"contestants": [one("own-30s", 200.0, 90.0), one("own-2s", 100.0, 80.0),
            one("l1d", reads, 100.0)]})
    };
    let verdict = |name, reads| goal(name).verdict(&outcomes(document(reads)));
    assert!(matches!(verdict("zipf-reads", 230.0), Verdict::Met(_)));
    assert!(matches!(verdict("zipf-reads", 210.0), Verdict::Missed(_)));
    assert!(matches!(verdict("zipf-write", 210.0), Verdict::Met(_)));
    assert!(matches!(verdict("zipf-away-write", 210.0), Verdict::Missed(_)));
    assert!(matches!(verdict("zipf-stale", 210.0), Verdict::Met(_)));
}
