//! The daemon and systemd: units, notifications, a stop, the system call filter. `./dev boot` has the
//! same with a booted systemd.

mod filter;
mod notify;
mod stop;
mod units;

const L1D: &str = env!("CARGO_BIN_EXE_l1d");
const L1CTL: &str = env!("CARGO_BIN_EXE_l1ctl");

/// Bypasses the test harness's capture, which swallows the output of a passing test.
fn notice(reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {reason}");
}

/// Runs a tool of systemd and returns everything it printed; prints a notice and returns `None` if
/// it is not installed.
fn tool(command: &mut std::process::Command) -> Option<(bool, String)> {
    match command.output() {
        Ok(output) => {
            let printed = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&printed).into_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            notice(&format!("{} is not installed", command.get_program().display()));
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// A file of the directory `systemd`.
fn read(file: &str) -> String {
    let path = directory().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn directory() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}
