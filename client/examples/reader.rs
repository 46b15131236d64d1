//! Reads one key as fast as it can, from the table alone, and tells each second how often it was
//! there. Kill the daemon meanwhile: the reader does not notice.
//!
//! `cargo run --release -p l1d-client --example reader -- KEY`

use l1d_client::Client;
use std::time::{Duration, Instant};

fn main() -> Result<(), l1d_client::Error> {
    let key = std::env::args().nth(1).unwrap_or_else(|| "analysis:signals".to_owned());
    let cache = Client::builder().connect()?;
    let mut value = Vec::new();
    loop {
        let (mut hits, mut misses) = (0_u64, 0_u64);
        let second = Instant::now();
        while second.elapsed() < Duration::from_secs(1) {
            for _ in 0..1000 {
                match cache.peek_into(&key, &mut value) {
                    Some(_) => hits += 1,
                    None => misses += 1,
                }
            }
        }
        println!("{key} = {}: {hits} hits, {misses} misses", value.escape_ascii());
    }
}
