//! `l1d-lab costs`: the cost that each part of a hit adds to the limit, in ns and in instructions.

use super::arena::{Arena, ArenaReader, collapse, slots};
use super::command::ReadOptions;
use super::contest::{Contestant, Entrant, Held, Limit, Peek, Read, Reads, contest};
use super::measure::pinned;
use super::pass::Chain;
use super::reported::{self, Reported};
use super::workload::{
    KEY_BYTES, Op, Places, Popularity, Stream, VALUE_BYTES, Workload, key, value,
};
use crate::machine::{self, Machine};
use crate::progress::Progress;
use crate::statistics::Spread;
use crate::table::table;
use anyhow::{Context, Result, ensure};
use l1d_instructions::callgrind;
use l1d_instructions::served::Served;
use l1d_instructions::steps::{self, Steps, names};
use l1d_wire::words;
use serde::Serialize;
use shm_layout::entry::{ENTRY_HEADER_BYTES, NEVER};
use shm_layout::{Entry, Plan, TableHasher};
use std::collections::BTreeMap;
use std::fs::OpenOptions;

/// Options of `costs`.
#[derive(Debug, Clone, clap::Args)]
pub struct CostsOptions {
    #[command(flatten)]
    options: ReadOptions,
}

/// A step of the ladder, for one workload.
#[derive(Debug, Serialize)]
struct Row {
    workload: String,
    step: &'static str,
    /// By round.
    dependent_ns: Vec<f64>,
    independent_ns: Vec<f64>,
    /// Ratio to the limit, by round.
    dependent_ratio: Vec<f64>,
    independent_ratio: Vec<f64>,
    /// Ratio to the limit with the hash of the key, by round.
    independent_hashed_ratio: Vec<f64>,
    /// By callgrind; `None` if nothing is counted.
    instructions: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    command: String,
    /// Bytes of an entry in addition to key and value; `bytes` counts the same layout.
    entry_header_bytes: usize,
    index_load_percent: f64,
    /// The reason why there are no instruction counts.
    without_instructions: Option<String>,
    rows: Vec<Row>,
}

/// The limit, with the key's hash before its index lookup.
struct Hashed {
    arena: ArenaReader<VALUE_BYTES>,
    hasher: TableHasher,
    /// Always 0, which the compiler does not know.
    mask: u32,
}

impl Read for Hashed {
    const NAME: &'static str = "limit + hash";
    const HANDS_OUT: &'static str = "a copy";
    type Buffer = [u8; VALUE_BYTES];

    fn buffer(&self) -> Self::Buffer {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, to: &mut Self::Buffer) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash do")]
        let hash = self.hasher.hash(&op.key).0 as u32;
        self.arena.read(&Op { slot: op.slot ^ (hash & self.mask), ..*op }, to)
    }
}

/// A read up to a certain step.
struct Step<const LAST: u8>(Steps);

macro_rules! step {
    ($last:ident) => {
        impl Read for Step<{ steps::$last }> {
            const NAME: &'static str = names::$last;
            const HANDS_OUT: &'static str = "a copy";
            type Buffer = [u8; VALUE_BYTES];

            fn buffer(&self) -> Self::Buffer {
                [0; VALUE_BYTES]
            }

            #[inline(always)]
            fn read(&mut self, op: &Op, to: &mut Self::Buffer) -> bool {
                self.0.read::<{ steps::$last }>(&op.key, steps::coarse_clock, to)
            }
        }
    };
}
step!(FIND);
step!(SECOND_LINE);
step!(GENERATION);
step!(FLOORS);
step!(EXPIRY);

/// `peek_into` of a table whose entries do not expire.
struct Lasting(Peek);

impl Read for Lasting {
    const NAME: &'static str = names::CLIENT;
    const HANDS_OUT: &'static str = Peek::HANDS_OUT;
    type Buffer = Vec<u8>;

    fn buffer(&self) -> Vec<u8> {
        self.0.buffer()
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut Vec<u8>) -> bool {
        self.0.read(op, value)
    }
}

/// Runs `costs`.
///
/// # Errors
/// No memory, no core, or a wrong value.
pub fn costs(options: &CostsOptions) -> Result<()> {
    let report = measure(&options.options)?;
    if !crate::output::json(options.options.is_json(), &report)? {
        crate::output::print(text(&report))?;
    }
    Ok(())
}

/// Runs under callgrind.
///
/// # Errors
/// No memory.
pub fn counted() -> Result<()> {
    steps::legs()?;
    reported::counted()
}

fn measure(options: &ReadOptions) -> Result<Report> {
    let (progress, machine) = (Progress::new(), Machine::this()?);
    let core = *machine.cores.last().context("no core to run on")?;
    progress.say("counting instructions");
    let (instructions, without_instructions) = match instructions() {
        Ok(instructions) => (instructions, None),
        Err(error) => (BTreeMap::new(), Some(words::chain(error.as_ref()))),
    };
    let (mut rows, mut load) = (Vec::new(), 0.0);
    let workloads = options.workloads_or(&[
        Workload { keys: 10_000, popularity: Popularity::Zipf },
        Workload { keys: 1_000_000, popularity: Popularity::Uniform },
    ]);
    for workload in workloads {
        progress.say(&format!("{workload}: filling"));
        let arena = Arena::fill(workload.keys, VALUE_BYTES, options.seed)?;
        let (entrants, load_percent) = pinned(core, || {
            let (mut lasting, load_percent) = fill(workload.keys, NEVER)?;
            let (mut expiring, _) = fill(workload.keys, NEVER - 1)?;
            for served in [&mut lasting, &mut expiring] {
                hear_of_hits(served, workload, options.seed);
            }
            let (steps, _mapping) = lasting.steps()?;
            let (steps_expiring, _mapping_expiring) = expiring.steps()?;
            let places = Places {
                slots: slots(workload.keys, options.seed),
                absent: first_line_absent(steps, workload.keys)?,
                shift: 0,
            };
            let peek = |served: &Served| {
                Ok::<_, anyhow::Error>(Peek { client: served.client()?, value_bytes: VALUE_BYTES })
            };
            let hasher = *lasting.table.writer().geometry().hasher();
            let mut contestants: Vec<Box<dyn Contestant>> = vec![
                Box::new(Held(Limit::<VALUE_BYTES> { arena: arena.reader()? })),
                Box::new(Held(Hashed { arena: arena.reader()?, hasher, mask: 0 })),
                Box::new(Held(Step::<{ steps::FIND }>(steps))),
                Box::new(Held(Step::<{ steps::SECOND_LINE }>(steps))),
                Box::new(Held(Step::<{ steps::GENERATION }>(steps))),
                Box::new(Held(Step::<{ steps::FLOORS }>(steps))),
                Box::new(Held(Step::<{ steps::EXPIRY }>(steps_expiring))),
                Box::new(Held(Lasting(peek(&lasting)?))),
                Box::new(Reported { peek: peek(&lasting)?, steps }),
                Box::new(Held(peek(&expiring)?)),
            ];
            let stream = Stream::draw(workload, &places, options.seed);
            let every_key = Stream::every_key(workload, &places);
            let name = workload.to_string();
            let reads =
                Reads { name: &name, stream: &stream, every_key: &every_key, chains: &Chain::ALL };
            let entrants = contest(&mut contestants, reads, options.pace(), &progress)?;
            Ok((entrants, load_percent))
        })?;
        load = load_percent;
        rows.extend(rows_of(workload, &entrants, &instructions));
    }
    Ok(Report {
        machine,
        command: machine::command(),
        entry_header_bytes: ENTRY_HEADER_BYTES,
        index_load_percent: load,
        without_instructions,
        rows,
    })
}

/// A table of these keys with the same load as in `bytes`, in large pages if the kernel provides
/// them, and the percentage of its index that is in use.
fn fill(keys: usize, expiry: u32) -> Result<(Served, f64)> {
    let entry_bytes = ENTRY_HEADER_BYTES + KEY_BYTES + VALUE_BYTES;
    let table_bytes = (keys * (entry_bytes + 10) * 9 / 8 + (6 << 20)) as u64;
    let table_bytes = table_bytes.next_multiple_of(4096);
    let plan = Plan {
        table_bytes,
        value_bytes_max: 4096,
        table_id: 1,
        entry_bytes: u32::try_from(entry_bytes)?
            .max(u32::try_from(table_bytes * 8 / 9)? / u32::try_from(keys)?),
        ..Plan::default()
    };
    let mut served = Served::new(&plan)?;
    let file = OpenOptions::new().read(true).write(true).open(served.path())?;
    collapse(&file, usize::try_from(table_bytes)?)?;
    for number in 0..u32::try_from(keys)? {
        let (key, value) = (key(number), value(number));
        let entry = Entry { key: &key, value: &value, expiry, ..Entry::default() };
        ensure!(served.table.put(&entry, 0).is_ok(), "a refused put");
    }
    let slots = served.table.writer().geometry().bucket_count() as usize * 8;
    #[expect(clippy::cast_precision_loss, reason = "counts of keys")]
    let load = keys as f64 / slots as f64 * 100.0;
    Ok((served, load))
}

/// Reports the workload's hits to the table's owner, as a daemon learns them from its clients.
fn hear_of_hits(served: &mut Served, workload: Workload, seed: u64) {
    let places = Places { slots: slots(workload.keys, seed), absent: Vec::new(), shift: 0 };
    let hasher = *served.table.writer().geometry().hasher();
    for op in &Stream::draw(workload, &places, seed).ops {
        served.table.hit(hasher.hash(&op.key));
    }
}

/// Keys that the first step cannot read, because they are not in their first line or a neighbour
/// before them has the same tag. All contestants skip them and read other keys instead.
fn first_line_absent(steps: Steps, keys: usize) -> Result<Vec<u32>> {
    let mut to = [0; VALUE_BYTES];
    let found = |number: &u32, to: &mut _| steps.read::<{ steps::FIND }>(&key(*number), || 0, to);
    Ok((0..u32::try_from(keys)?).filter(|number| !found(number, &mut to)).collect())
}

fn instructions() -> Result<BTreeMap<String, f64>> {
    ensure!(cfg!(target_arch = "x86_64"), "instructions are counted on x86-64");
    let own = std::env::current_exe().context("this program's own file cannot be found")?;
    let counts = callgrind::count(&own, &["counted-steps"])?;
    Ok(counts.into_iter().map(|count| (count.name, count.instructions)).collect())
}

fn rows_of(
    workload: Workload,
    entrants: &[Entrant],
    instructions: &BTreeMap<String, f64>,
) -> Vec<Row> {
    let ratio = |of: &Entrant, to: usize, chain: Chain| -> Vec<f64> {
        let base = entrants.get(to).map_or(&[][..], |base| base.rounds(chain));
        of.rounds(chain).iter().zip(base).map(|(ns, base)| ns / base).collect()
    };
    let row = |entrant: &Entrant| Row {
        workload: workload.to_string(),
        step: entrant.name,
        dependent_ratio: ratio(entrant, 0, Chain::Dependent),
        independent_ratio: ratio(entrant, 0, Chain::Independent),
        independent_hashed_ratio: ratio(entrant, 1, Chain::Independent),
        instructions: instructions.get(entrant.name).copied(),
        dependent_ns: entrant.dependent_ns.clone(),
        independent_ns: entrant.independent_ns.clone(),
    };
    entrants.iter().map(row).collect()
}

fn text(report: &Report) -> String {
    let header = [
        "keys",
        "a read up to",
        "dependent, ns",
        "x limit",
        "independent, ns",
        "x limit",
        "x limit + hash",
        "instructions",
    ];
    let mut lines = table(2, header);
    let spread = |figures: &[f64]| Spread::of(figures.to_vec()).to_string();
    for row in &report.rows {
        lines.add_row([
            row.workload.clone(),
            row.step.to_owned(),
            spread(&row.dependent_ns),
            spread(&row.dependent_ratio),
            spread(&row.independent_ns),
            spread(&row.independent_ratio),
            spread(&row.independent_hashed_ratio),
            row.instructions.map_or_else(|| "-".to_owned(), |count| format!("{count:.0}")),
        ]);
    }
    let Machine { cpu, kernel, .. } = &report.machine;
    let without = report.without_instructions.as_ref();
    let without =
        without.map_or_else(String::new, |reason| format!("\nWithout instructions: {reason}"));
    format!(
        "{cpu}, kernel {kernel}. The cost of each part of a hit; {} bytes of header, index {:.0} \
         % full, keys in their first line.\n{lines}{without}",
        report.entry_header_bytes, report.index_load_percent
    )
}
