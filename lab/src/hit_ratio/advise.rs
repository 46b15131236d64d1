//! The table's own estimates for other sizes, beside replays at those sizes.

use super::contestant::{Contestant, Name, Room};
use super::options::HitRatioOptions;
use super::replay::replay;
use super::shape::Shape;
use super::size::Size;
use super::stream::Stream;
use super::table::SharedTable;
use crate::progress::Progress;
use crate::table::table;
use anyhow::Result;
use serde::Serialize;

/// A table with fewer objects is not judged.
const JUDGED: u64 = 1000;

#[derive(Debug, Serialize)]
struct Point {
    trace: String,
    /// Capacity of the table that estimates.
    capacity: u64,
    times: f64,
    estimated_hit_percent: f64,
    replayed_hit_percent: f64,
    is_judged: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    points: Vec<Point>,
    /// Mean over the judged points.
    mean_error: f64,
    greatest_error: f64,
}

/// Runs `hit-ratio --advise`.
///
/// # Errors
/// No memory for a table.
pub fn advise(streams: &[Stream], sizes: &[Size], options: &HitRatioOptions) -> Result<()> {
    let progress = Progress::new();
    let mut points = Vec::new();
    for stream in streams {
        for size in sizes {
            progress.say(&format!("{}, {size}", stream.name));
            points.extend(estimates(stream, size.of(stream), options)?);
        }
    }
    let errors: Vec<f64> = points
        .iter()
        .filter(|point| point.is_judged)
        .map(|point| (point.estimated_hit_percent - point.replayed_hit_percent).abs())
        .collect();
    let report = Report {
        points,
        mean_error: errors.iter().sum::<f64>() / (errors.len() as f64).max(1.0),
        greatest_error: errors.iter().copied().fold(0.0, f64::max),
    };
    if crate::output::json(options.json, &report)? {
        return Ok(());
    }
    let mut lines =
        table(1, ["trace", "table", "times", "estimated %", "replayed %", "error", "judged"]);
    for point in &report.points {
        let (estimated, replayed) = (point.estimated_hit_percent, point.replayed_hit_percent);
        lines.add_row([
            point.trace.clone(),
            point.capacity.to_string(),
            point.times.to_string(),
            format!("{estimated:.2}"),
            format!("{replayed:.2}"),
            format!("{:+.2}", estimated - replayed),
            if point.is_judged { "yes" } else { "" }.to_owned(),
        ]);
    }
    crate::output::print(format!(
        "What a table estimates of other sizes, and what a replay with a table of that size \
         gives. Judged where\n\
         the smaller of both holds at least {JUDGED} objects.\n{lines}\nMean error {:.2} points, \
         greatest {:.2}.",
        report.mean_error, report.greatest_error
    ))?;
    Ok(())
}

fn estimates(stream: &Stream, room: Room, options: &HitRatioOptions) -> Result<Vec<Point>> {
    let reports = options.reports();
    // Objects that even half of the table takes: an estimate cannot know about objects that are
    // refused at one size and accepted at another.
    let largest = Some(Shape::largest(room.capacity / 2));
    let mut stream = stream.clone();
    stream.largest = largest;
    let stream = &stream;
    let replayed = |room: Room| match replay(Name::L1d, stream, room, reports) {
        Ok(outcome) => Ok(Some(outcome)),
        // A table cannot be that small.
        Err(error) if error.downcast_ref::<shm_layout::LayoutError>().is_some() => Ok(None),
        Err(error) => Err(error),
    };
    // The same table that holds no more than the capacity.
    let Some(own) = replayed(room)? else { return Ok(Vec::new()) };
    let mut shared = SharedTable::new(stream, room, reports, own.segments_less)?.with_advisor();
    for &id in &stream.requests {
        shared.request(id, stream.weight(id));
    }
    let Some(advice) = shared.advice() else { return Ok(Vec::new()) };
    let Some(overall) = advice.overall else { return Ok(Vec::new()) };
    let mut points = Vec::new();
    for (times, estimated) in advice.times.into_iter().zip(overall) {
        let scaled = |figure: u64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
            let scaled = (figure as f64 * times) as u64;
            scaled.max(1)
        };
        let other = Room { capacity: scaled(room.capacity), objects: scaled(room.objects) };
        let Some(outcome) = replayed(other)? else { continue };
        points.push(Point {
            trace: stream.name.clone(),
            capacity: room.capacity,
            times,
            estimated_hit_percent: estimated * 100.0,
            replayed_hit_percent: outcome.object_hit_percent,
            is_judged: room.objects.min(other.objects) >= JUDGED,
        });
    }
    Ok(points)
}
