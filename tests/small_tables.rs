//! The hazards of small hosts: a table that needs settings that nobody has read about, a message
//! that does not name the setting to change, and entries that an index of the wrong size drops
//! without a word.

use l1d_client::{Client, SetOptions};
use serde_json::Value;
use test_support::daemon::{Daemon, connect};
use test_support::servers::until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");

fn table_stats(client: &Client) -> Value {
    let stats: Value = serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap();
    stats["table"].clone()
}

#[test]
fn small_tables_need_no_further_settings() {
    const KIB: usize = 1 << 10;
    for (size, value_bytes) in [
        ("4MiB", 8 * KIB),
        ("5MiB", 8 * KIB),
        ("16MiB", 128 * KIB),
        ("48MiB", 512 * KIB),
        ("64MiB", 512 * KIB),
        ("72MiB", 1024 * KIB),
    ] {
        let daemon = Daemon::start(PROGRAM, "", size);
        let client = connect(&daemon);
        let stats = table_stats(&client);
        let bytes = stats["table_bytes"].as_u64().unwrap();
        let asked: u64 = size.trim_end_matches("MiB").parse::<u64>().unwrap() << 20;
        assert!(bytes <= asked || daemon.log().contains("larger than configured"), "{size}");
        assert!(bytes <= asked / 4 * 5, "{size}: {bytes}");
        let largest = vec![7; value_bytes];
        for n in 0..100_u32 {
            client.set(n.to_le_bytes(), &largest).unwrap();
            assert_eq!(client.peek(n.to_le_bytes()).as_deref(), Some(&largest[..]), "{size}");
        }
        // A rule's limit follows the table, so that the message names the setting.
        let refused = client.set(b"key", vec![7; value_bytes + 1]);
        let refused = refused.expect_err(size).to_string();
        assert!(refused.contains("value_bytes_max"), "{size}: {refused}");
        let check: Value = serde_json::from_str(&client.admin().check_json().unwrap()).unwrap();
        assert_eq!(check["violation_count"], 0, "{check:#}");
    }
}

/// The configuration's size does not matter when the command line has another.
#[test]
fn limits_follow_the_size_that_holds() {
    let config = "[table]\nsize = \"16MiB\"\n[[policy]]\nprefix = \"own:\"\n\
                  value_bytes_max = \"100KiB\"\n";
    let daemon = Daemon::start(PROGRAM, config, "80MiB");
    let client = connect(&daemon);
    client.set(b"key", vec![7; 1 << 20]).unwrap();
    client.set(b"own:key", vec![7; 100 << 10]).unwrap();
    assert!(client.set(b"own:key", vec![7; (100 << 10) + 1]).is_err());
}

#[test]
fn what_is_too_small_names_the_setting_to_change() {
    let mut daemon = Daemon::start(PROGRAM, "", "16MiB");
    let client = connect(&daemon);
    let refused = client.admin().resize(Some(4 << 20), None).unwrap_err().to_string();
    assert!(refused.contains("too small") && refused.contains("value_bytes_max"), "{refused}");
    daemon.terminate();
    let serve = |daemon: &Daemon| {
        let output = daemon.command().output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (size, config) in [
        ("1MiB", ""),
        ("48MiB", "[table]\nvalue_bytes_max = \"1MiB\"\n"),
        ("16MiB", "[[policy]]\nprefix = \"a\"\nvalue_bytes_max = \"768KiB\"\n"),
        // The limit that a rule would have in a larger table.
        ("16MiB", "[[policy]]\nprefix = \"a\"\nvalue_bytes_max = \"1MiB\"\n"),
        ("16MiB", "[defaults]\nvalue_bytes_max = \"1MiB\"\n"),
    ] {
        daemon.configure(config);
        daemon.resize(size);
        let said = serve(&daemon);
        assert!(said.contains("too small") && said.contains("--table-size"), "{size}: {said}");
        assert!(said.contains("value_bytes_max"), "{size}: {said}");
    }
}

fn fill_with_tiny_entries(client: &Client, count: u32) {
    let options = SetOptions { no_wait: true, ..SetOptions::default() };
    for n in 0..count {
        while client.set_with(n.to_le_bytes(), b"tiny", &options).is_err() {
            std::thread::yield_now();
        }
    }
    // After all of them.
    client.set(b"last", b"one").unwrap();
}

fn found(client: &Client, count: u32) -> u32 {
    (0..count).map(|n| u32::from(client.peek(n.to_le_bytes()).is_some())).sum()
}

#[test]
fn many_tiny_entries_are_kept_or_the_loss_is_named_with_the_setting() {
    // As many for each byte of the table as 700,000 in 80 MiB.
    const COUNT: u32 = 140_000;
    let ttl = "[defaults]\nttl = \"1h\"\n";
    let mut daemon = Daemon::start(PROGRAM, ttl, "16MiB");
    let client = connect(&daemon);
    fill_with_tiny_entries(&client, COUNT);
    let kept = found(&client, COUNT);
    let stats = table_stats(&client);
    println!("{kept} of {COUNT} are kept: {stats}");
    assert!(kept < COUNT && stats["free_bytes"].as_u64() > Some(2 << 20), "{stats:#}");
    assert!(u64::from(COUNT - kept) <= stats["displaced"].as_u64().unwrap() + 2, "{stats:#}");
    let log = until("a warning", || Some(daemon.log()).filter(|log| log.contains("is full")));
    let suggested = log.split("average_entry_bytes = ").nth(1).unwrap();
    let suggested = suggested.split(' ').next().unwrap();
    assert!(log.contains("l1ctl resize --fit-index"), "{log}");
    for answer in [client.admin().stats_json(), client.admin().advise_json()] {
        let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
        let advice = answer["index_advice"].as_str().expect("the loss is named");
        assert!(advice.contains(&format!("average_entry_bytes = {suggested} ")), "{advice}");
        let advice = answer["advice"].as_array().unwrap();
        assert!(advice.iter().any(|advice| advice["kind"] == "index"), "{advice:?}");
    }

    // What it says helps.
    daemon.terminate();
    daemon.configure(&format!("[table]\naverage_entry_bytes = {suggested}\n{ttl}"));
    daemon.restart();
    let client = connect(&daemon);
    until("the move", || daemon.log().contains("the table has moved").then_some(()));
    fill_with_tiny_entries(&client, COUNT);
    assert_eq!(found(&client, COUNT), COUNT);
}
