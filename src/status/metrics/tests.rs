use super::*;
use l1d_wire::snapshot::{
    ClientFigures, Clients, PolicyFigures, Snapshot, TableStats, TierStats, TiersStats,
};
use serde_json::json;

fn snapshot() -> Value {
    let rule = |id: u8, prefix: &str, hits| PolicyFigures {
        id,
        prefix: prefix.to_owned(),
        hits,
        share_max_percent: Some(50.0),
        refused_as_full: Some(0),
        ..PolicyFigures::default()
    };
    serde_json::to_value(Snapshot {
        policies: vec![
            rule(0, "", 1),
            rule(1, "a:", 40),
            rule(2, "\u{fffd}", 2),
            rule(3, "\u{fffd}", 3),
        ],
        tiers: Some(TiersStats {
            l2: Some(TierStats { latency_us: Some(250), ..TierStats::default() }),
            ..TiersStats::default()
        }),
        table: TableStats { oldest_entry_seconds: Some(1), ..TableStats::default() },
        ..Snapshot::default()
    })
    .unwrap()
}

fn clients() -> String {
    let clients = Clients { clients: vec![ClientFigures::default()] };
    serde_json::to_string(&clients).unwrap()
}

fn text(metrics: &Metrics, snapshot: &Value) -> String {
    metrics.text(&snapshot.to_string(), &clients(), Format::Prometheus).unwrap()
}

fn sample(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

/// The hazard: a figure that was renamed, whose metric then silently goes, or has no meaning.
#[test]
fn each_metric_is_a_figure_with_a_meaning() {
    let rows = [(WHOLE, ""), (TIER, "tiers.l2."), (POLICY, "policies[]."), (PROGRAM, "clients[].")];
    let text = text(&Metrics::default(), &snapshot());
    let mut names = HashSet::new();
    for (metric, parent) in
        rows.iter().flat_map(|(list, parent)| list.iter().map(move |m| (m, parent)))
    {
        let path = format!("{parent}{}", metric.path);
        assert!(meaning(&path).is_some(), "{path}");
        assert!(names.insert(metric.name), "{} twice", metric.name);
        let sample = |line: &str| line.starts_with(metric.name);
        assert!(text.lines().any(sample), "{} is missing", metric.name);
        let help = help(metric, parent);
        let is_alone =
            !["Of these", "These", "The same"].iter().any(|start| help.starts_with(start));
        assert!(help.len() > 3 && is_alone, "{}: {help}", metric.name);
    }
}

#[test]
fn figures_come_in_base_units_and_with_their_labels() {
    let text = text(&Metrics::default(), &snapshot());
    assert_eq!(sample(&text, "l1d_tier_latency_seconds{tier=\"l2\"}"), "0.00025");
    assert_eq!(sample(&text, "l1d_tier_up{tier=\"l2\"}"), "1");
    assert!(!text.contains("tier=\"l3\""));
    assert_eq!(sample(&text, "l1d_policy_hits_total{policy=\"[defaults]\"}"), "1");
    assert_eq!(sample(&text, "l1d_policy_hits_total{policy=\"#2 \u{fffd}\"}"), "2");
    assert_eq!(sample(&text, "l1d_policy_hits_total{policy=\"#3 \u{fffd}\"}"), "3");
    assert!(text.contains("# HELP l1d_tier_latency_seconds Weighted mean of the time"), "{text}");
}

/// The hazard: an estimate that falls a little, which a scraper takes for a restart and counts
/// the whole once more; and a rule that comes back, whose count would stand still.
#[test]
fn counters_never_fall_while_their_rule_is_there() {
    let metrics = Metrics::default();
    let name = "l1d_policy_hits_total{policy=\"a:\"}";
    let mut snapshot = snapshot();
    for (hits, shown) in [(40, "40"), (39, "40"), (41, "41")] {
        snapshot["policies"][1]["hits"] = json!(hits);
        snapshot["hits"]["hits"] = json!(hits);
        let text = text(&metrics, &snapshot);
        assert_eq!(sample(&text, name), shown);
        assert_eq!(sample(&text, "l1d_hits_total"), shown);
    }
    let rule = snapshot["policies"].as_array_mut().unwrap().remove(1);
    assert!(!text(&metrics, &snapshot).contains("\"a:\""));
    snapshot["policies"].as_array_mut().unwrap().push(rule);
    snapshot["policies"][3]["hits"] = json!(2);
    assert_eq!(sample(&text(&metrics, &snapshot), name), "2");
}
