//! A client that makes every kind of request until it is killed.

use l1d_client::{Client, SetOptions};
use std::process::ExitCode;
use std::time::Duration;

/// More than the ring holds at once.
const POSTED: u32 = 3000;

/// That wait at a time; a mailbox has lanes for 16.
const THREADS: u32 = 12;

/// Runs until it is killed, or a request fails.
pub fn run(socket: &str) -> ExitCode {
    // No spinning: each thread that waits for a reply sleeps.
    let builder = Client::builder().socket(socket).spin(Duration::ZERO);
    let client = builder.connect().expect("the daemon runs");
    let no_wait = SetOptions { no_wait: true, ..SetOptions::default() };
    for round in 0_u32.. {
        for n in 0..200 {
            let key = format!("child:{n}");
            client.set(&key, [7; 700]).expect("a set");
            client.get(&key).expect("a get");
            let _ = client.peek(&key);
        }
        let mut pending = client.request_set("child:polled", "1", &SetOptions::default());
        while pending.poll().is_none() {
            std::thread::sleep(Duration::from_micros(100));
        }
        for _ in 0..POSTED {
            // A full ring is an answer, too.
            let _ = client.set_with("child:posted", [1; 500], &no_wait);
        }
        // Together more than the ring holds, so that threads wait for room.
        std::thread::scope(|scope| {
            for n in 0..THREADS {
                let client = &client;
                scope.spawn(move || {
                    client.set(format!("child:large:{n}"), [2; 15 << 10]).expect("a set")
                });
            }
        });
        client.set("child:round", round.to_le_bytes()).expect("a set");
    }
    ExitCode::SUCCESS
}
