//! `policies`, `tiers`: one line for each.

use super::screen::{Style, count, percent, prefix, size, span};
use super::stats::{self, latency, parse};
use super::{Failure, admin};
use crate::cli::print;
use l1d_client::Client;
use l1d_wire::snapshot::{Breaker, Snapshot};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

const POLICIES_LEGEND: &str = "hits: an estimate from the sample that clients report; misses: reads \
    that the\ndaemon did not find in the table; of table: live bytes, in percent of the table\n\
    *: its entries are never evicted, and new keys are refused when that is used up\n";

pub(super) fn policies(client: &Client, json: bool) -> Result<ExitCode, Failure> {
    let text = client.admin().stats_json()?;
    if json {
        let policies = admin::parse(&text)?["policies"].take();
        print(format!("{}\n", json!({ "policies": policies })))?;
    } else {
        print(policies_page(&parse(&text)?, Style::of_output()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn policies_page(snapshot: &Snapshot, style: Style) -> String {
    let mut policies: Vec<_> = snapshot.policies.iter().collect();
    policies.sort_by_key(|rule| std::cmp::Reverse(rule.hits.saturating_add(rule.misses)));
    let rows = policies.iter().map(|rule| {
        vec![
            prefix(&rule.prefix),
            count(rule.hits),
            count(rule.misses),
            percent(rule.hit_percent),
            size(rule.live_bytes),
            percent(Some(rule.share_percent)),
            match rule.refused_as_full {
                None => percent(rule.share_max_percent),
                Some(_) => format!("{}*", percent(rule.share_max_percent)),
            },
        ]
    });
    let heading = ["prefix", "hits", "misses", "hit ratio", "live", "of table", "at most"];
    let mut page = String::new();
    style.table(&mut page, &heading, 1, &rows.collect::<Vec<_>>());
    format!("{page}\n{POLICIES_LEGEND}")
}

pub(super) fn tiers(client: &Client, json: bool) -> Result<ExitCode, Failure> {
    let text = client.admin().stats_json()?;
    if json {
        let tiers = admin::parse(&text)?["tiers"].take();
        print(format!("{}\n", json!({ "tiers": tiers })))?;
    } else {
        print(tiers_page(&parse(&text)?, Style::of_output()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tiers_page(snapshot: &Snapshot, style: Style) -> String {
    let Some(tiers) = &snapshot.tiers else {
        return "No tiers are configured: what is not in L1 is unknown.\n".to_owned();
    };
    let named = [("memcached", &tiers.l2), ("Redis", &tiers.l3)];
    let named = || named.into_iter().filter_map(|(name, tier)| Some((name, tier.as_ref()?)));
    let rows = named().map(|(name, tier)| {
        vec![
            name.to_owned(),
            tier.breaker.to_string(),
            span(Duration::from_secs(tier.breaker_since_seconds)),
            latency(tier),
            format!("{:.1}", tier.keys_per_batch),
            percent(l1d_wire::snapshot::percent(tier.hits, tier.hits + tier.misses)),
            count(tier.errors),
            count(tier.timeouts),
        ]
    });
    let heading = ["tier", "state", "for", "latency", "batch", "found", "errors", "timeouts"];
    let mut page = String::new();
    style.table(&mut page, &heading, 2, &rows.collect::<Vec<_>>());
    page.push('\n');
    for (name, tier) in named() {
        match (&tier.last_error, tier.breaker) {
            (Some(_), state) if state != Breaker::Closed => {
                style.alarm(&mut page, name, &stats::state(tier));
            }
            (Some(error), _) => style.row(&mut page, name, &format!("last failure: {error}")),
            (None, _) => {}
        }
    }
    page.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use l1d_wire::snapshot::{PolicyFigures, TierStats, TiersStats};

    #[test]
    fn tables_fit_into_80_columns() {
        let rule = PolicyFigures {
            prefix: "a:very:long:prefix:".repeat(9),
            hits: 123_456_789,
            misses: 999_499,
            live_bytes: 1000 << 20,
            share_percent: 100.0,
            share_max_percent: Some(100.0),
            refused_as_full: None,
            hit_percent: Some(100.0),
            id: 1,
            ttl_ms: 30_000,
        };
        let tier = TierStats {
            breaker: Breaker::HalfOpen,
            breaker_since_seconds: 3599,
            latency_us: Some(99_999),
            keys_per_batch: 128.0,
            last_error: Some("deadline passed while waiting for a reply ".repeat(5)),
            ..TierStats::default()
        };
        let tiers = TiersStats { l2: Some(tier.clone()), l3: Some(tier), ..TiersStats::default() };
        let kept = PolicyFigures {
            share_max_percent: Some(40.0),
            refused_as_full: Some(1),
            ..rule.clone()
        };
        let policies = vec![rule, PolicyFigures::default(), kept];
        let snapshot = Snapshot { policies, tiers: Some(tiers), ..Snapshot::default() };
        for page in
            [policies_page(&snapshot, Style::plain()), tiers_page(&snapshot, Style::plain())]
        {
            assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        }
        assert!(policies_page(&snapshot, Style::plain()).contains("(all others)"));
    }
}
