//! What the screens for people have in common: figures with units, rows and columns that fit into
//! 80 columns, and colours on terminals only.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

/// Columns of a screen.
const WIDTH: usize = 80;
/// Columns of a row's label.
const LABEL: usize = 13;
/// Columns of a cell that is not a number.
const CELL: usize = 26;

/// Whether the screen is coloured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    is_coloured: bool,
}

impl Style {
    /// As standard output takes it: coloured on a terminal, unless `NO_COLOR` is set.
    pub(super) fn of_output() -> Style {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Style { is_coloured: std::io::stdout().is_terminal() && !no_color }
    }

    #[cfg(test)]
    pub(super) fn plain() -> Style {
        Style { is_coloured: false }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A label or a heading.
    pub(super) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Adds a row: a label, and text that goes on below itself where it is too long.
    pub(super) fn row(self, page: &mut String, label: &str, text: &str) {
        self.row_painted(page, label, text, None);
    }

    /// The same for what must be seen.
    pub(super) fn alarm(self, page: &mut String, label: &str, text: &str) {
        self.row_painted(page, label, text, Some("31"));
    }

    fn row_painted(self, page: &mut String, label: &str, text: &str, code: Option<&str>) {
        for (number, line) in wrapped(text, WIDTH - LABEL).iter().enumerate() {
            let label = if number == 0 { label } else { "" };
            let label = self.strong(&format!("{label:<LABEL$}"));
            let line = code.map_or(line.clone(), |code| self.paint(code, line));
            let row = format!("{label}{line}");
            let _ = writeln!(page, "{}", row.trim_end());
        }
    }

    /// Adds a paragraph.
    pub(super) fn paragraph(self, page: &mut String, text: &str) {
        for line in wrapped(text, WIDTH) {
            let _ = writeln!(page, "{line}");
        }
    }

    /// Adds a table: a heading, and rows of as many cells. Those of the first `left` columns begin
    /// on the left, the others end on the right.
    pub(super) fn table(
        self,
        page: &mut String,
        heading: &[&str],
        left: usize,
        rows: &[Vec<String>],
    ) {
        let heading: Vec<String> = heading.iter().map(|name| (*name).to_owned()).collect();
        let width = |column: usize| {
            let cells = [&heading].into_iter().chain(rows).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        for (number, row) in [&heading].into_iter().chain(rows).enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            let line = line.trim_end();
            let line = if number == 0 { self.strong(line) } else { line.to_owned() };
            let _ = writeln!(page, "{line}");
        }
    }
}

/// Breaks text between words into lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let words = text.split(' ').map(|word| shown(word).chars().collect::<Vec<char>>());
    // A word that is longer than a line is broken as well.
    let pieces = words.flat_map(|word| match word.as_slice() {
        [] => vec![String::new()],
        word => word.chunks(width).map(String::from_iter).collect(),
    });
    for word in pieces {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word);
        } else if line.is_empty() {
            line.push_str(&word);
        } else {
            line.push(' ');
            line.push_str(&word);
        }
    }
    lines
}

/// Text of others, without characters that a terminal acts on.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The same, short enough for a cell.
pub(super) fn cell(text: &str) -> String {
    short(text, CELL)
}

/// The same, in at most `width` characters.
pub(super) fn short(text: &str, width: usize) -> String {
    let text = shown(text);
    if text.chars().count() <= width {
        return text;
    }
    let start: String = text.chars().take(width - 3).collect();
    format!("{start}...")
}

/// A prefix of the policy, for a cell.
pub(super) fn prefix(prefix: &str) -> String {
    if prefix.is_empty() { "(all others)".to_owned() } else { cell(prefix) }
}

/// A count in three digits: `999`, `12.3k`, `4.56M`.
#[expect(clippy::cast_precision_loss, reason = "three digits")]
pub(super) fn count(count: u64) -> String {
    scaled(count as f64, 1000.0, &["", "k", "M", "G", "T", "P", "E"]).replace(' ', "")
}

/// A rate in three digits.
pub(super) fn rate(rate: f64) -> String {
    format!("{}/s", scaled(rate, 1000.0, &["", "k", "M", "G"]).replace(' ', ""))
}

/// A size in three digits: `512 B`, `1.50 MiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits")]
pub(super) fn size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(mut figure: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter().peekable();
    let mut unit = units.next().copied().unwrap_or("");
    let mut is_whole = figure.fract() == 0.0;
    while figure >= 999.5 && (step < 1001.0 || figure >= 1023.5) {
        let Some(next) = units.next() else { break };
        (figure, unit, is_whole) = (figure / step, next, false);
    }
    let digits = match figure {
        _ if is_whole => 0,
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    format!("{figure:.digits$} {unit}").trim_end().to_owned()
}

/// A percentage, or `-`.
pub(super) fn percent(percent: Option<f64>) -> String {
    match percent {
        None => "-".to_owned(),
        // Not "100.0 %" while something is missing.
        Some(percent) if percent < 100.0 && percent > 99.94 => "99.9 %".to_owned(),
        Some(percent) => format!("{percent:.1} %"),
    }
}

/// A span of time in its two largest units.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |large: u64, unit: &str, small: u64, lesser: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {lesser}"),
    };
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (n, text) in [
            (0, "0"),
            (7, "7"),
            (999, "999"),
            (1000, "1.00k"),
            (12_345, "12.3k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(n), text);
        }
        for (bytes, text) in
            [(512, "512 B"), (1023, "1023 B"), (1 << 20, "1.00 MiB"), (3 << 29, "1.50 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert_eq!([rate(0.0), rate(0.25), rate(1234.5)], ["0/s", "0.25/s", "1.23k/s"]);
        assert_eq!(percent(Some(99.99)), "99.9 %");
        assert_eq!(percent(Some(100.0)), "100.0 %");
        for (ms, text) in
            [(30, "30 ms"), (61_000, "1 min 1 s"), (7_200_000, "2 h"), (90_000_000, "1 d 1 h")]
        {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn long_rows_go_on_below_and_nothing_of_others_reaches_the_terminal() {
        let mut page = String::new();
        Style::plain().row(&mut page, "Tier", &"many words \x1b[31m".repeat(20));
        Style::plain().row(&mut page, "Key", &"x".repeat(200));
        assert!(page.lines().count() > 2 && page.lines().all(|line| line.len() <= WIDTH), "{page}");
        assert!(
            page.lines().filter(|line| line.starts_with(&" ".repeat(LABEL))).count() > 5,
            "{page}"
        );
        assert!(!page.contains('\x1b'), "{page}");
        assert_eq!(cell(&"x".repeat(99)).len(), CELL);
    }
}
