//! The report of `hot-key`.

use crate::machine::Machine;
use crate::reads::rivals::Skipped;
use crate::statistics::Spread;
use crate::table::table;
use serde::Serialize;

/// One contestant beside one yardstick, without or with the writer.
#[derive(Debug, Serialize)]
pub struct Row {
    /// `quiet` or `written`.
    pub case: &'static str,
    /// Number of readers.
    pub readers: usize,
    /// The contestant.
    pub contestant: &'static str,
    /// `processes` or `threads`.
    pub readers_are: &'static str,
    /// `limit` in the same case, or `quiet`: the contestant itself without the writer.
    pub yardstick: &'static str,
    /// ns per read, mean of the readers, by round.
    pub ns: Vec<f64>,
    /// Ratio to the yardstick, by round.
    pub ratio: Vec<f64>,
    /// Sets per second of the writer, by round; empty without the writer.
    pub sets_per_second: Vec<f64>,
    /// Reads that found nothing.
    pub missed: u64,
    /// Values that mix two sets.
    pub torn: u64,
}

/// How well readers of the same keys scale, without the writer.
#[derive(Debug, Serialize)]
pub struct Scaling {
    /// Number of readers.
    pub readers: usize,
    /// The contestant.
    pub contestant: &'static str,
    /// ns per read of one reader while the others rest, mean over the readers, by round.
    pub alone_ns: Vec<f64>,
    /// The same while all read.
    pub together_ns: Vec<f64>,
    /// Time alone divided by time together, by round: 1 if readers do not slow each other.
    pub scaling: Vec<f64>,
    /// The limit's scaling divided by this one in the same round.
    pub to_limit: Vec<f64>,
}

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The command line.
    pub command: String,
    /// Rounds that count.
    pub rounds: usize,
    /// Length of a turn, without and with the writer, in ms.
    pub round_ms: u64,
    /// Keys, read at random and set in turn.
    pub keys: u32,
    /// The requested rate of sets per second.
    pub sets: u32,
    /// All rows.
    pub rows: Vec<Row>,
    /// Scaling, if there are several readers.
    pub scaling: Vec<Scaling>,
    /// The contestants that did not take part.
    pub skipped: Vec<Skipped>,
}

impl Report {
    /// The tables with explanations.
    pub fn text(&self) -> String {
        let mut lines = table(
            3,
            [
                "readers",
                "contestant",
                "in",
                "quiet, ns",
                "x limit",
                "written, ns",
                "x limit",
                "x quiet",
                "sets/s",
                "missed",
                "torn",
            ],
        );
        for quiet in self.rows.iter().filter(|row| row.case == "quiet") {
            let same = |yardstick| {
                self.rows.iter().find(|row| {
                    row.case == "written"
                        && (row.readers, row.contestant) == (quiet.readers, quiet.contestant)
                        && row.yardstick == yardstick
                })
            };
            let (Some(written), Some(itself)) = (same("limit"), same("quiet")) else { continue };
            lines.add_row([
                quiet.readers.to_string(),
                quiet.contestant.to_owned(),
                quiet.readers_are.to_owned(),
                Spread::of(quiet.ns.clone()).to_string(),
                format!("{:.2}", Spread::of(quiet.ratio.clone())),
                Spread::of(written.ns.clone()).to_string(),
                format!("{:.2}", Spread::of(written.ratio.clone())),
                format!("{:.2}", Spread::of(itself.ratio.clone())),
                format!("{:.0}", Spread::of(written.sets_per_second.clone()).median),
                (quiet.missed + written.missed).to_string(),
                written.torn.to_string(),
            ]);
        }
        let mut text = format!(
            "{}, kernel {}, {} cores. {} of 24 bytes with values of 64, read at random; quiet: \
             nobody writes,\n\
             written: {} sets/s, each key in turn. Medians (least-greatest) of {} rounds of {} \
             ms each, in turns;\n\
             ratios are taken round by round. limit: words at a known place, loaded and stored \
             one by one, torn or not.\n{lines}",
            self.machine.cpu,
            self.machine.kernel,
            self.machine.cores.len(),
            if self.keys == 1 { "one key".to_owned() } else { format!("{} keys", self.keys) },
            self.sets,
            self.rounds,
            self.round_ms,
        );
        if !self.scaling.is_empty() {
            text += &self.scaling_text();
        }
        for Skipped { name, reason } in &self.skipped {
            text += &format!("\nWithout {name}: {reason}");
        }
        text
    }

    fn scaling_text(&self) -> String {
        let header = ["readers", "contestant", "alone, ns", "together, ns", "scaling", "/ limit's"];
        let mut lines = table(2, header);
        for row in &self.scaling {
            lines.add_row([
                row.readers.to_string(),
                row.contestant.to_owned(),
                Spread::of(row.alone_ns.clone()).to_string(),
                Spread::of(row.together_ns.clone()).to_string(),
                Spread::of(row.scaling.clone()).to_string(),
                Spread::of(row.to_limit.clone()).to_string(),
            ]);
        }
        format!(
            "\nReaders together, each on a core of its own, against each of them alone, without \
             writes (1.00: as fast as alone):\n{lines}"
        )
    }
}
