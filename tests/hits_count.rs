//! The hazard: entries that processes read all the time are evicted like unread ones, because hits
//! happen without the daemon.

use l1d_client::Client;
use serde_json::Value;
use test_support::daemon::Daemon;
use test_support::servers::{PATIENCE, until};

const VALUE: [u8; 4000] = [7; 4000];
/// Keys of which every second one is read.
const KEYS: usize = 100;
/// Keys that fill the table; then as many again to press on it.
const FILL: usize = 4500;
const PRESS: usize = 2000;

fn stats(client: &Client) -> Value {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

fn key(number: usize) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

#[test]
fn entries_that_are_read_in_the_table_outlive_others() {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n";
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB");
    let builder = Client::builder().socket(daemon.socket());
    let client = builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect().unwrap();
    // The main queue is full: new entries begin in the small queue, and stay only if they are hit
    // there.
    for number in 0..FILL {
        client.set(format!("fill {number}").as_bytes(), VALUE).unwrap();
    }
    assert_eq!(stats(&client)["table"]["is_filling"], false);
    for number in 0..KEYS {
        client.set(key(number), VALUE).unwrap();
    }
    let before = stats(&client)["requests"]["gets"].clone();
    let reported = |stats: &Value| stats["clients"]["hit_reports"].as_u64().unwrap();
    let begun = reported(&stats(&client));
    // Without any request. A thread that reads fast reports a part of its hits at random intervals.
    until("the hits to be reported", || {
        for _ in 0..100 {
            for number in (0..KEYS).step_by(2) {
                assert!(client.peek(key(number)).is_some(), "key {number}");
            }
        }
        (reported(&stats(&client)) - begun > 40 * KEYS as u64).then_some(())
    });
    assert_eq!(stats(&client)["requests"]["gets"], before, "the daemon was asked");
    for number in 0..PRESS {
        client.set(format!("press {number}").as_bytes(), VALUE).unwrap();
    }
    let kept = |first| (first..KEYS).step_by(2).filter(|n| client.peek(key(*n)).is_some()).count();
    let (read, not_read) = (kept(0), kept(1));
    println!("kept {read} that were read, {not_read} that were not");
    assert!(read > KEYS * 9 / 20 && not_read < KEYS / 20, "{:#}", stats(&client)["table"]);
}
