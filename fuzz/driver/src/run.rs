//! A short run of a target in an ordinary test.

use crate::mutate::{Random, mutated};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Time for mutations, unless `L1D_FUZZ_SECONDS` says otherwise.
const TIME: Duration = Duration::from_millis(1500);

/// Runs `target` on `seeds`, which are inputs that real encoders make, on what else is in
/// `fuzz/corpus/NAME`, as far as four times the time allows, and then on mutations of both.
/// `L1D_RECORD=1` writes the seeds into the corpus, from where libFuzzer starts.
///
/// # Panics
/// If the target does, after telling the input and the seed (`L1D_TEST_SEED` repeats a run).
pub fn short_run(name: &str, seeds: &[Vec<u8>], target: impl Fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    if std::env::var_os("L1D_RECORD").is_some() {
        record(&directory, seeds);
    }
    let corpus = [seeds, &read(&directory)].concat();
    let time = number("L1D_FUZZ_SECONDS").map_or(TIME, Duration::from_secs);
    let begun = Instant::now();
    let in_time = corpus.iter().take_while(|_| begun.elapsed() < 4 * time);
    let ran = in_time.inspect(|input| run(name, input, &target)).count();
    let seed = number("L1D_TEST_SEED").unwrap_or_else(clock_seed);
    println!("{name}: seed {seed}");
    let mut random = Random::new(seed);
    let (begun, mut executions) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
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

fn clock_seed() -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    time.map_or(1, |time| u64::from(time.subsec_nanos()) << 20 | u64::from(std::process::id()))
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
