//! Bits flipped in live memory: in the table's file, and in the mailboxes of readers.
//!
//! Left out is what readers cannot notice, since they compute no checksums (R11): the bytes of
//! entries, and slots turned to another place in the log, where an older value of the same key may
//! lie. `values` flips the former, which the daemon has to find.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use shm_layout::header::{IDENTITY_COPIES, IDENTITY_WORDS, STATE, VERSION_CEILING};
use shm_layout::mailbox::SHAPE;
use shm_layout::slot::{POSITION_BITS, SLOTS};
use shm_layout::{Geometry, header};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const WORD_BYTES: u64 = 8;
/// Words of the owner in the header, from the ceiling of versions on.
const OWNER_WORDS: u64 = 8;
/// The state, the strict floor, the lease, the clock, and the first floors.
const HOT_WORDS: u64 = 8;

/// Where a bit is flipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Either copy of the table's identity.
    Identity,
    /// The owner's words in the header.
    OwnerWords,
    /// The header's words that each read loads.
    HotLine,
    /// The generation of a segment.
    Generation,
    /// The header of a segment.
    SegmentHeader,
    /// A slot, so that its position is beyond the log.
    SlotBounds,
    /// A slot's tag.
    SlotTag,
    /// A reader's mailbox: all but the bytes of requests and replies.
    Mailbox,
}

impl Place {
    /// All of them.
    pub const ALL: [Place; 8] = [
        Place::Identity,
        Place::OwnerWords,
        Place::HotLine,
        Place::Generation,
        Place::SegmentHeader,
        Place::SlotBounds,
        Place::SlotTag,
        Place::Mailbox,
    ];
}

/// The file of a table, open for damage.
pub struct TableFile {
    file: File,
    geometry: Geometry,
}

impl TableFile {
    /// The table that a daemon has in this file, whose geometry is sound by now.
    ///
    /// # Errors
    /// It is not there, or already damaged.
    pub fn open(path: &Path) -> Result<TableFile> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut words = [0; IDENTITY_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = load(&file, (IDENTITY_COPIES[0] + index) as u64)?;
        }
        let identity = header::Identity::unpack(&words).context("the table's identity")?;
        let geometry = Geometry::check(identity).context("the table's geometry")?;
        Ok(TableFile { file, geometry })
    }

    /// Flips a bit in a word of this place that `draw` chooses. Returns `false` if there is none
    /// that can be flipped.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn flip(&self, place: Place, draw: u64, bit: u32) -> Result<bool> {
        let segment = u32::try_from(draw % u64::from(self.geometry.segment_count()))?;
        let (word, bit) = match place {
            Place::Identity => {
                let copy = IDENTITY_COPIES[usize::try_from(draw % 2)?] as u64;
                (copy + draw / 2 % IDENTITY_WORDS as u64, bit)
            }
            Place::OwnerWords => (VERSION_CEILING as u64 + draw % OWNER_WORDS, bit),
            Place::HotLine => (STATE as u64 + draw % HOT_WORDS, bit),
            Place::Generation => (self.geometry.generation(segment).context("none")? as u64, bit),
            Place::SegmentHeader => {
                let header = self.geometry.segment_header(segment).context("none")? as u64;
                (header + draw % 4, bit)
            }
            Place::SlotBounds | Place::SlotTag => {
                let Some(slot) = self.used_slot(draw)? else { return Ok(false) };
                // The table has far fewer words than 2^40.
                let bit = match place {
                    Place::SlotTag => POSITION_BITS + bit % (64 - POSITION_BITS),
                    _ => 40 + bit % (POSITION_BITS - 40),
                };
                (slot, bit)
            }
            Place::Mailbox => return Ok(false),
        };
        let flipped = load(&self.file, word)? ^ (1 << bit);
        self.file.write_all_at(&flipped.to_le_bytes(), word * WORD_BYTES)?;
        Ok(true)
    }

    /// A slot in use, looked for from a bucket on that `draw` chooses.
    fn used_slot(&self, draw: u64) -> Result<Option<u64>> {
        let buckets = self.geometry.bucket_count();
        for step in 0..buckets.min(4096) {
            let bucket = (draw + u64::from(step)) % u64::from(buckets);
            let bucket = self.geometry.bucket(u32::try_from(bucket)?);
            for index in 0..SLOTS {
                let slot = bucket.slot(index) as u64;
                if load(&self.file, slot)? != 0 {
                    return Ok(Some(slot));
                }
            }
        }
        Ok(None)
    }
}

fn load(file: &File, word: u64) -> Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    file.read_exact_at(&mut bytes, word * WORD_BYTES).context("the table's file")?;
    Ok(u64::from_le_bytes(bytes))
}

/// Flips a bit in the mailbox of process `pid`, where it keeps neither requests nor replies, which
/// would be the process's own to damage. Returns `false` if it has no mailbox now, or the system
/// lets nobody write there.
pub fn flip_mailbox(pid: u32, draw: u64, bit: u32) -> bool {
    let words = SHAPE.words() - SHAPE.ring_words - SHAPE.lanes * SHAPE.lane_bytes / 8;
    let flip = || {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let line = maps.lines().find(|line| line.contains("l1d-mailbox"))?;
        let base = u64::from_str_radix(line.split('-').next()?, 16).ok()?;
        let memory =
            File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).ok()?;
        let word = base / WORD_BYTES + draw % words as u64;
        let flipped = load(&memory, word).ok()? ^ (1 << bit);
        memory.write_all_at(&flipped.to_le_bytes(), word * WORD_BYTES).ok()
    };
    flip().is_some()
}

/// Flips one bit in each of these values, which the table holds. Returns the number found.
///
/// # Errors
/// The file cannot be read or written.
pub fn flip_values(table: &Path, values: &[Vec<u8>]) -> Result<usize> {
    let file = File::options().read(true).write(true).open(table)?;
    let bytes = std::fs::read(table).context("the table's file")?;
    let mut flipped = 0;
    for value in values {
        ensure!(value.len() > 64, "a value too short to be told from others");
        // Words of the log; a value begins anywhere after its key.
        let Some(at) = find(&bytes, value) else { continue };
        let place = at + value.len() / 2;
        let damaged = [bytes.get(place).copied().unwrap_or(0) ^ 4];
        file.write_all_at(&damaged, place as u64)?;
        flipped += 1;
    }
    Ok(flipped)
}

fn find(bytes: &[u8], value: &[u8]) -> Option<usize> {
    let start: [u8; 8] = *value.first_chunk()?;
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.windows(8).position(|window| window == start)?;
        if bytes.get(at..)?.starts_with(value) {
            return Some(at);
        }
        from = at + 1;
    }
}
