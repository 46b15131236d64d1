//! Processes that are clients: this binary, started again for one of its tests.

use l1d_client::Client;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use test_support::daemon::{Daemon, connect_to};

const SOCKET: &str = "L1D_GOALS_SOCKET";

/// A process that runs a test of this binary with a client of its own. It and the test speak in
/// lines. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
}

impl Process {
    /// Starts one. Its lines go to `lines`, with its number.
    pub(crate) fn start(
        test: &str,
        daemon: &Daemon,
        number: usize,
        lines: Sender<(usize, String)>,
    ) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(SOCKET, daemon.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Others are the test harness's.
                if let Some((_, line)) = line.split_once("> ")
                    && lines.send((number, line.to_owned())).is_err()
                {
                    return;
                }
            }
        });
        Process { child, input }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the process: its client; `None` where the test runs as one of the whole binary.
pub(crate) fn client() -> Option<Client> {
    Some(connect_to(std::env::var_os(SOCKET)?.as_ref()))
}

/// In the process: tells the test a line.
pub(crate) fn say(line: &str) {
    // On a line of its own, whatever the harness has begun.
    println!("\n> {line}");
}

/// In the process: the next line from the test.
pub(crate) fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
