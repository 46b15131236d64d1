//! The hazard: a restart with another policy walks a large table before anybody is served.

use super::{PROGRAM, is_long};
use l1d_client::SetOptions;
use std::time::Instant;
use test_support::daemon::{Daemon, connect};

fn config(rule: usize) -> String {
    format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\naverage_entry_bytes = 48\n\
         [defaults]\nttl = \"1h\"\n[[policy]]\nprefix = \"rule:{rule}:\"\n"
    )
}

#[test]
fn a_restart_with_a_new_prefix_is_ready_soon_and_keeps_the_others_entries() {
    let (size, count, restarts) =
        if is_long() { ("1GiB", 8_000_000_u32, 6_usize) } else { ("64MiB", 200_000, 2) };
    let mut daemon = Daemon::start(PROGRAM, &config(0), size);
    let client = connect(&daemon);
    let options = SetOptions { no_wait: true, ..SetOptions::default() };
    for n in 0..count {
        while client.set_with(n.to_le_bytes(), b"value", &options).is_err() {
            std::thread::yield_now();
        }
    }
    client.set(b"last", b"one").unwrap();
    let found = |client: &l1d_client::Client| {
        (0..count).filter(|n| client.peek(n.to_le_bytes()).is_some()).count()
    };
    let kept = found(&client);
    for restart in 0..restarts {
        // Each second restart has another rule than before.
        let (rule, is_new) = (restart.div_ceil(2), restart % 2 == 1);
        let key = format!("rule:{rule}:1");
        connect(&daemon).set(&key, b"value").unwrap();
        daemon.terminate();
        daemon.configure(&config(rule));
        let begun = Instant::now();
        daemon.restart();
        println!("{kept} entries, new prefix: {is_new}, ready after {:?}", begun.elapsed());
        let client = connect(&daemon);
        assert_eq!(client.peek(&key).is_none(), is_new);
        if restart + 1 == restarts {
            assert_eq!(found(&client), kept);
        }
    }
}
