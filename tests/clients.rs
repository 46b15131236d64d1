//! The hazard: a client's figures that belong to another client, or that a client can forge for
//! another.

use l1d_client::SetOptions;
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};

const PATIENCE: Duration = Duration::from_secs(20);
/// The most hits that a thread can hold back: 16 reports of up to 640 hits each, and the next.
const HELD_BACK: u64 = 17 * 640;

fn l1ctl(daemon: &Daemon, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
    command.arg("--socket").arg(daemon.socket()).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The mailboxes of this process, by requests.
fn mine(daemon: &Daemon) -> Vec<Value> {
    let told: Value =
        serde_json::from_str(&l1ctl(daemon, &["--json", "stats", "--clients"])).unwrap();
    let is_mine =
        |client: &&Value| client["pid"] == std::process::id() && client["has_mailbox"] == true;
    told["clients"].as_array().unwrap().iter().filter(is_mine).cloned().collect()
}

#[test]
fn each_client_has_its_own_figures() {
    let daemon =
        Daemon::start(env!("CARGO_BIN_EXE_l1d"), "[table]\nvalue_bytes_max = \"64KiB\"\n", "16MiB");
    let (reader, writer) = (connect(&daemon), connect(&daemon));
    for n in 0..50_u32 {
        writer.set(n.to_le_bytes(), [1; 100]).unwrap();
    }
    let no_wait = SetOptions { no_wait: true, ..SetOptions::default() };
    writer.set_with(b"more", b"1", &no_wait).unwrap();
    writer.delete(3_u32.to_le_bytes()).unwrap();
    assert_eq!(reader.get(b"unknown").unwrap(), None);
    let many: Vec<_> = (0..7).map(|n| format!("unknown {n}")).collect();
    reader.get_many(&many).unwrap();
    const HITS: u64 = 300_000;
    let mut value = Vec::new();
    for n in 0..HITS {
        let key = u32::try_from(n % 3).unwrap().to_le_bytes();
        assert!(reader.peek_into(key, &mut value).is_some());
    }
    let begun = Instant::now();
    let [busy, other] = loop {
        let mut clients = mine(&daemon);
        clients.sort_by_key(|client| client["writes"].as_u64());
        let [reading, writing] = <[Value; 2]>::try_from(clients).expect("two");
        let hits = reading["client_reported"]["hits"].as_u64().unwrap();
        // The daemon drains reports when it is awake, or some time later.
        if hits + HELD_BACK >= HITS {
            break [reading, writing];
        }
        assert!(begun.elapsed() < PATIENCE, "{hits} hits of {HITS}");
    };
    let figures =
        |client: &Value| ["requests", "reads", "writes"].map(|name| client[name].as_u64());
    assert_eq!(figures(&busy), [Some(2), Some(8), Some(0)], "{busy}");
    assert_eq!(figures(&other), [Some(52), Some(0), Some(52)], "{other}");
    assert!(busy["client_reported"]["hits"].as_u64().unwrap() <= HITS + 2 * HELD_BACK, "{busy}");
    assert_eq!(other["client_reported"]["hits"], 0);
    assert!(busy["hit_reports"].as_u64().unwrap() >= 16, "{busy}");
    assert!(other["request_bytes"].as_u64().unwrap() > 50 * 100, "{other}");
    assert!(other["reply_bytes"].as_u64() > busy["reply_bytes"].as_u64(), "{other}");
    assert_eq!(busy["program"], std::fs::read_to_string("/proc/self/comm").unwrap().trim_end());
    // The counts of a client that has gone are kept.
    drop(writer);
    let stats: Value = serde_json::from_str(&reader.admin().stats_json().unwrap()).unwrap();
    assert!(stats["clients"]["writes"].as_u64().unwrap() >= 52, "{}", stats["clients"]);
    assert!(l1ctl(&daemon, &["stats", "--clients"]).contains("reported by the client"));
}
