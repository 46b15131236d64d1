//! A line chart as SVG.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - 20.0;
const PLOT_HEIGHT: f64 = HEIGHT - TOP - 80.0;
const COLOURS: [&str; 8] =
    ["#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#222222", "#17becf"];

/// One line, from left to right.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its label in the legend.
    pub name: String,
    /// Points, as x and y.
    pub places: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// The title, above it.
    pub title: String,
    /// Label of the horizontal axis.
    pub x: String,
    /// Label of the vertical axis, which begins at 0.
    pub y: String,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Chart {
    /// Draws the chart.
    pub fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| line.places.iter().copied());
        let least = all().map(|place| place.0).fold(f64::INFINITY, f64::min);
        let most = all().map(|place| place.0).fold(f64::NEG_INFINITY, f64::max);
        let top = nice(all().map(|place| place.1).fold(0.0, f64::max));
        let (least, most) = if least <= most { (least, most) } else { (0.0, 1.0) };
        let span = if most > least { most - least } else { 1.0 };
        let x = |at: f64| LEFT + (at - least) / span * PLOT_WIDTH;
        let y = |at: f64| TOP + (1.0 - at / top) * PLOT_HEIGHT;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
             fill=\"white\"/>\n"
        );
        // Writing to a String does not fail.
        let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
            let text = escaped(text);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
            );
        };
        text(LEFT, 18.0, "start", &self.title);
        text(LEFT - 6.0, TOP - 8.0, "end", &self.y);
        text(LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT + 34.0, "end", &self.x);
        for step in 0..=5 {
            let part = f64::from(step) / 5.0;
            text(LEFT - 6.0, y(top * part) + 4.0, "end", &figure(top * part));
            let at = least + span * part;
            text(x(at), TOP + PLOT_HEIGHT + 18.0, "middle", &figure(at));
        }
        for (number, line) in self.lines.iter().enumerate() {
            let (at, below) = key(number);
            text(at + 20.0, below + 4.0, "start", &line.name);
        }
        for step in 0..=5 {
            let at = y(top * f64::from(step) / 5.0);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
                LEFT + PLOT_WIDTH
            );
        }
        for (number, (line, colour)) in self.lines.iter().zip(COLOURS).enumerate() {
            let (at, below) = key(number);
            let _ = writeln!(
                svg,
                "<line x1=\"{at}\" y1=\"{below:.1}\" x2=\"{:.1}\" y2=\"{below:.1}\" \
                 stroke=\"{colour}\" stroke-width=\"2\"/>",
                at + 16.0
            );
            let places: Vec<String> = line
                .places
                .iter()
                .map(|place| format!("{:.1},{:.1}", x(place.0), y(place.1)))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
                places.join(" ")
            );
        }
        svg + "</svg>\n"
    }
}

/// Position of a line's entry in the legend.
fn key(number: usize) -> (f64, f64) {
    (LEFT + 140.0 * (number % 4) as f64, TOP + PLOT_HEIGHT + 48.0 + 16.0 * (number / 4) as f64)
}

/// Rounds up to 1, 2, 2.5 or 5 times a power of ten.
fn nice(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= most).unwrap_or(most)
}

fn figure(value: f64) -> String {
    let text = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_lines_and_no_markup_of_theirs() {
        let line = |name: &str| Line { name: name.into(), places: vec![(0.0, 1.0), (10.0, 42.0)] };
        let chart = Chart {
            title: "a < b".into(),
            x: "x".into(),
            y: "y".into(),
            lines: vec![line("one"), line("two & three")],
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(
            svg.contains("a &lt; b") && svg.contains("two &amp; three") && svg.contains(">50<")
        );
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(!Chart { lines: vec![], ..chart }.svg().contains("NaN"));
    }
}
