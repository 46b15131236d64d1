//! `l1d-lab copied`: the cost of overwriting. A log nearly full of live entries has to copy them to
//! reclaim the dead ones between them, or evict some.

use crate::chart::{Chart, Line};
use crate::progress::Progress;
use crate::random::Random;
use crate::table::table;
use crate::zipf::Zipf;
use anyhow::{Context, Result};
use l1d::table::Table;
use memmap2::{MmapOptions, MmapRaw};
use serde::Serialize;
use shm_layout::entry::NEVER;
use shm_layout::{Entry, Geometry, MappedMut, Plan, Writer};
use std::path::PathBuf;

const VALUE_BYTES: usize = 480;
/// Header, key and value.
const ENTRY_BYTES: u64 = 24 + 8 + VALUE_BYTES as u64;
const THETA: f64 = 0.99;

/// Options of `copied`.
#[derive(Debug, Clone, clap::Args)]
pub struct CopiedOptions {
    /// Bytes of the table, in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(16..=65_536))]
    table_mib: u64,
    /// How many times over the log is written at each point
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=1000))]
    times: u64,
    /// Also draw the curve into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// A log with this live share if nothing were evicted.
#[derive(Debug, Serialize)]
struct Point {
    asked_live_percent: u64,
    /// On average over the second half.
    live_percent: f64,
    dead_percent: f64,
    copied_per_byte: f64,
    /// Live entries evicted per thousand stored.
    evicted_per_thousand: f64,
    /// The largest dead share of the log when a live entry was evicted; 0 if none was.
    dead_percent_at_eviction: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    table_mib: u64,
    entry_bytes: u64,
    theta: f64,
    points: Vec<Point>,
}

/// Runs `copied`.
///
/// # Errors
/// The table gets no memory, or the file cannot be written.
pub fn copied(options: &CopiedOptions) -> Result<()> {
    let progress = Progress::new();
    let mut points = Vec::new();
    for percent in (30..=100).step_by(5) {
        progress.say(&format!("{percent} % of the log are to live"));
        points.push(overwrite(options, percent)?);
    }
    let report =
        Report { table_mib: options.table_mib, entry_bytes: ENTRY_BYTES, theta: THETA, points };
    if let Some(path) = &options.plot {
        std::fs::write(path, report.svg())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if crate::output::json(options.json, &report)? {
        return Ok(());
    }
    let mut lines = table(
        1,
        [
            "live asked, %",
            "live, %",
            "dead, %",
            "copied/byte",
            "evicted of 1,000",
            "dead at eviction, %",
        ],
    );
    for point in &report.points {
        lines.add_row([
            point.asked_live_percent.to_string(),
            format!("{:.1}", point.live_percent),
            format!("{:.1}", point.dead_percent),
            format!("{:.2}", point.copied_per_byte),
            format!("{:.1}", point.evicted_per_thousand),
            format!("{:.1}", point.dead_percent_at_eviction),
        ]);
    }
    crate::output::print(format!(
        "Overwrites of keys drawn by zipf {THETA}, entries of {ENTRY_BYTES} bytes, a table of {} \
         MiB that is written \
         over {} times.\n{lines}",
        options.table_mib, options.times
    ))?;
    Ok(())
}

impl Report {
    fn svg(&self) -> String {
        let line = |name: &str, figure: fn(&Point) -> f64| Line {
            name: name.into(),
            places: self.points.iter().map(|point| (point.dead_percent, figure(point))).collect(),
        };
        let mut lines = vec![
            line("copied / written", |point| point.copied_per_byte),
            line("evicted / stored", |point| point.evicted_per_thousand / 1000.0),
        ];
        for line in &mut lines {
            line.places.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let chart = Chart {
            title: format!("Overwrites, zipf {THETA}: what dead bytes save"),
            x: "dead, % of the log".into(),
            y: "share".into(),
            lines,
        };
        chart.svg()
    }
}

fn overwrite(options: &CopiedOptions, percent: u64) -> Result<Point> {
    let plan = Plan {
        table_bytes: options.table_mib << 20,
        value_bytes_max: 1000,
        entry_bytes: u32::try_from(ENTRY_BYTES)?,
        ..Plan::default()
    };
    let geometry = Geometry::plan(&plan)?;
    let memory = MmapOptions::new().len(geometry.words() * 8).map_anon();
    let memory = MmapRaw::from(memory.context("no memory for the table")?);
    // SAFETY: page-aligned, and mapped until after the table is dropped, because it is declared
    // earlier.
    let words = unsafe { MappedMut::new(memory.as_mut_ptr()) };
    // SAFETY: the mapping has the bytes of this geometry, all zero.
    let mut table = Table::new(unsafe { Writer::create(words, geometry) });

    let log = geometry.log_bytes();
    let keys = usize::try_from(log * percent / 100 / ENTRY_BYTES)?;
    let mut random = Random::new(options.seed);
    let (zipf, owners) = (Zipf::new(keys, THETA), random.permutation(keys));
    let value = [7; VALUE_BYTES];
    let put = |table: &mut Table<MappedMut>, key: u32| {
        let key = u64::from(key).to_le_bytes();
        let entry = Entry { key: &key, value: &value, expiry: NEVER, ..Entry::default() };
        table.put(&entry, 0).map(drop)
    };
    for &key in &owners {
        put(&mut table, key)?;
    }
    let stores = log * options.times / ENTRY_BYTES;
    let (mut live, mut dead, mut looks, mut dead_at_eviction) = (0.0, 0.0, 0.0, 0.0_f64);
    let mut begun = table.stats();
    let mut evicted = begun.evicted;
    for number in 0..stores {
        if number == stores / 2 {
            begun = table.stats();
        }
        put(&mut table, owners[zipf.rank(&mut random)])?;
        // Often enough to catch the state of the log at an eviction.
        if number % 8 == 0 {
            let stats = table.stats();
            let dead_percent = stats.dead_bytes as f64 * 100.0 / log as f64;
            if stats.evicted > evicted {
                evicted = stats.evicted;
                dead_at_eviction = dead_at_eviction.max(dead_percent);
            }
            if number >= stores / 2 {
                live += stats.live_bytes as f64 * 100.0 / log as f64;
                dead += dead_percent;
                looks += 1.0;
            }
        }
    }
    let end = table.stats();
    let stored = (end.puts - begun.puts) as f64;
    Ok(Point {
        asked_live_percent: percent,
        live_percent: live / looks,
        dead_percent: dead / looks,
        copied_per_byte: (end.copied_forward_bytes - begun.copied_forward_bytes) as f64
            / (end.put_bytes - begun.put_bytes) as f64,
        evicted_per_thousand: (end.evicted - begun.evicted) as f64 * 1000.0 / stored,
        dead_percent_at_eviction: dead_at_eviction,
    })
}
