//! The screen: how the cache does, the list, and the keys to press.

use super::rows::Row;
use super::view::{List, View};
use crate::ctl::keys::basis;
use crate::ctl::screen::{count, percent, rate, shown, size, span};
use crate::ctl::stats;
use l1d_wire::snapshot::{Breaker, Snapshot, TierStats};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use std::time::Duration;

/// Columns of the list's first cell, at least.
const FIRST: usize = 12;
const HELP: &str = "p policies  c clients  k keys  s sort by  r reverse  space pause  q quit";

pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let header = header(view);
    let lines = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let parts = Layout::vertical([
        Constraint::Length(lines),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ]);
    let [top, list, note, help] = parts.areas(frame.area());
    frame.render_widget(Paragraph::new(header), top);
    let lines = lines_of(view, list.width.into(), list.height.into());
    frame.render_widget(Paragraph::new(lines), list);
    frame.render_widget(Paragraph::new(status(view)), note);
    frame.render_widget(Paragraph::new(Line::from(HELP).reversed()), help);
}

fn painted(view: &View, text: String, colour: Color) -> Span<'static> {
    if view.is_coloured { Span::styled(text, Style::new().fg(colour)) } else { Span::raw(text) }
}

/// How the cache does.
fn header(view: &View) -> Vec<Line<'static>> {
    let (Some(last), Some(recent)) = (view.last(), view.recent()) else {
        return vec![Line::from("l1d"), Line::default()];
    };
    let Snapshot { daemon, table, clients, .. } = &last.snapshot;
    let part = |bytes| percent(l1d_wire::snapshot::percent(bytes, table.log_bytes));
    let mut lines = vec![
        Line::from(format!(
            "l1d {}, process {}, up {}; {} clients",
            shown(&daemon.version),
            daemon.pid,
            span(Duration::from_secs(daemon.uptime_seconds)),
            clients.connections
        ))
        .bold(),
        Line::from(format!(
            "Hit ratio {}, {} since the start; reads {}, writes {}",
            percent(recent.hit_percent),
            percent(last.snapshot.hits.hit_percent),
            rate(recent.reads_per_second),
            rate(recent.writes_per_second)
        )),
        Line::from(format!(
            "Memory {}: {} live, {} free; {} entries; evicted {} in {}",
            size(table.table_bytes),
            part(table.live_bytes),
            part(table.free_bytes),
            count(table.entries),
            count(recent.evicted),
            span(Duration::from_millis(recent.covers_ms))
        )),
    ];
    let tiers = last.snapshot.tiers.as_ref();
    let tier = |name, tier: Option<&TierStats>| {
        tier.map(|tier| {
            let text = format!("{name} {}", stats::state(tier));
            let is_lost = tier.breaker != Breaker::Closed;
            Line::from(painted(view, shown(&text), if is_lost { Color::Red } else { Color::Reset }))
        })
    };
    lines.extend(tier("L2", tiers.and_then(|tiers| tiers.l2.as_ref())));
    lines.extend(tier("L3", tiers.and_then(|tiers| tiers.l3.as_ref())));
    lines.push(Line::default());
    lines
}

/// The list: its name, its heading, and as many rows as there is room for.
fn lines_of(view: &mut View, width: usize, height: usize) -> Vec<Line<'static>> {
    let list = view.list();
    let rows = view.rows();
    let room = height.saturating_sub(2);
    view.offset = view.offset.min(rows.len().saturating_sub(room));
    let (column, is_reversed) = view.sorted_by();
    let mut heading: Vec<String> = list.heading().iter().map(|name| (*name).to_owned()).collect();
    if let Some(name) = heading.get_mut(column) {
        name.push(if is_reversed { '^' } else { 'v' });
    }
    let names = List::ALL.map(|other| {
        let name = format!(" {} ", other.name());
        if other == list { Span::raw(name).reversed() } else { Span::raw(name) }
    });
    let mut title: Vec<Span<'static>> = names.to_vec();
    let first = view.offset + usize::from(!rows.is_empty());
    title.push(Span::raw(format!(
        "  {first}-{} of {}",
        rows.len().min(view.offset + room),
        rows.len()
    )));
    let shown: Vec<&Row> = rows.iter().skip(view.offset).take(room).collect();
    let cells = || shown.iter().map(|row| &row.cells);
    let mut widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            let cells = [&heading].into_iter().chain(cells()).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
    if let Some(first) = widths.first_mut() {
        *first = (*first).min(width.saturating_sub(others)).max(FIRST.min(*first));
    }
    let mut lines =
        vec![Line::from(title), Line::from(line(&heading, &widths, list.left())).bold()];
    lines.extend(cells().map(|cells| Line::from(line(cells, &widths, list.left()))));
    lines
}

fn line(cells: &[String], widths: &[usize], left: usize) -> String {
    let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, &width))| {
        let cell: String = cell.chars().take(width).collect();
        if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    cells.collect::<Vec<_>>().join("  ")
}

/// What the reader of the screen must know: the daemon is gone, the view is paused, an estimate.
fn status(view: &View) -> Line<'static> {
    if let Some((why, since)) = &view.failure {
        let text = format!("NO ANSWER for {}: {}", span(since.elapsed()), shown(why));
        return Line::from(painted(view, text, Color::Red));
    }
    if view.is_paused {
        return Line::from(painted(view, "PAUSED: space goes on".to_owned(), Color::Yellow));
    }
    let Some(last) = view.last() else { return Line::from("Asking the daemon...") };
    match (view.list(), &last.keys) {
        (List::Keys, Some(keys)) => Line::from(basis(keys)),
        _ => Line::from(format!("every {}", span(view.every))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Figures;
    use super::*;
    use l1d_wire::snapshot::{KeyFigures, Keys, PolicyFigures, TiersStats};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::Instant;

    fn figures() -> Figures {
        let policies = (0..100).map(|n| PolicyFigures {
            prefix: format!("prefix {n}\x1b[2J: that is rather long for a cell"),
            hits: n * 1000,
            ..PolicyFigures::default()
        });
        let lost = TierStats {
            breaker: Breaker::Open,
            lost_by: Some("refused\x1b[31m ".repeat(20)),
            ..TierStats::default()
        };
        let snapshot = Snapshot {
            policies: policies.collect(),
            tiers: Some(TiersStats { l3: Some(lost), ..TiersStats::default() }),
            ..Snapshot::default()
        };
        let key = KeyFigures { key: "k\x1b[2J".repeat(30), ..KeyFigures::default() };
        let keys = Some(Keys { keys: vec![key], ..Keys::default() });
        Figures { at: Instant::now(), snapshot, clients: None, keys }
    }

    fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let buffer = terminal.backend().buffer();
        assert!(view.is_coloured || buffer.content.iter().all(|cell| cell.fg == Color::Reset));
        let cells: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        cells.chunks(width.into()).map(|line| line.concat()).collect()
    }

    #[test]
    fn every_size_shows_the_list_and_the_help_and_nothing_of_others_acts() {
        for (width, height) in [(80, 24), (120, 40), (200, 60), (20, 5), (1, 1)] {
            for list in List::ALL {
                for is_coloured in [false, true] {
                    let mut view = View::new(is_coloured, Duration::from_secs(2));
                    screen(&mut view, width, height);
                    view.take(Ok(Box::new(figures())), Instant::now());
                    view.show(list);
                    view.take(Err("no daemon".to_owned()), Instant::now());
                    let lines = screen(&mut view, width, height);
                    assert!(!lines.concat().contains('\x1b'));
                    if width >= 80 {
                        assert!(lines.last().unwrap().contains("q quit"), "{lines:#?}");
                        assert!(lines.iter().any(|line| line.starts_with("NO ANSWER")));
                        assert!(lines.iter().any(|line| line.contains(list.heading()[0])));
                    }
                }
            }
        }
    }

    #[test]
    fn lists_are_sorted_and_scrolled() {
        let mut view = View::new(false, Duration::from_secs(2));
        view.take(Ok(Box::new(figures())), Instant::now());
        // By all hits.
        view.sort_by_previous();
        view.sort_by_previous();
        assert_eq!(view.sorted_by(), (7, false));
        let first = |view: &mut View| {
            let lines = screen(view, 80, 24);
            let heading = lines.iter().position(|line| line.starts_with("prefix")).unwrap();
            lines[heading + 1].clone()
        };
        assert!(first(&mut view).starts_with("prefix 99"));
        view.reverse();
        assert!(first(&mut view).starts_with("prefix 0"));
        view.scroll(3);
        assert!(first(&mut view).starts_with("prefix 3"));
        view.scroll(isize::MAX);
        let lines = screen(&mut view, 80, 24);
        assert!(lines.iter().any(|line| line.starts_with("prefix 99")), "{lines:#?}");
        view.scroll(isize::MIN);
        assert!(first(&mut view).starts_with("prefix 0"));
    }
}
