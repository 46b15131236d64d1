//! The hazard: a large table keeps its clients waiting for memory, at the start or later.

use super::{PROGRAM, Times, is_long};
use l1d_client::Client;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use std::fs;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};

const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n";
/// Times are kept in parts of this length. A part in which other processes took more than 5 % of a
/// processor is left out.
const PART: Duration = Duration::from_millis(100);

fn is_whole(client: &Client) -> bool {
    let stats: Value = serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap();
    stats["table"]["usable_bytes"] == stats["table"]["table_bytes"]
}

/// Processor time of all processes but this one and the daemon, in hundredths of a second.
fn others(daemon: &Daemon) -> u64 {
    let sum = |text: &str, skip, take| -> u64 {
        let fields = text.split_whitespace().skip(skip).take(take);
        fields.map(|field| field.parse::<u64>().unwrap()).sum()
    };
    let all = fs::read_to_string("/proc/stat").unwrap();
    // user, nice and system of all processors.
    let all = sum(all.lines().next().unwrap(), 1, 3);
    let of = |process: String| {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        sum(text.rsplit_once(") ").unwrap().1, 11, 2)
    };
    all.saturating_sub(of("self".into()) + of(daemon.pid().to_string()))
}

/// Sets for as long as `goes_on` says, and the time that each took.
fn sets(what: &str, daemon: &Daemon, client: &Client, goes_on: impl Fn() -> bool) -> Times {
    let (mut all, mut parts, mut quiet) = (Times::default(), 0, 0);
    while goes_on() {
        let (begun, before, mut part) = (Instant::now(), others(daemon), Times::default());
        while begun.elapsed() < PART {
            for n in 0..1000_u32 {
                part.time(|| client.set(n.to_le_bytes(), [7; 100]).unwrap());
            }
        }
        parts += 1;
        // In hundredths: a twentieth of what has passed, and one that the clocks may differ by.
        let allowed = 1 + begun.elapsed().as_millis() / 200;
        if u128::from(others(daemon).saturating_sub(before)) <= allowed {
            quiet += 1;
            all.0.append(&mut part.0);
        }
    }
    if !all.0.is_empty() {
        println!("{what}: {}, {quiet} of {parts} parts", all.show());
    }
    all
}

/// Clears large pages in the same way as the daemon, for the same share of the time, on behalf of
/// nobody.
fn clear_pages(end: &AtomicBool) {
    const BYTES: usize = 4 << 20;
    let cpu = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    // SAFETY: no pointers; on Linux, process 0 is the calling thread.
    unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, 19) };
    while !end.load(Ordering::Relaxed) {
        let begun = cpu();
        while cpu() - begun < Duration::from_millis(8) {
            let bytes = NonZeroUsize::new(BYTES).unwrap();
            let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            // SAFETY: a new mapping, which only this function uses, and only by these calls.
            unsafe {
                let place = mmap_anonymous(None, bytes, access, MapFlags::MAP_PRIVATE).unwrap();
                madvise(place, BYTES, MmapAdvise::MADV_HUGEPAGE).unwrap();
                nix::libc::madvise(place.as_ptr(), BYTES, nix::libc::MADV_POPULATE_WRITE);
                munmap(place, BYTES).unwrap();
            }
        }
        std::thread::sleep((cpu() - begun) * 36);
    }
}

#[test]
fn a_large_table_is_served_at_once_and_sets_go_on_while_it_is_allocated() {
    let (size, rounds) = if is_long() { ("4GiB", 3) } else { ("320MiB", 1) };
    for _ in 0..rounds {
        let begun = Instant::now();
        let daemon = Daemon::start(PROGRAM, CONFIG, size);
        let client = connect(&daemon);
        let served = begun.elapsed();
        println!("{size}: served after {served:?}");
        let allocating = Instant::now();
        let most = Duration::from_secs(if is_long() { 300 } else { 3 });
        let goes_on = || !is_whole(&client) && allocating.elapsed() < most;
        sets("while it is allocated", &daemon, &client, goes_on);
        println!("allocated: {}, after {:?}", is_whole(&client), allocating.elapsed());
        if !is_long() {
            continue;
        }
        let for_a_while = || {
            let begun = Instant::now();
            move || begun.elapsed() < Duration::from_secs(5)
        };
        sets("afterwards", &daemon, &client, for_a_while());
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| clear_pages(&end));
            sets("beside another that clears pages", &daemon, &client, for_a_while());
            end.store(true, Ordering::Relaxed);
            other.join().unwrap();
        });
        sets("afterwards", &daemon, &client, for_a_while());
    }
}
