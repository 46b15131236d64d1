//! The processes that are killed: writers, each with keys of its own, and readers of all keys. Each
//! value is checked by its content and against the ledger.

use super::ledger::{Count, Ledger};
use super::mode::{Mode, VALUE_BYTES_MAX};
use crate::random::Random;
use anyhow::Result;
use l1d_client::{Client, Error, Memo, MemoError, SetOptions, Values};
use l1d_demo::stamped::{BYTES_MIN, Damage, Stamp, decode, encode};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use test_support::history::{Read, Wrong};

/// Of a call, less than some of the faults last.
const DEADLINE: Duration = Duration::from_millis(400);
/// Keys of a batch.
const TOGETHER: usize = 20;
/// Half of all operations are on this many keys of each writer.
const HOT: usize = 24;

/// Its options.
#[derive(Debug, Clone, clap::Args)]
pub struct TortureWorkerPlace {
    #[arg(long)]
    mode: Mode,
    /// The writer of these keys; without it, a reader
    #[arg(long)]
    writer: Option<usize>,
    #[arg(long)]
    writers: usize,
    /// Operations before it ends by itself; 0: without end
    #[arg(long, default_value_t = 0)]
    operations: u64,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    ledger: PathBuf,
}

struct Worker {
    mode: Mode,
    random: Random,
    client: Client,
    memo: Memo<Result<Stamp, Damage>>,
    ledger: Ledger,
    values: Values,
    bytes: Vec<u8>,
}

/// A read of a key, and what decides whether a value may be lost.
struct Begun {
    number: usize,
    kills: u64,
    read: Read,
}

/// Works until the run ends or it is killed.
///
/// # Errors
/// There is no ledger.
pub fn worker(place: &TortureWorkerPlace) -> Result<()> {
    let keys = place.writers * place.mode.keys_per_writer();
    let ledger = Ledger::open(&place.ledger, keys)?;
    let builder = Client::builder().socket(&place.socket).deadline(DEADLINE);
    // The daemon may be dead or stopped now.
    let client = loop {
        match builder.clone().connect() {
            Ok(client) => break client,
            // Only in a table whose bits were flipped.
            Err(Error::Untrusted { .. }) if place.mode == Mode::Flips => {}
            Err(Error::Unavailable { .. } | Error::Deadline { .. } | Error::Busy { .. }) => {}
            Err(error) => ledger.find(&format!("attaching: {error}")),
        }
        if ledger.is_stopped() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    ledger.add(Count::Attached, 1);
    let mut worker = Worker {
        mode: place.mode,
        random: Random::new(place.seed),
        memo: Memo::new(&client, 64)?,
        client,
        ledger,
        values: Values::new(),
        bytes: Vec::new(),
    };
    let mut done = 0;
    while !worker.ledger.is_stopped() && (place.operations == 0 || done < place.operations) {
        done += 1;
        match place.writer {
            Some(writer) if worker.random.below(16) < 10 => worker.write(writer),
            _ => worker.read(),
        }
        if worker.random.below(4) == 0 {
            let pause = worker.random.below(1000);
            std::thread::sleep(Duration::from_micros(u64::try_from(pause)?));
        }
    }
    Ok(())
}

/// The name of key `number`.
pub fn key(number: usize) -> String {
    format!("key:{number}")
}

impl Worker {
    /// A key of this writer; half of the time a hot one.
    fn number_of(&mut self, writer: usize) -> usize {
        let keys = self.mode.keys_per_writer();
        let most = if self.random.below(2) == 0 { HOT } else { keys };
        writer * keys + self.random.below(most)
    }

    fn any_number(&mut self) -> usize {
        let writers = self.ledger.keys() / self.mode.keys_per_writer();
        let writer = self.random.below(writers);
        self.number_of(writer)
    }

    /// Bytes of a value: in one word, in one record, in pieces.
    fn size(&mut self) -> usize {
        // With tiers, more than the table holds.
        let many = if self.mode.has_tiers() { 32 } else { 8 };
        let most = match self.random.below(64) {
            0 => usize::try_from(VALUE_BYTES_MAX).unwrap_or(0),
            of_a_page if of_a_page < many => 4000,
            _ => 300,
        };
        BYTES_MIN + self.random.below(most - BYTES_MIN)
    }

    /// One set or delete.
    fn write(&mut self, writer: usize) {
        let number = self.number_of(writer);
        let (name, bytes) = (key(number), self.size());
        let draw = self.random.below(32);
        let (is_delete, no_wait) = (draw < 2, draw == 2);
        let kills = self.ledger.kills();
        self.ledger.add(Count::Writes, 1);
        let change = self.ledger.record(number).key.begin(is_delete);
        let written = if is_delete {
            self.client.delete(&name).map(drop)
        } else {
            let stamp = Stamp { version: change, published_ns: 0 };
            encode(name.as_bytes(), stamp, bytes, &mut self.bytes);
            let options = SetOptions { no_wait, ..SetOptions::default() };
            self.client.set_with(&name, &self.bytes, &options).map(drop)
        };
        let counted = match written {
            Ok(()) if no_wait => Count::Unanswered,
            Ok(()) => {
                let record = self.ledger.record(number);
                record.kills.store(kills, Ordering::SeqCst);
                record.key.acknowledge(change);
                Count::Acknowledged
            }
            Err(error) => return self.failed(&error),
        };
        self.ledger.add(counted, 1);
    }

    fn failed(&mut self, error: &Error) {
        let count = match error {
            Error::UnknownOutcome { .. } => Count::Unknown,
            Error::Internal { .. } | Error::Other { .. } if self.mode != Mode::Flips => {
                return self.ledger.find(&format!("a call failed: {error}"));
            }
            _ => Count::Errors,
        };
        self.ledger.add(count, 1);
        // Or most calls would be those that a breaker or a dead daemon refuses.
        std::thread::sleep(Duration::from_millis(1));
    }

    fn begin(&self, number: usize) -> Begun {
        let record = self.ledger.record(number);
        // Before the change: then a kill since an earlier change is assumed rather than overlooked.
        let kills = record.kills.load(Ordering::SeqCst);
        Begun { number, kills, read: record.key.read() }
    }

    /// One read of one or several keys, in one of the ways that there are.
    fn read(&mut self) {
        let (number, way) = (self.any_number(), self.random.below(16));
        let name = key(number);
        let begun = self.begin(number);
        let mut bytes = std::mem::take(&mut self.bytes);
        match way {
            0..5 => {
                if self.client.peek_into(&name, &mut bytes).is_some() {
                    self.found(&begun, decode(name.as_bytes(), &bytes), "peek_into");
                }
                self.ledger.add(Count::Reads, 1);
            }
            5..11 => match self.client.get_into(&name, &mut bytes) {
                Ok(Some(_)) => self.found(&begun, decode(name.as_bytes(), &bytes), "get_into"),
                Ok(None) => self.nothing(&begun, "get_into"),
                Err(error) => self.failed(&error),
            },
            11..13 => {
                let copied = self.client.read_with(&name, |value| {
                    let mut copy = vec![0; value.len()];
                    if value.copy_to(0, &mut copy) { copy } else { Vec::new() }
                });
                match copied {
                    Ok(Some(value)) => {
                        self.found(&begun, decode(name.as_bytes(), &value), "read_with");
                    }
                    Ok(None) => self.nothing(&begun, "read_with"),
                    Err(error) => self.failed(&error),
                }
            }
            13..15 => {
                let stamp = |bytes: &[u8]| {
                    Ok::<_, std::convert::Infallible>(decode(name.as_bytes(), bytes))
                };
                match self.memo.decoded(&name, stamp) {
                    Ok(Some(decoded)) => self.found(&begun, *decoded, "decoded"),
                    Ok(None) => self.nothing(&begun, "decoded"),
                    Err(error) => {
                        if let MemoError::Cache(error) = error {
                            self.failed(&error);
                        }
                    }
                }
            }
            _ => self.read_many(begun),
        }
        self.bytes = bytes;
    }

    fn read_many(&mut self, first: Begun) {
        let mut all = vec![first];
        for _ in 0..self.random.below(TOGETHER) {
            let number = self.any_number();
            all.push(self.begin(number));
        }
        let names: Vec<String> = all.iter().map(|begun| key(begun.number)).collect();
        let mut values = std::mem::take(&mut self.values);
        match self.client.get_many_into(&names, &mut values) {
            Ok(()) => {
                for (index, begun) in all.iter().enumerate() {
                    match values.get(index) {
                        Some(value) => {
                            let stamp = decode(key(begun.number).as_bytes(), value);
                            self.found(begun, stamp, "get_many_into");
                        }
                        None => self.nothing(begun, "get_many_into"),
                    }
                }
            }
            Err(error) => self.failed(&error),
        }
        self.values = values;
    }

    fn found(&self, begun: &Begun, stamp: Result<Stamp, Damage>, way: &str) {
        self.ledger.add(Count::Reads, 1);
        self.ledger.add(Count::Values, 1);
        let number = begun.number;
        match stamp {
            Err(damage) => self.ledger.find(&format!("{way} of key {number}: {damage}")),
            Ok(stamp) => {
                let judged = self.ledger.record(number).key.judge(begun.read, Some(stamp.version));
                if let Err(wrong) = judged {
                    self.ledger.find(&format!("{way} of key {number}: {wrong}"));
                }
            }
        }
    }

    fn nothing(&self, begun: &Begun, way: &str) {
        self.ledger.add(Count::Reads, 1);
        let record = self.ledger.record(begun.number);
        let Err(wrong) = record.key.judge(begun.read, None) else { return };
        let may_be_lost = begun.kills % 2 == 1 || begun.kills != self.ledger.kills();
        match (self.mode, wrong) {
            // Flipped bits may cost any entry.
            (Mode::Flips, _) => {}
            (Mode::Presence, Wrong::Missing { acknowledged }) if may_be_lost => {
                // A change that was under way when the daemon was killed has an unknown outcome,
                // and takes the value before with it.
                let is_new = record.lost.fetch_max(acknowledged, Ordering::SeqCst) < acknowledged;
                if is_new && record.key.is_settled() {
                    self.ledger.add(Count::Lost, 1);
                }
            }
            _ => self.ledger.find(&format!("{way} of key {}: {wrong}", begun.number)),
        }
    }
}
