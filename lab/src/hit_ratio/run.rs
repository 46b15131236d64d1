//! The command: each stream, at each size, with each contestant.

use super::advise;
use super::contestant::Name;
use super::options::HitRatioOptions;
use super::plot;
use super::replay::{Outcome, replay};
use super::report::{Point, Report};
use super::reports::Reports;
use super::size::Size;
use super::stream::Stream;
use super::synthetic;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::trace::Trace;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `hit-ratio`.
///
/// # Errors
/// A file is no trace or cannot be written, or a table gets no memory.
pub fn hit_ratio(options: &HitRatioOptions) -> Result<()> {
    let sizes = options.sizes()?;
    // Opened before minutes of work, not after.
    let plot = options.plot.as_deref().map(|path| Ok::<_, anyhow::Error>((path, create(path)?)));
    let plot = plot.transpose()?;
    let mut streams = Vec::new();
    for path in &options.traces {
        streams.push(Stream::of(&name(path), Trace::read(path)?));
    }
    if options.synthetic {
        streams.extend(synthetic::streams(options.seed));
    }
    if options.advise {
        return advise::advise(&streams, &sizes, options);
    }
    let points: Vec<(&Stream, Size)> =
        streams.iter().flat_map(|stream| sizes.iter().map(move |size| (stream, *size))).collect();
    let report = Report::new(options.reports(), measure(&points, options)?);
    if let Some((path, mut file)) = plot {
        file.write_all(plot::svg(&report).as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !crate::output::json(options.json, &report)? {
        crate::output::print(report.text())?;
    }
    Ok(())
}

/// All replays, several in parallel; the results do not depend on how many.
fn measure(points: &[(&Stream, Size)], options: &HitRatioOptions) -> Result<Vec<Point>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.map_or(cores, usize::from);
    let reports = options.reports();
    let jobs = points.len() * Name::ALL.len();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let progress = Progress::new();
    let work = || {
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let (Some((stream, size)), Some(name)) =
                (points.get(job / Name::ALL.len()), Name::ALL.get(job % Name::ALL.len()))
            else {
                return;
            };
            progress.say(&format!(
                "{} of {jobs}: {}, {size}, {}",
                job + 1,
                stream.name,
                name.text()
            ));
            let outcome = one(*name, stream, *size, reports);
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((job, outcome));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.max(1)) {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(job, _)| *job);
    let mut outcomes = done.into_iter().map(|(_, outcome)| outcome);
    let point = |(stream, size): &(&Stream, Size)| {
        let room = size.of(stream);
        let outcomes: Result<Vec<Option<Outcome>>> =
            outcomes.by_ref().take(Name::ALL.len()).collect();
        Ok(Point {
            trace: stream.name.clone(),
            requests: stream.requests.len() as u64,
            size_percent: *size,
            capacity: room.capacity,
            objects: room.objects,
            outcomes: outcomes?.into_iter().flatten().collect(),
        })
    };
    points.iter().map(point).collect()
}

/// `None` if a table cannot be that small.
fn one(name: Name, stream: &Stream, size: Size, reports: Reports) -> Result<Option<Outcome>> {
    match replay(name, stream, size.of(stream), reports) {
        Ok(outcome) => Ok(Some(outcome)),
        Err(error) if error.downcast_ref::<shm_layout::LayoutError>().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

fn create(path: &Path) -> Result<File> {
    let error = || Failure::Usage(format!("cannot write the plot {}", path.display()));
    File::create(path).with_context(error)
}

/// A file's name without the extensions for its format.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = name.strip_suffix(".xz").unwrap_or(&name);
    name.strip_suffix(".txt").unwrap_or(name).to_owned()
}
