//! A short run of a target in an ordinary test.

use crate::mutate::{Random, mutated};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most time for mutations, and the most of them, unless `L1D_FUZZ_SECONDS` says otherwise.
const TIME: Duration = Duration::from_millis(1500);
const MUTATIONS: u64 = 200;
/// The seed, unless `L1D_TEST_SEED` says otherwise: so a test fails for what was changed, and not
/// for what nobody has tried before. Looking for that is `./dev fuzz`.
const SEED: u64 = 1;

/// Runs `target` on `seeds`, which are inputs that real encoders make, on what else is in
/// `fuzz/corpus/NAME`, as far as four times the time allows, and then on mutations of both.
/// `L1D_RECORD=1` writes the seeds into the corpus, from where libFuzzer starts.
///
/// # Panics
/// If the target does, after telling the input.
pub fn short_run(name: &str, seeds: &[Vec<u8>], target: impl Fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    if std::env::var_os("L1D_RECORD").is_some() {
        record(&directory, seeds);
    }
    let corpus = [seeds, &read(&directory)].concat();
    let seconds = number("L1D_FUZZ_SECONDS");
    let time = seconds.map_or(TIME, Duration::from_secs);
    let most = seconds.map_or(MUTATIONS, |_| u64::MAX);
    let begun = Instant::now();
    let in_time = corpus.iter().take_while(|_| begun.elapsed() < 4 * time);
    let ran = in_time.inspect(|input| run(name, input, &target)).count();
    let seed = number("L1D_TEST_SEED").unwrap_or(SEED);
    println!("{name}: seed {seed}");
    let mut random = Random::new(seed);
    let (begun, mut executions) = (Instant::now(), 0_u64);
    while executions < most && begun.elapsed() < time {
        run(name, &mutated(&corpus, &mut random), &target);
        executions += 1;
    }
    println!("{name}: {ran} of {} inputs, {executions} mutations", corpus.len());
}

fn record(directory: &Path, seeds: &[Vec<u8>]) {
    fs::create_dir_all(directory).expect("the corpus can be made");
    for (number, seed) in seeds.iter().enumerate() {
        let path = directory.join(format!("seed-{number:02}"));
        fs::write(path, seed).expect("the seed can be written");
    }
}

/// The corpus without the seeds, in an order that does not depend on the file system.
fn read(directory: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.path()).collect();
    paths.retain(|path| !path.to_string_lossy().contains("/seed-"));
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(name: &str, input: &[u8], target: &impl Fn(&[u8])) {
    let tell = Tell { name, input };
    target(input);
    std::mem::forget(tell);
}

/// Dropped when the target panics.
struct Tell<'a> {
    name: &'a str,
    input: &'a [u8],
}

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        let hex: String = self.input.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{}: the input, in hex: {hex}", self.name);
    }
}
