//! What two sides that share memory can do at best: a round trip by spinning, and one by waking.

use crate::machine::pin;
use rustix::thread::futex::{self, Flags};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A word for each direction, on lines of their own.
#[repr(align(128))]
struct Word(AtomicU32);

/// Round trips between this thread and another, in ns. `pause`: each side sleeps when the next one
/// begins; without one both spin. The other one is kept on `core`.
pub fn round_trips(count: u32, pause: Option<Duration>, core: Option<usize>) -> Vec<f64> {
    let (ask, answer) = (Word(AtomicU32::new(0)), Word(AtomicU32::new(0)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Where it cannot be pinned, nothing else of the run was either.
            let _ = core.map(pin);
            for number in 1..=count {
                wait(&ask.0, number, pause.is_some());
                tell(&answer.0, number, pause.is_some());
            }
        });
        let trip = |number| {
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
            let begun = Instant::now();
            tell(&ask.0, number, pause.is_some());
            wait(&answer.0, number, pause.is_some());
            begun.elapsed().as_nanos() as f64
        };
        (1..=count).map(trip).collect()
    })
}

fn tell(word: &AtomicU32, number: u32, wakes: bool) {
    word.store(number, Ordering::Release);
    if wakes {
        // Fails for nothing that could be done about.
        let _ = futex::wake(word, Flags::empty(), 1);
    }
}

fn wait(word: &AtomicU32, number: u32, sleeps: bool) {
    loop {
        let found = word.load(Ordering::Acquire);
        if found == number {
            return;
        }
        if sleeps {
            let _ = futex::wait(word, Flags::empty(), found, None);
        } else {
            spin_loop();
        }
    }
}
