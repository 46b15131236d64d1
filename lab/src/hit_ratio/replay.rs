//! One contestant, one stream, one capacity.

use super::contestant::{Contestant, Name, Room};
use super::reports::Reports;
use super::stream::Stream;
use anyhow::{Context, Result};
use serde::Serialize;

/// Attempts to replay with a smaller table after one that held too much.
const ATTEMPTS: u32 = 8;

/// The result of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The contestant.
    pub name: Name,
    /// Percentage of requests that hit.
    pub object_hit_percent: f64,
    /// Bytes of the requests that hit, in percent of all; only with sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_hit_percent: Option<f64>,
    /// The most that it ever held, in units of the capacity.
    pub held_max: u64,
    /// Segments removed from l1d's table so that it held no more than the capacity.
    #[serde(skip)]
    pub segments_less: u32,
    /// Bytes copied again per byte stored, if there is a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_per_byte: Option<f64>,
}

/// Replays all requests, beginning with an empty cache. l1d's table is made smaller until its live
/// entries never exceed the capacity.
///
/// # Errors
/// The capacity is too small or too large for a table.
pub fn replay(name: Name, stream: &Stream, room: Room, reports: Reports) -> Result<Outcome> {
    let what = || {
        format!("{}, {} of {} in {}", name.text(), room.capacity, stream.footprint(), stream.name)
    };
    let mut segments_less = 0;
    let mut attempt = 1;
    loop {
        let mut cache = name.cache(stream, room, reports, segments_less).with_context(what)?;
        let outcome = Outcome { segments_less, ..run(name, cache.as_mut(), stream) };
        let above = outcome.held_max.saturating_sub(room.capacity);
        let Some(unit) = cache.segment_weight().filter(|_| above > 0 && attempt < ATTEMPTS) else {
            return Ok(outcome);
        };
        segments_less += u32::try_from(above.div_ceil(unit.max(1))).unwrap_or(u32::MAX);
        attempt += 1;
    }
}

fn run(name: Name, cache: &mut dyn Contestant, stream: &Stream) -> Outcome {
    let (mut hits, mut bytes, mut hit_bytes, mut held_max) = (0u64, 0u64, 0u64, 0);
    for &id in &stream.requests {
        let weight = stream.weight(id);
        bytes += u64::from(weight);
        if cache.request(id, weight) {
            hits += 1;
            hit_bytes += u64::from(weight);
        } else {
            held_max = held_max.max(cache.held());
        }
    }
    let percent = |part: u64, whole: u64| part as f64 * 100.0 / (whole as f64).max(1.0);
    Outcome {
        name,
        object_hit_percent: percent(hits, stream.requests.len() as u64),
        byte_hit_percent: stream.sizes.is_some().then(|| percent(hit_bytes, bytes)),
        held_max,
        segments_less: 0,
        copied_per_byte: cache.copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_more_than_it_may_and_all_that_fits_hits() {
        let mut random = crate::random::Random::new(4);
        let requests: Vec<u32> = (0..40_000)
            .map(|_| u32::try_from(random.below(4000).min(random.below(4000))).unwrap())
            .collect();
        let reports = Reports { one_in: 1, loss: 0.3, batch: 64, seed: 1 };
        let stream = Stream::new("random", requests);
        for name in Name::ALL {
            let room = Room { capacity: 1500, objects: 1500 };
            let outcome = replay(name, &stream, room, reports).unwrap();
            assert!(
                (1300..=1500).contains(&outcome.held_max),
                "{name:?} held {}",
                outcome.held_max
            );
            assert!(outcome.object_hit_percent > 40.0, "{name:?} {}", outcome.object_hit_percent);
            let again = replay(name, &stream, room, reports).unwrap();
            assert_eq!(
                outcome.object_hit_percent.to_bits(),
                again.object_hit_percent.to_bits(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn bytes_count_where_sizes_differ() {
        let mut random = crate::random::Random::new(5);
        let requests: Vec<u32> = (0..40_000)
            .map(|_| u32::try_from(random.below(3000).min(random.below(3000))).unwrap())
            .collect();
        let mut stream = Stream::new("random", requests);
        let size = |_| 1 + u32::try_from(random.below(20_000)).unwrap();
        stream.sizes = Some((0..stream.objects()).map(size).collect());
        let capacity = stream.footprint() / 2;
        let room = Room { capacity, objects: 1500 };
        let reports = Reports { one_in: 1, loss: 0.3, batch: 64, seed: 1 };
        for name in Name::ALL {
            let outcome = replay(name, &stream, room, reports).unwrap();
            assert!(outcome.held_max <= capacity, "{name:?} held {}", outcome.held_max);
            assert!(outcome.held_max > capacity * 8 / 10, "{name:?} held {}", outcome.held_max);
            assert!(outcome.byte_hit_percent.is_some_and(|hit| hit > 30.0), "{name:?}");
        }
    }
}
