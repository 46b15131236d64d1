//! `l1d-lab bytes`: the bytes that an entry costs in addition to its key and value.

use super::loaded::load_numbered;
use super::workload::{KEY_BYTES, VALUE_BYTES};
use crate::progress::Progress;
use crate::table::table;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

/// Options of `bytes`.
#[derive(Debug, Clone, clap::Args)]
pub struct BytesOptions {
    /// Entries of 24 + 64 bytes to load
    #[arg(
        long,
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(1000..=100_000_000)
    )]
    entries: u32,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// Bytes per entry, and the other contents of the table.
#[derive(Debug, Serialize)]
struct Report {
    entries: u64,
    key_bytes: usize,
    value_bytes: usize,
    /// Header and padding, per entry.
    header_bytes_per_entry: f64,
    /// Index including its empty slots, per entry.
    index_bytes_per_entry: f64,
    /// The daemon's private bytes for the table, per entry.
    owner_private_bytes_per_entry: f64,
    /// The sum of these, which the goal limits.
    overhead_bytes_per_entry: f64,
    index_load_percent: f64,
    /// Keys that found both their lines full; each displaced another entry.
    displaced: u64,
    dead_bytes: u64,
    free_bytes: u64,
    table_bytes: u64,
    /// Resident private memory of the whole daemon, including code, runtime and buffers.
    daemon_anonymous_bytes: u64,
}

/// Runs `bytes`.
///
/// # Errors
/// The daemon does not start, does not hold the keys it was given, or lacks a statistic.
pub fn bytes(options: &BytesOptions) -> Result<()> {
    let report = measure(options)?;
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text(&report))?;
    }
    Ok(())
}

fn measure(options: &BytesOptions) -> Result<Report> {
    let progress = Progress::new();
    let daemon =
        load_numbered(options.entries as usize, VALUE_BYTES, options.l1d.as_deref(), &progress)?;
    let stats: Value = serde_json::from_str(&daemon.client()?.admin().stats_json()?)
        .context("the daemon's stats are no JSON")?;
    let figure = |name: &str| {
        let value = stats.pointer(&format!("/table/{name}")).and_then(Value::as_f64);
        value.with_context(|| format!("the daemon's stats have no table.{name}"))
    };
    let count = |name: &str| {
        let value = stats.pointer(&format!("/table/{name}")).and_then(Value::as_u64);
        value.with_context(|| format!("the daemon's stats have no table.{name}"))
    };
    let entries = figure("entries")?;
    let header = figure("live_bytes")? / entries - (KEY_BYTES + VALUE_BYTES) as f64;
    let index = figure("index_bytes")? / entries;
    // Memory for l1ctl advise, which is part of the daemon's.
    let advisor = stats.pointer("/advisor_private_bytes").and_then(Value::as_f64);
    let advisor = advisor.context("the daemon's stats have no advisor_private_bytes")?;
    let private = (figure("owner_private_bytes")? + advisor) / entries;
    Ok(Report {
        entries: count("entries")?,
        key_bytes: KEY_BYTES,
        value_bytes: VALUE_BYTES,
        header_bytes_per_entry: header,
        index_bytes_per_entry: index,
        owner_private_bytes_per_entry: private,
        overhead_bytes_per_entry: header + index + private,
        index_load_percent: figure("index_load_percent")?,
        displaced: count("displaced")?,
        dead_bytes: count("dead_bytes")?,
        free_bytes: count("free_bytes")?,
        table_bytes: count("table_bytes")?,
        daemon_anonymous_bytes: crate::memory::of_process(daemon.pid())?.anonymous_bytes,
    })
}

fn text(report: &Report) -> String {
    let mut table = table(1, ["for each entry", "bytes"]);
    let rows = [
        ("header and padding", report.header_bytes_per_entry),
        ("index, empty slots included", report.index_bytes_per_entry),
        ("private memory of the owner", report.owner_private_bytes_per_entry),
        ("beyond key and value, in all", report.overhead_bytes_per_entry),
    ];
    for (name, bytes) in rows {
        table.add_row([name.to_owned(), format!("{bytes:.2}")]);
    }
    format!(
        "{} entries of {} + {} bytes, index {:.0} % full, {} displaced\n{table}\n\
         apart from entries: {} dead bytes, {} free bytes, in a table of {}; the daemon's own \
         private memory: {}",
        report.entries,
        report.key_bytes,
        report.value_bytes,
        report.index_load_percent,
        report.displaced,
        report.dead_bytes,
        report.free_bytes,
        bytesize::ByteSize(report.table_bytes),
        bytesize::ByteSize(report.daemon_anonymous_bytes),
    )
}
