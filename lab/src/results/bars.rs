//! Bars with whiskers over a logarithmic axis, one for each contestant's time.

use super::Outcome;
use crate::statistics::Spread;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

const NAMES: f64 = 300.0;
const WIDTH: f64 = 420.0;
const ROW: f64 = 18.0;
const TOP: f64 = 34.0;

/// Draws a chart for each document with rows of contestants.
///
/// # Errors
/// A file cannot be written.
pub fn draw(outcomes: &[Outcome], plots: &Path) -> Result<()> {
    for outcome in outcomes {
        let Ok((document, _)) = &outcome.result else { continue };
        let bars = bars(document);
        if bars.is_empty() || outcome.experiment.plot.is_some() {
            continue;
        }
        let file = plots.join(format!("{}.svg", outcome.experiment.name));
        std::fs::write(&file, svg(outcome.experiment.title, &bars))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// A name, and a figure above zero.
type Bar = (String, Spread);

/// The figures of a document that can be compared with each other.
fn bars(document: &Value) -> Vec<Bar> {
    let list = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let rounds = |value: &Value, name: &str| -> Spread {
        Spread::of(list(value, name).iter().filter_map(Value::as_f64).collect())
    };
    let mut bars = Vec::new();
    for run in list(document, "runs") {
        for entrant in list(&run, "entrants") {
            let name = format!("{}, {}", text(&run, "workload"), text(&entrant, "name"));
            bars.push((name, rounds(&entrant, "dependent_ns")));
        }
    }
    for row in list(document, "rows") {
        if row.get("step").is_some() {
            let name = format!("{}, {}", text(&row, "workload"), text(&row, "step"));
            bars.push((name, rounds(&row, "independent_ns")));
        } else if row.get("ns").is_some() {
            let parts = ["case", "chain", "contestant"].map(|part| text(&row, part));
            let readers = match row.get("readers").and_then(Value::as_u64) {
                Some(1) => "1 reader".to_owned(),
                Some(readers) => format!("{readers} readers"),
                None => String::new(),
            };
            let parts: Vec<_> =
                parts.into_iter().chain([readers]).filter(|part| !part.is_empty()).collect();
            bars.push((parts.join(", "), rounds(&row, "ns")));
        } else if let Some(total) = row.get("total_us") {
            let of = |name| total.get(name).and_then(Value::as_f64).unwrap_or(0.0) * 1e3;
            let spread = Spread { median: of("median"), min: of("min"), max: of("max") };
            bars.push((text(&row, "contestant"), spread));
        }
    }
    for line in list(document, "lines") {
        if let Some(ns) = line.get("ns") {
            let of = |name| ns.get(name).and_then(Value::as_f64).unwrap_or(0.0);
            let spread = Spread { median: of("median"), min: of("min"), max: of("max") };
            bars.push((text(&line, "figure").replace('_', " "), spread));
        }
    }
    // The same figure may appear again beside another yardstick.
    bars.dedup_by(|one, other| one.0 == other.0);
    bars.retain(|(_, figure)| figure.min > 0.0);
    bars
}

fn svg(title: &str, bars: &[Bar]) -> String {
    let least = bars.iter().map(|bar| bar.1.min).fold(f64::INFINITY, f64::min).log10().floor();
    let most = bars.iter().map(|bar| bar.1.max).fold(0.0, f64::max).log10().ceil().max(least + 1.0);
    let x = |ns: f64| NAMES + (ns.log10() - least) / (most - least) * WIDTH;
    let height = TOP + ROW * bars.len() as f64 + 30.0;
    let width = NAMES + WIDTH + 80.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\">{}; ns, logarithmic</text>\n",
        escaped(title)
    );
    // Writing to a String does not fail.
    let mut power = least;
    while power <= most {
        let at = x(10_f64.powf(power));
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" \
             stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            height - 26.0,
            height - 10.0,
            10_f64.powf(power)
        );
        power += 1.0;
    }
    for (number, (name, ns)) in bars.iter().enumerate() {
        let y = TOP + ROW * number as f64;
        let colour = match name {
            name if name.contains("limit") => "#999",
            name if is_own(name) => "#d62728",
            _ => "#1f77b4",
        };
        let (begin, end) = (x(ns.min), x(ns.max));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"{NAMES}\" \
             y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/><line \
             x1=\"{begin:.1}\" y1=\"{mid:.1}\" x2=\"{end:.1}\" y2=\"{mid:.1}\" \
             stroke=\"black\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 6.0,
            y + 12.0,
            escaped(name),
            y + 3.0,
            (x(ns.median) - NAMES).max(1.0),
            ROW - 6.0,
            end.max(x(ns.median)) + 4.0,
            y + 12.0,
            figure(ns.median),
            mid = y + ROW / 2.0,
        );
    }
    svg + "</svg>\n"
}

/// The bar is l1d's. Its figures of writes have no contestant's name.
fn is_own(name: &str) -> bool {
    let of_writes = ["set ", "get ", "owner ", "visibility"];
    name.contains("l1d") || of_writes.iter().any(|begin| name.starts_with(begin))
}

fn figure(ns: f64) -> String {
    if ns < 100.0 { format!("{ns:.1}") } else { format!("{ns:.0}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_figure_is_one_bar_and_nothing_is_not_a_number() {
        let rows = json!({"rows": [
            {"case": "miss", "contestant": "a < b", "yardstick": "limit", "ns": [1.0, 2.0, 3.0]},
            {"case": "miss", "contestant": "a < b", "yardstick": "other", "ns": [1.0, 2.0, 3.0]},
            {"case": "miss", "contestant": "none", "ns": []},
            {"case": "quiet", "readers": 1, "contestant": "limit", "ns": [1.0]},
            {"case": "quiet", "readers": 2, "contestant": "limit", "ns": [1.0]},
        ]});
        let found = bars(&rows);
        let names: Vec<&str> = found.iter().map(|bar| bar.0.as_str()).collect();
        assert_eq!(names, ["miss, a < b", "quiet, limit, 1 reader", "quiet, limit, 2 readers"]);
        let svg = svg("title", &found);
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(bars(&json!({"rows": 3})).is_empty());
    }
}
