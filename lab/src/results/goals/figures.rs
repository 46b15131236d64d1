//! Finds figures in documents.

use crate::statistics::Spread;
use serde_json::Value;

pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn numbers(value: &Value, name: &str) -> Vec<f64> {
    list(value, name).iter().filter_map(Value::as_f64).collect()
}

pub(super) fn spread(figures: Vec<f64>) -> Option<Spread> {
    (!figures.is_empty()).then(|| Spread::of(figures))
}

/// Reads a spread from a document.
pub(super) fn written(value: &Value) -> Option<Spread> {
    let figure = |name| value.get(name)?.as_f64();
    Some(Spread { median: figure("median")?, min: figure("min")?, max: figure("max")? })
}

pub(super) fn is(value: &Value, name: &str, text: &str) -> bool {
    value.get(name).and_then(Value::as_str) == Some(text)
}

/// ns per hit of a contestant, by round.
pub(super) fn hits(document: &Value, workload: &str, chain: &str, name: &str) -> Option<Vec<f64>> {
    let run = list(document, "runs").iter().find(|run| is(run, "workload", workload))?;
    let entrant = list(run, "entrants").iter().find(|entrant| is(entrant, "name", name))?;
    let ns = numbers(entrant, &format!("{chain}_ns"));
    (!ns.is_empty()).then_some(ns)
}

pub(super) const L1D: &str = "l1d peek_into";

pub(super) fn ratio_to(document: &Value, workload: &str, chain: &str, to: &str) -> Option<Spread> {
    let own = hits(document, workload, chain, L1D)?;
    spread(own.iter().zip(hits(document, workload, chain, to)?).map(|(a, b)| a / b).collect())
}

pub(super) fn is_within_limit(document: &Value, workload: &str) -> Option<bool> {
    let own = Spread::of(hits(document, workload, "dependent", L1D)?);
    let limit = Spread::of(hits(document, workload, "dependent", "limit")?);
    Some((limit.min..=limit.max).contains(&own.median))
}

/// The median of l1d divided by the fastest rival's.
pub(super) fn to_fastest(document: &Value, workload: &str) -> Option<Spread> {
    let run = list(document, "runs").iter().find(|run| is(run, "workload", workload))?;
    let rivals = list(run, "entrants")
        .iter()
        .filter(|entrant| !is(entrant, "name", "limit") && !is(entrant, "name", L1D));
    let own = Spread::of(hits(document, workload, "dependent", L1D)?).median;
    let all = rivals.map(|rival| Spread::of(numbers(rival, "dependent_ns")).median);
    let least = all.fold(f64::INFINITY, f64::min);
    least.is_finite().then(|| one(own / least))
}

pub(super) const fn one(figure: f64) -> Spread {
    Spread { median: figure, min: figure, max: figure }
}

/// The limit's scaling divided by l1d's; the worst of all kinds of reads.
pub(super) fn scaling(document: &Value) -> Option<Spread> {
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

/// The same for two readers of one key.
pub(super) fn hot_scaling(document: &Value) -> Option<Spread> {
    let row = list(document, "scaling").iter().find(|row| {
        is(row, "contestant", L1D) && row.get("readers").and_then(Value::as_u64) == Some(2)
    })?;
    spread(numbers(row, "to_limit").into_iter().map(|times| 1.0 / times).collect())
}

/// The greatest number of wake-ups of the daemon's threads per second.
pub(super) fn wakeups(document: &Value) -> Option<Spread> {
    let all = list(document, "rows").iter().filter(|row| is(row, "thread", "all"));
    let figures = all.filter_map(|row| row.get("wakeups_per_second")?.as_f64());
    figures.reduce(f64::max).map(one)
}

/// The ratio of a row of `costs` to the limit with the key's hash.
pub(super) fn cost(document: &Value, step: &str) -> Option<Spread> {
    let row = list(document, "rows")
        .iter()
        .find(|row| is(row, "workload", "10k-zipf") && is(row, "step", step))?;
    spread(numbers(row, "independent_hashed_ratio"))
}

/// The ratio of a row of the cases, or of hot keys.
pub(super) fn row(document: &Value, wanted: &[(&str, &str)]) -> Option<Spread> {
    let row = list(document, "rows")
        .iter()
        .find(|row| wanted.iter().all(|(name, text)| is(row, name, text)))?;
    spread(numbers(row, "ratio"))
}

pub(super) fn case(
    document: &Value,
    case: &str,
    chain: &str,
    who: &str,
    to: &str,
) -> Option<Spread> {
    row(document, &[("case", case), ("chain", chain), ("contestant", who), ("yardstick", to)])
}

pub(super) fn line<'a>(document: &'a Value, name: &str, text: &str) -> Option<&'a Value> {
    list(document, "lines").iter().find(|line| is(line, name, text))
}

pub(super) fn set_ns(document: &Value, figure: &str) -> Option<Spread> {
    written(line(document, "figure", figure)?.get("ns")?)
}

pub(super) fn set_times(document: &Value, figure: &str) -> Option<Spread> {
    written(line(document, "figure", figure)?.get("times_limit")?)
}

pub(super) fn number(document: &Value, path: &str) -> Option<Spread> {
    document.pointer(path)?.as_f64().map(one)
}

/// A contestant's mean object hit ratio.
pub(super) fn mean(document: &Value, name: &str, figure: &str) -> Option<f64> {
    let means = document.pointer("/object_hits/means")?.as_array()?;
    means.iter().find(|mean| is(mean, "name", name))?.get(figure)?.as_f64()
}

/// The best rival's mean hit ratio divided by l1d's.
pub(super) fn best_rival(document: &Value) -> Option<Spread> {
    let means = document.pointer("/object_hits/means")?.as_array()?;
    let rivals =
        means.iter().filter(|mean| !is(mean, "name", "l1d") && !is(mean, "name", "optimum"));
    let best = rivals.filter_map(|mean| mean.get("hit_percent")?.as_f64()).fold(0.0, f64::max);
    Some(one(best / mean(document, "l1d", "hit_percent")?))
}

/// The greatest value of a figure over all points of `copied`.
pub(super) fn greatest(document: &Value, figure: &str) -> Option<Spread> {
    let points = list(document, "points");
    let most = points.iter().filter_map(|point| point.get(figure)?.as_f64()).reduce(f64::max)?;
    Some(one(most))
}
