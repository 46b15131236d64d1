//! Another boot, which `/proc/sys/kernel/random/boot_id` tells: a file mounted over it.

use super::peer::Peer;
use super::{can_run, daemon};
use std::io::Write;

/// The hazard: a table of another boot, whose expiries count on a clock that has begun again, is
/// taken for one of this boot.
#[test]
fn a_table_of_another_boot_is_replaced_by_an_empty_one() {
    if !can_run("another boot", &["unshare", "--mount", "true"]) {
        return;
    }
    let mut other_boot = tempfile::NamedTempFile::new().unwrap();
    writeln!(other_boot, "01234567-89ab-cdef-0123-456789abcdef").unwrap();
    let mount = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let other_boot = other_boot.path().to_str().unwrap();
    let under = ["unshare", "--mount", "sh", "-c", mount, other_boot];
    let mut daemon = daemon();
    daemon.restart();
    let mut reader = Peer::start(&[], &daemon.socket());
    assert_eq!(reader.ask("set key value 3600000"), "stored");
    for (under, is_warm) in [(&[][..], true), (&under, false), (&under, true), (&[], false)] {
        daemon.kill();
        daemon.run_under(under);
        daemon.restart();
        let mut fresh = Peer::start(&[], &daemon.socket());
        let expected = if is_warm { "value" } else { "nothing" };
        assert_eq!(fresh.ask("get key"), expected, "{under:?}: {}", daemon.log());
        assert_eq!(reader.ask("get key"), expected, "{under:?}: the client of the first boot");
        assert_eq!(daemon.log().contains("before the last boot"), !is_warm, "{}", daemon.log());
        assert_eq!(fresh.ask("set key value 3600000"), "stored");
    }
}
