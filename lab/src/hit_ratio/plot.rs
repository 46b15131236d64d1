//! The curves as SVG: a panel for each stream, hit ratio over size.

use super::contestant::Name;
use super::report::{Measure, Point, Report};
use std::fmt::Write;

const PANEL_WIDTH: f64 = 380.0;
const PANEL_HEIGHT: f64 = 270.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 34.0;
const PLOT_WIDTH: f64 = PANEL_WIDTH - LEFT - 14.0;
const PLOT_HEIGHT: f64 = PANEL_HEIGHT - TOP - 44.0;
const COLUMNS: usize = 3;
const LEGEND_HEIGHT: f64 = 30.0;

/// Draws the whole picture.
pub fn svg(report: &Report) -> String {
    let mut panels: Vec<(String, Measure, Vec<&Point>)> = Vec::new();
    for measure in [Measure::Objects, Measure::Bytes] {
        for point in &report.points {
            if point.best_rival(measure).is_none() {
                continue;
            }
            let same = |panel: &&mut (String, Measure, Vec<&Point>)| {
                panel.0 == point.trace && panel.1 == measure
            };
            match panels.iter_mut().find(same) {
                Some(panel) => panel.2.push(point),
                None => panels.push((point.trace.clone(), measure, vec![point])),
            }
        }
    }
    let columns = panels.len().clamp(1, COLUMNS);
    let width = (columns as f64 * PANEL_WIDTH).max(2.0 * PANEL_WIDTH);
    let height = panels.len().div_ceil(columns) as f64 * PANEL_HEIGHT + LEGEND_HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n"
    );
    legend(&mut svg, width);
    for (number, (trace, measure, points)) in panels.iter().enumerate() {
        let x = (number % columns) as f64 * PANEL_WIDTH;
        let y = (number / columns) as f64 * PANEL_HEIGHT + LEGEND_HEIGHT;
        let _ = writeln!(svg, "<g transform=\"translate({x},{y})\">");
        panel(&mut svg, trace, *measure, points);
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

fn legend(svg: &mut String, width: f64) {
    let step = (width - 20.0) / Name::ALL.len() as f64;
    for (number, name) in Name::ALL.into_iter().enumerate() {
        let x = 10.0 + number as f64 * step;
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"15\" x2=\"{}\" y2=\"15\" {}/><text x=\"{}\" y=\"18\" \
             font-size=\"10\">{}</text>",
            x + 16.0,
            stroke(name),
            x + 19.0,
            name.text()
        );
    }
}

/// Sizes on a logarithmic axis, hit ratio from 0 to the next multiple of ten above all.
fn panel(svg: &mut String, trace: &str, measure: Measure, points: &[&Point]) {
    let sizes: Vec<f64> = points.iter().map(|point| point.size_percent.percent().ln()).collect();
    let (least, most) =
        sizes.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), size| {
            (size.min(least), size.max(most))
        });
    let hits = points.iter().flat_map(|point| Name::ALL.map(|name| point.hit(name, measure)));
    let top = (hits.flatten().fold(10.0, f64::max) / 10.0).ceil() * 10.0;
    let x = |size: f64| {
        let share = if most > least { (size - least) / (most - least) } else { 0.5 };
        LEFT + share * PLOT_WIDTH
    };
    let y = |hit: f64| TOP + (1.0 - hit / top) * PLOT_HEIGHT;
    let what = if measure == Measure::Bytes { "bytes hit" } else { "objects hit" };
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"20\" font-weight=\"bold\">{}</text><text x=\"{}\" y=\"20\" \
         text-anchor=\"end\">{what}, %</text>",
        escaped(trace),
        LEFT + PLOT_WIDTH
    );
    for step in 0..=5 {
        let hit = top * f64::from(step) / 5.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{0:.1}\" x2=\"{1:.1}\" y2=\"{0:.1}\" \
             stroke=\"#ddd\"/><text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{hit:.0}</text>",
            y(hit),
            LEFT + PLOT_WIDTH,
            LEFT - 5.0,
            y(hit) + 4.0
        );
    }
    for (point, size) in points.iter().zip(&sizes) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(*size),
            TOP + PLOT_HEIGHT + 16.0,
            point.size_percent
        );
    }
    // l1d last, on top.
    let order = Name::ALL.into_iter().filter(|name| *name != Name::L1d).chain([Name::L1d]);
    for name in order {
        let places: Vec<String> = points
            .iter()
            .zip(&sizes)
            .filter_map(|(point, size)| {
                Some(format!("{:.1},{:.1}", x(*size), y(point.hit(name, measure)?)))
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" points=\"{}\" {}/>",
            places.join(" "),
            stroke(name)
        );
        for place in &places {
            if let Some((x, y)) = place.split_once(',') {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x}\" cy=\"{y}\" r=\"2\" fill=\"{}\"/>",
                    colour(name)
                );
            }
        }
    }
}

fn colour(name: Name) -> &'static str {
    match name {
        Name::Optimum => "#999999",
        Name::L1d => "#d62728",
        Name::Moka => "#1f77b4",
        Name::QuickCache => "#2ca02c",
        Name::FoyerS3Fifo => "#9467bd",
        Name::FoyerTinyLfu => "#ff7f0e",
        Name::FoyerLru => "#8c564b",
        Name::Lru => "#222222",
    }
}

fn stroke(name: Name) -> String {
    let (width, dashes) = match name {
        Name::L1d => (2.5, ""),
        Name::Optimum => (1.5, " stroke-dasharray=\"5 4\""),
        _ => (1.3, ""),
    };
    format!("stroke=\"{}\" stroke-width=\"{width}\"{dashes}", colour(name))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
