//! The report as text.

use super::contestant::Name;
use super::report::{JUDGED_OBJECTS_MIN, Measure, Report, Summary};
use crate::table::table;

impl Report {
    /// A table for objects, another for bytes if sizes are known, and a summary.
    pub fn text(&self) -> String {
        let mut text = self.one("objects", Measure::Objects, self.object_hits.as_ref());
        if self.byte_hits.is_some()
            || self.points.iter().any(|point| point.gap(Measure::Bytes).is_some())
        {
            text += "\n\n";
            text += &self.one("bytes", Measure::Bytes, self.byte_hits.as_ref());
        }
        text += &format!(
            "\n\ngap: points that l1d is below the best rival (negative: above it). of opt.: \
             l1d's fraction of the\n\
             offline optimum{}. copied: bytes that l1d copied again for each byte stored.\n\
             l1d learned of one hit in {}, {:.0} % of that lost, in batches of {}.",
            if self.points.iter().any(|point| point.gap(Measure::Bytes).is_some()) {
                " (with sizes: Belady's rule, a mark and no bound)"
            } else {
                ""
            },
            self.reports.one_in,
            self.reports.loss * 100.0,
            self.reports.batch,
        );
        text
    }

    fn one(&self, what: &str, measure: Measure, summary: Option<&Summary>) -> String {
        let mut table = table(
            2,
            [
                "trace",
                "size",
                "holds",
                "optimum",
                "l1d",
                "moka",
                "quick_cache",
                "foyer S3-FIFO",
                "foyer W-TinyLFU",
                "foyer LRU",
                "LRU",
                "gap",
                "of opt.",
                "copied",
            ],
        );
        let show = |figure: Option<f64>| figure.map_or("-".into(), |figure| format!("{figure:.2}"));
        for point in &self.points {
            if point.best_rival(measure).is_none() {
                continue;
            }
            let mark = if point.is_judged() { "" } else { "*" };
            let mut row = vec![
                point.trace.clone(),
                format!("{}{mark}", point.size_percent),
                point.capacity.to_string(),
            ];
            row.extend(Name::ALL.map(|name| show(point.hit(name, measure))));
            row.push(show(point.gap(measure)));
            row.push(show3(point.of_optimum(Name::L1d, measure)));
            let l1d = point.outcomes.iter().find(|outcome| outcome.name == Name::L1d);
            row.push(show(l1d.and_then(|outcome| outcome.copied_per_byte)));
            table.add_row(row);
        }
        let Some(summary) = summary else {
            return format!(
                "Hit ratio of {what}, percent\n{table}\nno means: no size holds \
                 {JUDGED_OBJECTS_MIN} objects"
            );
        };
        let means = |figure: &dyn Fn(super::report::Mean) -> String| {
            Name::ALL.map(|name| summary.mean(name).map_or("-".into(), figure))
        };
        let row = |title: &str, figures: [String; 8], gap: String| {
            let mut row = vec![title.to_owned(), String::new(), String::new()];
            row.extend(figures);
            row.push(gap);
            row
        };
        table.add_row(row(
            "mean",
            means(&|mean| format!("{:.2}", mean.hit_percent)),
            format!("{:.2}", summary.gap_mean),
        ));
        table.add_row(row(
            "mean of optimum",
            means(&|mean| format!("{:.3}", mean.of_optimum)),
            String::new(),
        ));
        let skipped = self.points.len() > summary.points && measure == Measure::Objects;
        format!(
            "Hit ratio of {what}, percent\n{table}\nmeans of {} points; greatest gap {:.2} ({}){}",
            summary.points,
            summary.gap_max,
            summary.gap_max_at,
            if skipped {
                format!("; *: fewer than {JUDGED_OBJECTS_MIN} objects, not in the means")
            } else {
                String::new()
            }
        )
    }
}

fn show3(figure: Option<f64>) -> String {
    figure.map_or("-".into(), |figure| format!("{figure:.3}"))
}
