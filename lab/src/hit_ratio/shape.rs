//! The size of the table that stands for a capacity, and how objects become entries.
//!
//! A table takes keys and values of any length, and each segment must have room for a few of the
//! longest. So the shorter the entries, the fewer the segments; values are made long enough for 128
//! segments, as a table in use has. The comparison is about the choice of what to keep.

use super::contestant::Room;
use super::stream::Stream;
use shm_layout::Plan;
use shm_layout::entry::{ENTRY_HEADER_BYTES, KEY_BYTES_MAX};
use shm_layout::geometry::ENTRIES_PER_SEGMENT_MIN;

/// Bytes of a key: an object's number.
pub const KEY_BYTES: usize = 8;
/// Bytes of an entry besides its value.
pub const ENTRY_BYTES_FIXED: u64 = (ENTRY_HEADER_BYTES + KEY_BYTES) as u64;
/// Share of a table for live entries. The rest is index, segments that are being filled, and one to
/// copy to.
const LIVE_PERCENT: u64 = 90;
/// Segments of a table.
const SEGMENTS: u64 = 128;
/// Entries of a segment if the table is too small for that number of segments.
const SEGMENT_ENTRIES_MIN: u64 = 8;
/// Values of at least this size keep the index a small part of the table.
const VALUE_BYTES_MIN: u64 = 224;
/// Segments if objects differ in size and the largest is large.
const SEGMENTS_UNEQUAL: u64 = 64;
/// The largest object that the table takes is this fraction of it; l1d refuses larger ones.
const LARGEST_PART: u64 = 400;
/// Bytes of the longest key and its header, with room to spare.
const LONGEST_KEY: u64 = (KEY_BYTES_MAX + 64) as u64;

/// A table for a capacity.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its dimensions.
    pub plan: Plan,
    /// Bytes of a value for each unit of weight.
    pub scale: f64,
    /// All objects weigh the same.
    pub is_counted: bool,
}

impl Shape {
    /// The shape for a number of objects of equal weight, or for a number of bytes.
    pub fn of(stream: &Stream, room: Room) -> Shape {
        match &stream.sizes {
            None => Shape::equal(room.capacity),
            Some(sizes) => {
                let largest = sizes.iter().copied().max().unwrap_or(1);
                let largest = largest.min(stream.largest.unwrap_or(u32::MAX));
                // The requests determine the capacity of the index: of large objects that come
                // once, few are in the table at a time.
                let mut asked: Vec<u32> =
                    stream.requests.iter().map(|id| stream.weight(*id)).collect();
                let middle = asked.len() / 2;
                let typical = *asked.select_nth_unstable(middle).1;
                let objects = room.objects.max(room.capacity / u64::from(typical).max(1));
                Shape::unequal(Room { objects, ..room }, u64::from(largest))
            }
        }
    }

    fn equal(capacity: u64) -> Shape {
        let entries = (capacity / SEGMENTS).max(SEGMENT_ENTRIES_MIN);
        // entries * (fixed + value) >= 4 * (longest key + value), solved for the value.
        let needed =
            (ENTRIES_PER_SEGMENT_MIN * LONGEST_KEY).saturating_sub(entries * ENTRY_BYTES_FIXED);
        let value = needed.div_ceil(entries - ENTRIES_PER_SEGMENT_MIN).max(VALUE_BYTES_MIN);
        let value = value.next_multiple_of(8);
        let entry = ENTRY_BYTES_FIXED + value;
        let plan = Plan {
            table_bytes: capacity * entry * 100 / LIVE_PERCENT,
            value_bytes_max: u32::try_from(value).unwrap_or(u32::MAX),
            entry_bytes: u32::try_from(entry).unwrap_or(u32::MAX),
            segment_bytes: Some(entries * entry),
            ..Plan::default()
        };
        Shape { plan, scale: value as f64, is_counted: true }
    }

    fn unequal(room: Room, largest: u64) -> Shape {
        let capacity = room.capacity as f64;
        let largest = (largest as f64).min(capacity / LARGEST_PART as f64);
        // scale * capacity = segments * 4 * (longest key + scale * largest), solved for the scale.
        let per_key = (SEGMENTS_UNEQUAL * ENTRIES_PER_SEGMENT_MIN) as f64;
        let scale = per_key * LONGEST_KEY as f64 / (capacity - per_key * largest);
        // Short values would be dominated by headers.
        let scale = scale.max(VALUE_BYTES_MIN as f64 * room.objects as f64 / capacity);
        let values = whole(scale * capacity);
        let entries = values + room.objects * ENTRY_BYTES_FIXED;
        let plan = Plan {
            table_bytes: entries * 100 / LIVE_PERCENT,
            value_bytes_max: u32::try_from(whole(scale * largest).max(1)).unwrap_or(u32::MAX),
            entry_bytes: u32::try_from(entries / room.objects.max(1)).unwrap_or(u32::MAX),
            ..Plan::default()
        };
        Shape { plan, scale, is_counted: false }
    }

    /// The largest object that a table of this capacity takes.
    pub fn largest(capacity: u64) -> u32 {
        u32::try_from(capacity / LARGEST_PART).unwrap_or(u32::MAX)
    }

    /// Bytes of the value of an object; `None` if the table refuses it.
    pub fn value_bytes(&self, weight: u32) -> Option<usize> {
        let bytes = whole((f64::from(weight) * self.scale).floor()).max(1);
        (bytes <= u64::from(self.plan.value_bytes_max))
            .then(|| usize::try_from(bytes).ok())
            .flatten()
    }

    /// The weight of `entries` entries with `live_bytes` bytes in total. Rounds entries up to whole
    /// words, so it is never too small.
    pub fn weight(&self, live_bytes: u64, entries: u64) -> u64 {
        whole((live_bytes - entries * ENTRY_BYTES_FIXED) as f64 / self.scale)
    }
}

fn whole(figure: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative")]
    let whole = figure.ceil() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_layout::Geometry;

    #[test]
    fn equal_objects_get_about_as_many_segments_as_they_should() {
        for capacity in [1000, 1024, 4096, 12_918, 51_673, 200_000] {
            let shape = Shape::equal(capacity);
            let geometry = Geometry::plan(&shape.plan).unwrap();
            assert!(geometry.segment_count() >= 116, "{capacity}: {}", geometry.segment_count());
            assert!(geometry.segment_count() <= 160, "{capacity}: {}", geometry.segment_count());
            let entry = u64::from(shape.plan.entry_bytes);
            let log_entries = geometry.log_bytes() / entry;
            assert!(log_entries >= capacity, "{capacity}: a log for {log_entries}");
            assert!(log_entries * 9 <= capacity * 10, "{capacity}: a log for {log_entries}");
        }
    }

    #[test]
    fn unequal_objects_get_segments_enough() {
        for (capacity, objects, largest) in
            [(1 << 30, 20_000, 500_000_000), (100_000, 1000, 3000), (1 << 40, 1 << 20, 1 << 20)]
        {
            let shape = Shape::unequal(Room { capacity, objects }, largest);
            let geometry = Geometry::plan(&shape.plan).unwrap();
            assert!(geometry.segment_count() >= 60, "{}", geometry.segment_count());
            let value = shape.value_bytes(u32::try_from((capacity / 1000).min(largest)).unwrap());
            assert!(value.is_some());
        }
    }
}
