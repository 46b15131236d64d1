//! `stats`: one screen that says how the cache does.

use super::screen::{Style, count, percent, rate, shown, size, span};
use super::{Failure, admin, other_release};
use crate::cli::{print, print_on};
use l1d_client::Client;
use l1d_wire::snapshot::{Breaker, Recent, Snapshot, TableStats, TierStats};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Clears the terminal.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

pub(super) fn show(client: &Client, json: bool) -> Result<ExitCode, Failure> {
    let text = client.admin().stats_json()?;
    print(match json {
        true => format!("{text}\n"),
        false => page(&parse(&text)?, None, Style::of_output()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the screen again and again, with rates since the last look, until nobody reads on.
pub(super) fn watch(client: &Client, every: Duration, json: bool) -> Result<ExitCode, Failure> {
    let (style, is_terminal) = (Style::of_output(), std::io::stdout().is_terminal());
    let mut last: Option<(Instant, Snapshot)> = None;
    loop {
        let (now, text) = (Instant::now(), client.admin().stats_json()?);
        let snapshot = parse(&text)?;
        let screen = if json {
            format!("{text}\n")
        } else {
            let recent = last.map(|(at, last)| since(&last, &snapshot, now - at));
            let page = page(&snapshot, recent, style);
            if is_terminal { format!("{CLEAR}{page}") } else { format!("{page}\n") }
        };
        if !print_on(screen)? {
            return Ok(ExitCode::SUCCESS);
        }
        last = Some((now, snapshot));
        thread::sleep(every);
    }
}

/// The figures of the daemon.
pub(super) fn parse(text: &str) -> Result<Snapshot, Failure> {
    serde_json::from_value(admin::parse(text)?).map_err(|_| other_release("figures"))
}

/// What has happened between two looks.
pub(super) fn since(last: &Snapshot, now: &Snapshot, took: Duration) -> Recent {
    let (hits, misses) = (
        now.hits.hits.saturating_sub(last.hits.hits),
        now.hits.misses.saturating_sub(last.hits.misses),
    );
    let writes_of = |s: &Snapshot| s.requests.sets + s.requests.deletes + s.requests.operations;
    let writes = writes_of(now).saturating_sub(writes_of(last));
    let reads = hits.saturating_add(misses);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |count: u64| count as f64 / took.as_secs_f64().max(0.001);
    let evicted = |s: &Snapshot| s.table.evicted + s.table.displaced;
    Recent {
        covers_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        hits,
        misses,
        hit_percent: l1d_wire::snapshot::percent(hits, reads),
        reads_per_second: rate(reads),
        writes,
        writes_per_second: rate(writes),
        evicted: evicted(now).saturating_sub(evicted(last)),
        longest_turn_us: now.recent.longest_turn_us,
    }
}

/// The screen. `recent` replaces the daemon's own figures of the last seconds.
fn page(snapshot: &Snapshot, recent: Option<Recent>, style: Style) -> String {
    let Snapshot { daemon, hits, table, requests, flights, clients, .. } = snapshot;
    let recent = recent.unwrap_or(snapshot.recent);
    let mut page = String::new();
    let lately = format!("in the last {}", span(Duration::from_millis(recent.covers_ms)));
    let title = format!(
        "l1d {}, process {}, up {}",
        shown(&daemon.version),
        daemon.pid,
        span(Duration::from_secs(daemon.uptime_seconds))
    );
    page += &format!("{}\n\n", style.strong(&title));
    let mut row = |label: &str, text: String| style.row(&mut page, label, &text);
    row(
        "Hit ratio",
        format!(
            "{} {lately}, {} since the start",
            percent(recent.hit_percent),
            percent(hits.hit_percent)
        ),
    );
    row(
        "Reads",
        format!(
            "{} {lately}; since the start {} hits, {} misses",
            rate(recent.reads_per_second),
            count(hits.hits),
            count(hits.misses)
        ),
    );
    row(
        "Writes",
        format!(
            "{} {lately}; since the start {} sets, {} deletes, {} operations",
            rate(recent.writes_per_second),
            count(requests.sets),
            count(requests.deletes),
            count(requests.operations)
        ),
    );
    row("Memory", memory(table));
    row(
        "Entries",
        format!(
            "{}, known absences {} of them{}; index {:.0} % full",
            count(table.entries),
            size(table.absent_bytes),
            oldest(table),
            table.index_load_percent
        ),
    );
    row("Evicted", evictions(table, &recent, &lately));
    tiers(&mut page, snapshot, style);
    let mut row = |label: &str, text: String| style.row(&mut page, label, &text);
    row(
        "Fetches",
        format!(
            "{} under way, {} in all; {} reads joined one",
            count(flights.under_way),
            count(flights.begun),
            count(flights.joined)
        ),
    );
    row(
        "Clients",
        format!("{} connected, {} with a mailbox", clients.connections, clients.mailboxes),
    );
    row(
        "Daemon",
        format!(
            "slowest turn {} us in the last 10 s, {} us since the start",
            snapshot.recent.longest_turn_us, daemon.longest_turn_us
        ),
    );
    row(
        "Not told yet",
        format!(
            "up to 0.5 % of each thread's hits, {} at most",
            count(hits.held_back_per_thread_max)
        ),
    );
    if let Some(moving) = snapshot.moves.under_way {
        let done = u64::from(moving.buckets_copied) * 100 / u64::from(moving.buckets.max(1));
        row("Moving", format!("to a table of {}, {done} % copied", size(moving.to_bytes)));
    }
    let mut alarm = |label: &str, text: String| style.alarm(&mut page, label, &text);
    if let Some(advice) = &snapshot.index_advice {
        alarm("Index", advice.clone());
    }
    let changes = snapshot.advice.iter().filter(|advice| advice.kind != "index");
    for advice in changes {
        style.row(&mut page, "To change", &advice.sentence);
    }
    let mut alarm = |label: &str, text: String| style.alarm(&mut page, label, &text);
    let failed = requests.refused + requests.unknown_outcomes;
    if failed + requests.degraded > 0 {
        alarm(
            "Failed",
            format!(
                "since the start {} writes not taken by a tier, {} with unknown outcome, {} \
                 without L2",
                count(requests.refused),
                count(requests.unknown_outcomes),
                count(requests.degraded)
            ),
        );
    }
    if daemon.log_lines_dropped > 0 {
        alarm("Log", format!("{} lines dropped", count(daemon.log_lines_dropped)));
    }
    page
}

/// The age of the oldest entry.
fn oldest(table: &TableStats) -> String {
    let seconds = table.oldest_entry_seconds.map(Duration::from_secs);
    seconds.map_or(String::new(), |age| format!(", the oldest stored {} ago", span(age)))
}

fn memory(table: &TableStats) -> String {
    let part = |bytes: u64| percent(l1d_wire::snapshot::percent(bytes, table.log_bytes));
    let rest = table.table_bytes.saturating_sub(table.usable_bytes);
    let rest = match rest {
        0 => String::new(),
        rest => format!("; {} not allocated yet", size(rest)),
    };
    format!(
        "{}: {} live ({}), {} dead ({}), {} free ({}){rest}",
        size(table.table_bytes),
        size(table.live_bytes),
        part(table.live_bytes),
        size(table.dead_bytes),
        part(table.dead_bytes),
        size(table.free_bytes),
        part(table.free_bytes)
    )
}

/// How much is evicted, and what evicts.
fn evictions(table: &TableStats, recent: &Recent, lately: &str) -> String {
    let for_room = table.evicted.saturating_sub(table.evicted_over_share);
    format!(
        "{} entries {lately}; since the start {} because the table is full, {} because their rule \
         or absences had used up their share, {} by index conflicts; {} expired",
        count(recent.evicted),
        count(for_room),
        count(table.evicted_over_share),
        count(table.displaced),
        count(table.expired)
    )
}

fn tiers(page: &mut String, snapshot: &Snapshot, style: Style) {
    let Some(tiers) = &snapshot.tiers else {
        return style.row(page, "Tiers", "none: what is not in L1 is unknown");
    };
    for (label, tier) in [("L2 memcached", &tiers.l2), ("L3 Redis", &tiers.l3)] {
        match tier {
            None => style.row(page, label, "not configured"),
            Some(tier) if tier.breaker == Breaker::Closed => style.row(page, label, &state(tier)),
            Some(tier) => style.alarm(page, label, &state(tier)),
        }
    }
    if tiers.l2_debts > 0 || tiers.l2_left_out_ms > 0 {
        let text = format!("owes {} deletes; not read for these keys", count(tiers.l2_debts));
        style.alarm(page, "L2 memcached", &text);
    }
}

/// The state of a tier, why, and since when.
pub(super) fn state(tier: &TierStats) -> String {
    let since = span(Duration::from_secs(tier.breaker_since_seconds));
    match tier.breaker {
        Breaker::Closed => format!(
            "in use for {since}; {} a request, {:.1} keys a batch, {} of reads found",
            latency(tier),
            tier.keys_per_batch,
            percent(l1d_wire::snapshot::percent(tier.hits, tier.hits + tier.misses))
        ),
        state => {
            let why = tier.lost_by.as_deref().unwrap_or("the reason is not known");
            format!("{state} for {since}: {why}")
        }
    }
}

/// How long a tier takes to answer.
pub(super) fn latency(tier: &TierStats) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a latency for people")]
    let latency = tier.latency_us.map(|us| format!("{:.2} ms", us as f64 / 1000.0));
    latency.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use l1d_wire::snapshot::{Hits, TiersStats};

    #[test]
    fn the_screen_fits_and_says_what_is_wrong() {
        let mut snapshot =
            Snapshot { hits: Hits::new(60_000_000, 1_000_000), ..Snapshot::default() };
        snapshot.table.table_bytes = u64::MAX;
        snapshot.table.evicted = u64::MAX;
        let lost = TierStats {
            breaker: Breaker::Open,
            breaker_since_seconds: 75,
            lost_by: Some("connection refused by \x1b[2J somebody".to_owned()),
            ..TierStats::default()
        };
        let tiers = TiersStats { l3: Some(lost), l2_debts: 3, ..TiersStats::default() };
        let with = Snapshot { tiers: Some(tiers), ..snapshot.clone() };
        for snapshot in [&snapshot, &with] {
            let page = page(snapshot, None, Style::plain());
            assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
            assert!(page.contains("98.4 % since the start"), "{page}");
            assert!(page.contains("60.0M hits, 1.00M misses"), "{page}");
            assert!(!page.contains('\x1b'), "{page}");
        }
        let page = page(&with, None, Style::plain());
        assert!(page.contains("lost for 1 min 15 s: connection refused"), "{page}");
        assert!(page.contains("owes 3 deletes"), "{page}");
    }

    #[test]
    fn a_second_look_shows_what_happened_since_the_first() {
        let first = Snapshot { hits: Hits::new(1000, 100), ..Snapshot::default() };
        let mut second = Snapshot { hits: Hits::new(4000, 1100), ..Snapshot::default() };
        second.requests.sets = 50;
        let recent = since(&first, &second, Duration::from_secs(2));
        assert_eq!((recent.hits, recent.misses, recent.hit_percent), (3000, 1000, Some(75.0)));
        assert_eq!(rate(recent.reads_per_second), "2.00k/s");
        assert_eq!(rate(recent.writes_per_second), "25/s");
    }
}
