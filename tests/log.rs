//! The hazard: whoever reads the log stops, the pipe fills up, and with it the daemon stops, or
//! does not end, or drops lines without saying so.

use l1d_client::Client;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{ErrorKind, PipeReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};
use test_support::daemon::Daemon;
use test_support::servers::{PATIENCE, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
/// More than a queue of lines and a small pipe hold.
const LINES: usize = 4600;

/// A daemon whose log goes into a pipe of one page.
struct Piped {
    child: Child,
    log: PipeReader,
    place: Daemon,
}

impl Piped {
    fn start(config: &str) -> Piped {
        let mut place = Daemon::start(
            PROGRAM,
            &format!("[table]\nvalue_bytes_max = \"64KiB\"\n{config}"),
            "16MiB",
        );
        place.terminate();
        let (log, end) = std::io::pipe().unwrap();
        fcntl(&log, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let mut command = place.command();
        // Standard output is the same pipe, as with `2>&1 | head`.
        let output = end.try_clone().unwrap();
        let child = command.env("L1D_LOG", "debug").stderr(end).stdout(output);
        let child = child.spawn().unwrap();
        let piped = Piped { child, log, place };
        until("the daemon to listen", || UnixStream::connect(piped.place.socket()).ok());
        piped
    }

    fn client(&self) -> Client {
        let builder = Client::builder().socket(self.place.socket());
        builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect().unwrap()
    }

    /// Has it log this many lines: each peer that sends nonsense is one.
    fn chatter(&self, lines: usize) {
        for _ in 0..lines {
            let mut peer = UnixStream::connect(self.place.socket()).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            peer.write_all(&[1, 0, 0, 0, 0xff]).unwrap();
            if let Err(error) = peer.read_to_end(&mut Vec::new()) {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the daemon waits: {error}");
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// The time that it took to end, and how.
    fn end(&mut self) -> (Duration, ExitStatus) {
        let begun = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = until("the daemon to end", || self.child.try_wait().unwrap());
        (begun.elapsed(), status)
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dropped(client: &Client) -> u64 {
    let stats = client.admin().stats_json().unwrap();
    let (_, rest) = stats.split_once("\"log_lines_dropped\":").expect("the figure");
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn serving_does_not_wait_for_the_reader_of_the_log_who_learns_what_is_missing() {
    let mut daemon = Piped::start("");
    let client = daemon.client();
    assert_eq!(dropped(&client), 0);
    daemon.chatter(LINES);
    let begun = Instant::now();
    for n in 0..1000_u32 {
        client.set(n.to_le_bytes(), b"value").unwrap();
        assert_eq!(&*client.get(n.to_le_bytes()).unwrap().unwrap(), b"value");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let missing = dropped(&client);
    assert!(missing > 0, "the log was not full");

    // The reader reads again: everything that was kept, and how much is missing.
    let mut log = daemon.log.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = log.read(&mut bytes) {
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        text
    });
    until("the queue to have room", || {
        let before = dropped(&client);
        daemon.chatter(1);
        (dropped(&client) == before).then_some(())
    });
    std::thread::sleep(Duration::from_millis(200));
    let (_, status) = daemon.end();
    assert!(status.success(), "{status}");
    let text = reader.join().unwrap();
    let told = text.lines().rfind(|line| line.contains("log lines were dropped"));
    let in_all = told.and_then(|line| line.split("in_all=").nth(1)).expect("the count");
    let in_all: u64 = in_all.trim().parse().unwrap();
    assert!(in_all >= missing, "{in_all} of {missing}");
    let peers = text.lines().filter(|line| line.contains("a peer is refused")).count() as u64;
    assert!(peers + in_all >= LINES as u64, "{peers} lines and {in_all} missing");
    assert!(text.lines().any(|line| line.ends_with("stopped")), "the last message");
}

#[test]
fn a_daemon_whose_log_is_full_ends_when_it_is_told_to() {
    let mut daemon = Piped::start("[daemon]\nlog_format = \"json\"\n");
    daemon.chatter(LINES);
    assert!(dropped(&daemon.client()) > 0, "the log was not full");
    let (took, status) = daemon.end();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!daemon.place.socket().exists());
}

/// Also the error that a daemon ends with before it has served.
#[test]
fn no_line_is_lost_without_need() {
    let mut daemon = Piped::start("");
    let reader = {
        let mut log = daemon.log.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            log.read_to_string(&mut text).unwrap();
            text
        })
    };
    daemon.chatter(500);
    let refused = daemon.place.command().output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.lines().any(|line| line.starts_with("l1d: another l1d owns the table")), "{said}");
    assert!(!said.contains('\x1b'), "colours in a pipe: {said}");
    daemon.end();
    let text = reader.join().unwrap();
    let peers = text.lines().filter(|line| line.contains("a peer is refused")).count();
    assert_eq!(peers, 500);
    assert!(text.trim_end().ends_with("stopped"), "{text}");
}
