//! Versions over restarts and new tables.

use super::{PROGRAM, connect, plain};
use l1d_client::{Outcome, Token};
use std::os::unix::fs::FileExt;
use test_support::daemon::Daemon;

/// Word of the header that holds the version ceiling.
const CEILING: u64 = 8 * shm_layout::header::VERSION_CEILING as u64;

fn version(daemon: &Daemon) -> u64 {
    connect(daemon).set("key", "v").unwrap().version
}

/// The hazard: a token of a former table identifies another value of the next one.
#[test]
fn a_version_that_was_handed_out_does_not_come_again_in_a_new_table() {
    let mut daemon = Daemon::start(PROGRAM, "[table]\nvalue_bytes_max = \"64KiB\"", "16MiB");
    let first = version(&daemon);
    let token = Token::of_version(first).unwrap();
    for loss in ["removed", "damaged", "of a later clock"] {
        assert!(daemon.terminate().success());
        let file = std::fs::OpenOptions::new().read(true).write(true).open(daemon.table()).unwrap();
        let mut least = first;
        match loss {
            "removed" => std::fs::remove_file(daemon.table()).unwrap(),
            // Its magic number.
            "damaged" => file.write_all_at(&[0xff; 16], 0).unwrap(),
            _ => {
                // As if the clock had been set back by an hour since.
                least = version_in(&file) + 3_600_000_000_000;
                file.write_all_at(&least.to_le_bytes(), CEILING).unwrap();
                file.write_all_at(&[0xff; 16], 0).unwrap();
            }
        }
        daemon.restart();
        let client = connect(&daemon);
        assert_eq!(client.get("key").unwrap(), None, "{loss}: a new table");
        let next = version(&daemon);
        assert!(next > least, "{loss}: {next} after {least}");
        let set = client.compare_and_set("key", token, "x", &plain());
        assert_eq!(set, Ok(Outcome::Conflict), "{loss}");
    }
    daemon.kill();
    let before = version_in(&std::fs::File::open(daemon.table()).unwrap());
    daemon.restart();
    assert!(version(&daemon) > before, "a restart onto the same table");
}

fn version_in(file: &std::fs::File) -> u64 {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, CEILING).unwrap();
    u64::from_le_bytes(word)
}
