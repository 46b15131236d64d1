//! Reads other than hits of small values, each beside its own yardstick.

mod batch;
mod copy;
mod decoded;
mod in_place;
mod miss;

use super::command::ReadCommand;
use super::contest::{Contestant, Entrant, Reads, contest};
use super::pass::Chain;
use super::report::Skip;
use super::workload::{Places, Popularity, Stream, Workload};
use crate::progress::Progress;
use anyhow::Result;
use serde::Serialize;

/// Bytes of a large value.
const LARGE_BYTES: usize = 16 << 10;

/// The kind of read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// Values of 64 bytes, copied out
    Hit,
    /// Keys that do not exist
    Miss,
    /// 16 keys at once
    Batch,
    /// Values of 1 KiB and 16 KiB, copied out
    Copy,
    /// 8 bytes of a value of 16 KiB
    InPlace,
    /// A JSON value of 16 KiB as an object
    Decoded,
}

impl Case {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Case::Hit => "hit",
            Case::Miss => "miss",
            Case::Batch => "batch",
            Case::Copy => "copy",
            Case::InPlace => "in-place",
            Case::Decoded => "decoded",
        }
    }
}

/// One contestant's rounds beside one yardstick's.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// Number of keys and their popularity.
    pub workload: String,
    /// Kind of read.
    pub chain: Chain,
    /// The contestant.
    pub contestant: &'static str,
    /// The form in which the contestant returns a value, before the copy to the reader's own
    /// memory.
    pub hands_out: &'static str,
    /// The contestant it is compared with.
    pub yardstick: &'static str,
    /// ns per read, or per key of a batch, by round.
    pub ns: Vec<f64>,
    /// Ratio to the yardstick, by round.
    pub ratio: Vec<f64>,
}

/// The result of a case.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rows of the table.
    pub rows: Vec<Row>,
    /// The contestants that did not take part.
    pub skipped: Vec<Skip>,
}

/// The settings of a case.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Rivals, rounds and the daemon's program.
    pub command: &'a ReadCommand,
    /// The reader's core.
    pub core: usize,
    /// The progress line.
    pub progress: &'a Progress,
}

/// Runs any case but hits.
///
/// # Errors
/// No memory, no core, no daemon, or a contestant that read a wrong value.
pub fn measure(case: Case, setting: &Setting<'_>) -> Result<Outcome> {
    match case {
        Case::Hit => Ok(Outcome::default()),
        Case::Miss => miss::measure(setting),
        Case::Batch => batch::measure(setting),
        Case::Copy => copy::measure(setting),
        Case::InPlace => in_place::measure(setting),
        Case::Decoded => decoded::measure(setting),
    }
}

impl Setting<'_> {
    /// The requested workloads, or else this one.
    fn workloads(&self, keys: usize, popularity: Popularity) -> Vec<Workload> {
        self.command.options.workloads_or(&[Workload { keys, popularity }])
    }

    /// Draws reads at these places, and makes all contestants read them in turns.
    fn contest(
        &self,
        contestants: &mut [Box<dyn Contestant>],
        (name, workload): (&str, Workload),
        (places, chains): (&Places, &[Chain]),
    ) -> Result<Vec<Entrant>> {
        let name = format!("{name}, {workload}");
        self.progress.say(&format!("{name}: drawing keys"));
        let stream = Stream::draw(workload, places, self.command.options.seed);
        let every_key = Stream::every_key(workload, places);
        let reads = Reads { name: &name, stream: &stream, every_key: &every_key, chains };
        contest(contestants, reads, self.command.options.pace(), self.progress)
    }
}

/// Rows of these contestants if the yardstick is among them, one for each kind of read that was
/// measured.
fn rows<'a>(
    (case, workload): (&'a str, Workload),
    entrants: &'a [Entrant],
    (contestants, yardstick): (impl Fn(&Entrant) -> bool + 'a, &'static str),
) -> impl Iterator<Item = Row> + 'a {
    let base = entrants.iter().find(|entrant| entrant.name == yardstick);
    let pairs = entrants
        .iter()
        .filter(move |entrant| contestants(entrant))
        .filter_map(move |entrant| Some((entrant, base?)));
    let both = pairs.flat_map(|(entrant, base)| Chain::ALL.map(|chain| (chain, entrant, base)));
    both.filter(|(chain, entrant, _)| !entrant.rounds(*chain).is_empty()).map(
        move |(chain, entrant, base)| {
            let (ns, base) = (entrant.rounds(chain), base.rounds(chain));
            Row {
                case: case.to_owned(),
                workload: workload.to_string(),
                chain,
                contestant: entrant.name,
                hands_out: entrant.hands_out,
                yardstick,
                ns: ns.to_vec(),
                ratio: ns.iter().zip(base).map(|(ns, base)| ns / base).collect(),
            }
        },
    )
}
