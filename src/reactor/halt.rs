//! Whether this machine halts idle processors at once.

use std::fs;
use std::path::Path;

const GOVERNOR: &str = "devices/system/cpu/cpuidle/current_governor";
const POLL_NS: &str = "module/haltpoll/parameters/guest_halt_poll_ns";

/// Whether this is a virtual machine whose kernel could let idle processors poll before they halt,
/// and is told not to. Each wakeup of a sleeping thread then takes tens of microseconds.
#[must_use]
pub fn halts_at_once() -> bool {
    halts_by(Path::new("/sys"))
}

fn halts_by(sys: &Path) -> bool {
    let says = |file: &str, word: &str| {
        fs::read_to_string(sys.join(file)).is_ok_and(|text| text.trim() == word)
    };
    says(GOVERNOR, "haltpoll") && says(POLL_NS, "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_that_could_poll_and_does_not_halts_at_once() {
        let sys = tempfile::tempdir().unwrap();
        assert!(!halts_by(sys.path()), "nothing is known");
        for (governor, ns, expected) in
            [("haltpoll", "0", true), ("haltpoll", "200000", false), ("menu", "0", false)]
        {
            for (file, text) in [(GOVERNOR, governor), (POLL_NS, ns)] {
                let file = sys.path().join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, format!("{text}\n")).unwrap();
            }
            assert_eq!(halts_by(sys.path()), expected, "{governor} {ns}");
        }
    }
}
