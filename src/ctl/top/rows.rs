//! The rows of each list, as text, and what they are sorted by.

use super::source::Figures;
use crate::ctl::clients::{program, user};
use crate::ctl::keys::{HEADING, cells};
use crate::ctl::screen::{count, percent, prefix, rate, short, size, span};
use l1d_wire::snapshot::ClientFigures;
use std::cmp::Ordering;
use std::time::Duration;

pub(super) const POLICIES: [&str; 8] =
    ["prefix", "hits", "misses", "ratio", "live", "of table", "at most", "all hits"];
pub(super) const CLIENTS: [&str; 8] =
    ["pid", "user", "program", "for", "hits", "reads", "ratio", "writes"];
pub(super) const KEYS: [&str; 6] = HEADING;

/// A row of a list.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// For each cell.
    pub(super) sort: Vec<Sort>,
}

/// What a cell is sorted by: the greatest number or the first text comes first.
#[derive(Debug)]
pub(super) enum Sort {
    Text(String),
    Number(f64),
}

impl Sort {
    pub(super) fn compare(&self, other: &Sort) -> Ordering {
        match (self, other) {
            (Sort::Text(one), Sort::Text(other)) => one.cmp(other),
            (Sort::Number(one), Sort::Number(other)) => other.total_cmp(one),
            (Sort::Text(_), Sort::Number(_)) => Ordering::Less,
            (Sort::Number(_), Sort::Text(_)) => Ordering::Greater,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "only compared")]
fn number(count: u64) -> Sort {
    Sort::Number(count as f64)
}

/// A cell that may be empty: those come last.
fn optional(figure: Option<f64>) -> Sort {
    Sort::Number(figure.unwrap_or(-1.0))
}

/// The rate of a count that only rises; `None` at the first look.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate_of(now: u64, before: Option<u64>, took: Duration) -> Option<f64> {
    let seconds = took.as_secs_f64().max(0.001);
    before.map(|before| now.saturating_sub(before) as f64 / seconds)
}

fn rate_cell(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), rate)
}

pub(super) fn policies(last: &Figures, before: Option<&Figures>) -> Vec<Row> {
    let took = before.map_or(Duration::ZERO, |before| last.at - before.at);
    let rows = last.snapshot.policies.iter().map(|rule| {
        let rules = before.iter().flat_map(|before| &before.snapshot.policies);
        let former = { rules }.find(|former| former.prefix == rule.prefix);
        let hits = rate_of(rule.hits, former.map(|former| former.hits), took);
        let misses = rate_of(rule.misses, former.map(|former| former.misses), took);
        Row {
            cells: vec![
                prefix(&rule.prefix),
                rate_cell(hits),
                rate_cell(misses),
                percent(rule.hit_percent),
                size(rule.live_bytes),
                percent(Some(rule.share_percent)),
                percent(rule.share_max_percent),
                count(rule.hits),
            ],
            sort: vec![
                Sort::Text(rule.prefix.clone()),
                optional(hits),
                optional(misses),
                optional(rule.hit_percent),
                number(rule.live_bytes),
                Sort::Number(rule.share_percent),
                optional(rule.share_max_percent),
                number(rule.hits),
            ],
        }
    });
    rows.collect()
}

pub(super) fn clients(last: &Figures, before: Option<&Figures>) -> Vec<Row> {
    let took = before.map_or(Duration::ZERO, |before| last.at - before.at);
    let clients = last.clients.iter().flat_map(|clients| &clients.clients);
    let former: Vec<&ClientFigures> =
        before.and_then(|f| f.clients.as_ref()).iter().flat_map(|c| &c.clients).collect();
    // A process may have several connections.
    let same = |one: &ClientFigures, former: &ClientFigures| {
        let began = |client: &ClientFigures, ago| client.connected_seconds.abs_diff(ago);
        one.pid == former.pid
            && one.has_mailbox == former.has_mailbox
            && began(former, one.connected_seconds.saturating_sub(took.as_secs())) <= 1
            && former.figures.requests <= one.figures.requests
    };
    let rows = clients.map(|client| {
        let former = former.iter().find(|former| same(client, former));
        let figure =
            |of: fn(&ClientFigures) -> u64| rate_of(of(client), former.map(|f| of(f)), took);
        let hits = figure(|client| client.figures.client_reported.hits);
        let reads = figure(|client| client.figures.reads);
        let writes = figure(|client| client.figures.writes);
        let program = program(client.pid.into()).unwrap_or_else(|| "-".to_owned());
        let user = user(client.uid);
        Row {
            cells: vec![
                client.pid.to_string(),
                short(&user, 10),
                short(&program, 15),
                span(Duration::from_secs(client.connected_seconds)),
                rate_cell(hits),
                rate_cell(reads),
                percent(client.hit_percent),
                rate_cell(writes),
            ],
            sort: vec![
                Sort::Number(-f64::from(client.pid)),
                Sort::Text(user),
                Sort::Text(program),
                number(client.connected_seconds),
                optional(hits),
                optional(reads),
                optional(client.hit_percent),
                optional(writes),
            ],
        }
    });
    rows.collect()
}

pub(super) fn keys(last: &Figures) -> Vec<Row> {
    let keys = last.keys.iter().flat_map(|keys| &keys.keys);
    let rows = keys.map(|key| Row {
        cells: cells(key),
        sort: vec![
            Sort::Text(key.key.clone()),
            number(key.hits),
            optional(key.hits_percent),
            number(key.value_bytes),
            number(key.entry_bytes),
            number(key.ttl_ms.unwrap_or(u64::MAX)),
        ],
    });
    rows.collect()
}
