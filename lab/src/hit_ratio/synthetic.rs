//! Synthetic streams, each with a pattern that defeats some policy. The same seed gives the same
//! stream.

use super::stream::Stream;
use crate::random::Random;
use crate::zipf::Zipf;

/// Requests of each.
const REQUESTS: usize = 400_000;
/// Objects that the popularity is spread over.
const OBJECTS: usize = 100_000;
/// As skewed as web traffic is.
const THETA: f64 = 0.9;

/// All of them.
pub fn streams(seed: u64) -> Vec<Stream> {
    vec![drift(seed), looped(seed), scan(seed), one_hit(seed), sized(seed), sized_scan(seed)]
}

/// Zipf over objects of unequal size: most of a kilobyte or so, few a hundred times as large.
fn sized(seed: u64) -> Stream {
    let mut random = Random::new(seed ^ 0x512e);
    let zipf = Zipf::new(OBJECTS, THETA);
    let owners = random.permutation(OBJECTS);
    let requests = (0..REQUESTS).map(|_| owners[zipf.rank(&mut random)]);
    let mut stream = Stream::new("sizes", dense(requests));
    stream.sizes = Some((0..stream.objects()).map(|_| size(&mut random)).collect());
    stream
}

/// The same, but every tenth request is for a large object that is never requested again.
fn sized_scan(seed: u64) -> Stream {
    let mut random = Random::new(seed ^ 0x5c12);
    let zipf = Zipf::new(OBJECTS, THETA);
    let owners = random.permutation(OBJECTS);
    let requests = (0..REQUESTS)
        .map(|at| if at % 10 == 0 { number(OBJECTS + at) } else { owners[zipf.rank(&mut random)] });
    let requests = dense(requests);
    let mut asked = vec![0_u32; requests.iter().max().map_or(0, |most| *most as usize + 1)];
    requests.iter().for_each(|id| asked[*id as usize] += 1);
    let mut stream = Stream::new("sizes, large once", requests);
    let sizes = (0..stream.objects()).map(|id| {
        let is_large = asked[id] == 1 && random.below(2) == 0;
        if is_large { 64 << 10 } else { size(&mut random) }
    });
    stream.sizes = Some(sizes.collect());
    stream
}

/// About a kilobyte, log-normal: e^N(7, 1.2).
fn size(random: &mut Random) -> u32 {
    // The sum of twelve uniform numbers is nearly normal.
    let normal: f64 = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "e^2 to e^13")]
    let bytes = (7.0 + 1.2 * normal).exp().clamp(8.0, 400_000.0) as u32;
    bytes
}

/// Zipf with changing popular objects: in each thousand requests, ten ranks pass to other objects.
fn drift(seed: u64) -> Stream {
    let mut random = Random::new(seed ^ 0xd1f7);
    let zipf = Zipf::new(OBJECTS, THETA);
    let mut owners = random.permutation(OBJECTS);
    let requests = (0..REQUESTS).map(|at| {
        if at % 100 == 0 {
            let rank = zipf.rank(&mut random);
            owners.swap(rank, random.below(OBJECTS));
        }
        owners[zipf.rank(&mut random)]
    });
    Stream::new("zipf with drift", dense(requests))
}

/// The same objects over and over in the same order, mixed with a third of zipf requests.
fn looped(seed: u64) -> Stream {
    let mut random = Random::new(seed ^ 0x100b);
    let zipf = Zipf::new(OBJECTS, THETA);
    let owners = random.permutation(OBJECTS);
    let around = OBJECTS / 4;
    let mut next = 0;
    let requests = (0..REQUESTS).map(|_| {
        if random.below(3) == 0 {
            return owners[zipf.rank(&mut random)];
        }
        next = (next + 1) % around;
        number(OBJECTS + next)
    });
    Stream::new("loop", dense(requests))
}

/// Zipf, and every 50,000 requests a scan over 20,000 objects, each once.
fn scan(seed: u64) -> Stream {
    let mut random = Random::new(seed ^ 0x5ca2);
    let zipf = Zipf::new(OBJECTS, THETA);
    let owners = random.permutation(OBJECTS);
    let requests = (0..REQUESTS).map(|at| match at % 50_000 {
        scanned @ 30_000.. => number(OBJECTS + scanned),
        _ => owners[zipf.rank(&mut random)],
    });
    Stream::new("scan over zipf", dense(requests))
}

/// Zipf, but every third request is for an object that is never requested again.
fn one_hit(seed: u64) -> Stream {
    let mut random = Random::new(seed ^ 0x0e41);
    let zipf = Zipf::new(OBJECTS, THETA);
    let owners = random.permutation(OBJECTS);
    let requests = (0..REQUESTS).map(|at| {
        if random.below(3) == 0 { number(OBJECTS + at) } else { owners[zipf.rank(&mut random)] }
    });
    Stream::new("one-hit wonders", dense(requests))
}

/// Renumbers the objects in order of first request, so that sizes in percent refer to requested
/// objects.
fn dense(requests: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut numbers: Vec<Option<u32>> = Vec::new();
    let mut count = 0;
    requests
        .map(|id| {
            let at = id as usize;
            if numbers.len() <= at {
                numbers.resize(at + 1, None);
            }
            *numbers[at].get_or_insert_with(|| {
                count += 1;
                count - 1
            })
        })
        .collect()
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let (first, again, other) = (streams(1), streams(1), streams(2));
        for (at, stream) in first.iter().enumerate() {
            assert_eq!(stream.requests.len(), REQUESTS);
            assert_eq!(stream.requests, again[at].requests, "{}", stream.name);
            assert_ne!(stream.requests, other[at].requests, "{}", stream.name);
            let mut asked = vec![false; stream.objects()];
            stream.requests.iter().for_each(|id| asked[*id as usize] = true);
            assert!(asked.iter().all(|asked| *asked), "{}: numbers without a gap", stream.name);
        }
    }
}
