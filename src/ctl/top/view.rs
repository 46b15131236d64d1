//! What is shown: a list, its order, and the figures of the last look.

use super::rows::{self, Row};
use super::source::{Answer, Figures};
use l1d_wire::snapshot::Recent;
use std::cmp::Ordering;
use std::time::{Duration, Instant};

/// The lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum List {
    Policies,
    Clients,
    Keys,
}

impl List {
    pub(super) const ALL: [List; 3] = [List::Policies, List::Clients, List::Keys];

    pub(super) fn next(self) -> List {
        match self {
            List::Policies => List::Clients,
            List::Clients => List::Keys,
            List::Keys => List::Policies,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            List::Policies => "policies",
            List::Clients => "clients",
            List::Keys => "keys",
        }
    }

    pub(super) fn heading(self) -> &'static [&'static str] {
        match self {
            List::Policies => &rows::POLICIES,
            List::Clients => &rows::CLIENTS,
            List::Keys => &rows::KEYS,
        }
    }

    /// Columns that begin on the left.
    pub(super) fn left(self) -> usize {
        match self {
            List::Clients => 3,
            List::Policies | List::Keys => 1,
        }
    }
}

/// The order of a list.
#[derive(Debug, Clone, Copy)]
struct Order {
    column: usize,
    is_reversed: bool,
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct View {
    pub(super) is_coloured: bool,
    pub(super) every: Duration,
    list: List,
    orders: [Order; 3],
    /// Rows above the first that is shown.
    pub(super) offset: usize,
    pub(super) is_paused: bool,
    /// The last look and the one before.
    last: Option<Box<Figures>>,
    before: Option<Box<Figures>>,
    /// Why there is no newer look, and since when.
    pub(super) failure: Option<(String, Instant)>,
}

impl View {
    pub(super) fn new(is_coloured: bool, every: Duration) -> View {
        // By hits a second, hits a second, and hits.
        let order = |column| Order { column, is_reversed: false };
        View {
            is_coloured,
            every,
            list: List::Policies,
            orders: [order(1), order(4), order(1)],
            offset: 0,
            is_paused: false,
            last: None,
            before: None,
            failure: None,
        }
    }

    /// Takes a look, or why there is none.
    pub(super) fn take(&mut self, answer: Answer, now: Instant) {
        match answer {
            Ok(_) if self.is_paused => {}
            Ok(figures) => {
                self.failure = None;
                // Counts of another daemon begin at zero.
                let same = |last: &Figures| last.snapshot.daemon.pid == figures.snapshot.daemon.pid;
                self.before = self.last.take().filter(|last| same(last));
                self.last = Some(figures);
            }
            Err(why) => {
                let since = self.failure.take().map_or(now, |(_, since)| since);
                self.failure = Some((why, since));
            }
        }
    }

    pub(super) fn list(&self) -> List {
        self.list
    }

    pub(super) fn last(&self) -> Option<&Figures> {
        self.last.as_deref()
    }

    /// What has happened between the last two looks.
    pub(super) fn recent(&self) -> Option<Recent> {
        let last = self.last.as_ref()?;
        Some(self.before.as_ref().map_or(last.snapshot.recent, |before| {
            crate::ctl::stats::since(&before.snapshot, &last.snapshot, last.at - before.at)
        }))
    }

    /// The rows of the list, in their order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let Some(last) = &self.last else { return Vec::new() };
        let before = self.before.as_deref();
        let mut rows = match self.list {
            List::Policies => rows::policies(last, before),
            List::Clients => rows::clients(last, before),
            List::Keys => rows::keys(last),
        };
        let Order { column, is_reversed } = self.order();
        rows.sort_by(|one, other| {
            let order = match (one.sort.get(column), other.sort.get(column)) {
                (Some(one), Some(other)) => one.compare(other),
                _ => Ordering::Equal,
            };
            if is_reversed { order.reverse() } else { order }
        });
        rows
    }

    fn order(&self) -> Order {
        self.orders[self.list as usize]
    }

    /// The column that the list is sorted by, and whether its least comes first.
    pub(super) fn sorted_by(&self) -> (usize, bool) {
        (self.order().column, self.order().is_reversed)
    }

    pub(super) fn show(&mut self, list: List) {
        self.list = list;
        self.offset = 0;
    }

    pub(super) fn sort_by_next(&mut self) {
        let columns = self.list.heading().len();
        let order = &mut self.orders[self.list as usize];
        *order = Order { column: (order.column + 1) % columns, is_reversed: false };
    }

    pub(super) fn sort_by_previous(&mut self) {
        let columns = self.list.heading().len();
        let order = &mut self.orders[self.list as usize];
        *order = Order { column: (order.column + columns - 1) % columns, is_reversed: false };
    }

    pub(super) fn reverse(&mut self) {
        let order = &mut self.orders[self.list as usize];
        order.is_reversed = !order.is_reversed;
    }

    pub(super) fn pause(&mut self) {
        self.is_paused = !self.is_paused;
    }

    /// Shows rows further down, or further up.
    pub(super) fn scroll(&mut self, rows: isize) {
        self.offset = self.offset.saturating_add_signed(rows);
    }
}
