//! `keys`: those that stand out.

use super::screen::{Style, cell, count, percent, size, span};
use super::{Failure, admin, other_release};
use crate::cli::print;
use l1d_client::Client;
use l1d_wire::snapshot::{KeyFigures, KeyOrder, Keys};
use std::process::ExitCode;
use std::time::Duration;

/// Which keys come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// Those that were hit most lately.
    #[default]
    Hits,
    /// Those with the largest entries.
    Size,
}

impl From<By> for KeyOrder {
    fn from(by: By) -> KeyOrder {
        match by {
            By::Hits => KeyOrder::Hits,
            By::Size => KeyOrder::Size,
        }
    }
}

pub(super) fn show(
    client: &Client,
    (prefix, top, by): (&[u8], u16, By),
    json: bool,
) -> Result<ExitCode, Failure> {
    let text = client.admin().keys_json(prefix, top, by.into())?;
    print(if json { format!("{text}\n") } else { page(&parse(&text)?, Style::of_output()) })?;
    Ok(ExitCode::SUCCESS)
}

/// The answer of the daemon.
pub(super) fn parse(text: &str) -> Result<Keys, Failure> {
    serde_json::from_value(admin::parse(text)?).map_err(|_| other_release("keys"))
}

/// The cells of a key: itself, its hits, their part, its value's size, its remaining life.
pub(super) fn cells(key: &KeyFigures) -> Vec<String> {
    vec![
        cell(&key.key),
        count(key.hits),
        percent(key.hits_percent),
        if key.known_absent { "absent".to_owned() } else { size(key.value_bytes) },
        size(key.entry_bytes),
        key.ttl_ms.map_or_else(|| "no end".to_owned(), |ms| span(Duration::from_millis(ms))),
    ]
}

/// The headings of these cells.
pub(super) const HEADING: [&str; 6] = ["key", "hits", "of hits", "value", "entry", "life left"];

/// What the answer is based on.
pub(super) fn basis(keys: &Keys) -> String {
    let reports = format!(
        "hits: an estimate from {} reports, which stand for {} hits of the last {}",
        count(keys.sampled_reports),
        count(keys.sampled_hits),
        span(Duration::from_secs(keys.covers_seconds.max(1)))
    );
    match keys.by {
        KeyOrder::Hits => format!("{reports}, of {} keys looked up", count(keys.entries_seen)),
        KeyOrder::Size => format!(
            "sizes: of {} entries looked at, out of {}; {reports}",
            count(keys.entries_seen),
            count(keys.entries)
        ),
    }
}

fn page(keys: &Keys, style: Style) -> String {
    let mut page = String::new();
    if keys.keys.is_empty() {
        style.paragraph(&mut page, "No such key was found.");
    } else {
        let rows: Vec<_> = keys.keys.iter().map(cells).collect();
        style.table(&mut page, &HEADING, 1, &rows);
    }
    page.push('\n');
    style.paragraph(&mut page, &basis(keys));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_fits_and_says_how_much_was_sampled() {
        let key = KeyFigures {
            key: "market:\x1b[2J:".repeat(9),
            hits: 999_499,
            hits_percent: Some(99.99),
            value_bytes: 1000 << 10,
            entry_bytes: 1000 << 10,
            ttl_ms: Some(3_599_000),
            ..KeyFigures::default()
        };
        let keys = Keys {
            keys: vec![key.clone(), KeyFigures { known_absent: true, ttl_ms: None, ..key }],
            sampled_reports: 16_384,
            sampled_hits: 8_000_000,
            covers_seconds: 10,
            entries_seen: 250_000,
            entries: 10_000_000,
            ..Keys::default()
        };
        for by in [KeyOrder::Hits, KeyOrder::Size] {
            let page = page(&Keys { by, ..keys.clone() }, Style::plain());
            assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
            assert!(!page.contains('\x1b'), "{page}");
            let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains("stand for 8.00M hits of the last 10 s"), "{page}");
        }
        assert!(page(&Keys::default(), Style::plain()).starts_with("No such key"));
    }
}
