//! A client in a process of its own: this binary, started again under a command such as `unshare`.

use l1d_client::{Client, Lifetime, SetOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};
use test_support::servers::PATIENCE;

const SOCKET: &str = "L1D_PEER_SOCKET";

/// The process. It obeys one line at a time, and answers with one. Killed when dropped.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Peer {
    /// Starts a client of the daemon at `socket`, and waits until it has attached. `under` is the
    /// command that starts it.
    pub fn start(under: &[&str], socket: &Path) -> Peer {
        let mut peer = Peer::begin(under, socket);
        assert_eq!(peer.hear(), "attached");
        peer
    }

    /// The same, without waiting.
    pub fn begin(under: &[&str], socket: &Path) -> Peer {
        let this = std::env::current_exe().unwrap();
        let this = this.to_str().unwrap();
        let line = [under, &[this, "--exact", "peer::process", "--nocapture"]].concat();
        let mut child = Command::new(line[0])
            .args(&line[1..])
            .env(SOCKET, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (told, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Others are the test harness's.
                if let Some((_, line)) = line.split_once("> ")
                    && told.send(line.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Peer { child, input, answers }
    }

    /// The number of the process that was started.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line, and returns the answer.
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        self.hear()
    }

    /// The next answer.
    pub fn hear(&mut self) -> String {
        self.answers.recv_timeout(PATIENCE).expect("an answer of the process")
    }

    /// Has it read `key` until that has expired. Returns when it was seen last, by the wall clock.
    pub fn last_sight(&mut self, key: &str) -> SystemTime {
        let ns = self.ask(&format!("watch {key}")).parse().unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process itself. It is a test only because the test binary can run nothing else.
#[test]
fn process() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let builder = Client::builder().socket(socket);
    let client = match builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect() {
        Ok(client) => client,
        Err(error) => return say(&error.to_string()),
    };
    say("attached");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        say(&obey(&client, &words));
    }
}

fn obey(client: &Client, words: &[&str]) -> String {
    match *words {
        ["peek", key] => text(client.peek(key).as_deref()),
        ["get", key] => client.get(key).map_or_else(|e| e.to_string(), |v| text(v.as_deref())),
        ["set", key, value, ms] => {
            let life = Lifetime::For(Duration::from_millis(ms.parse().unwrap()));
            let options = SetOptions { lifetime: life, ..SetOptions::default() };
            let stored = client.set_with(key, value, &options);
            stored.map_or_else(|error| error.to_string(), |_| "stored".to_owned())
        }
        ["watch", key] => watch(client, key).to_string(),
        ["children", kind] => crate::forks::children(client, kind),
        _ => format!("{words:?} is no command"),
    }
}

/// Reads `key` until it is gone. When it was seen last, in ns of the wall clock: the one clock that
/// no namespace changes. 0: never.
fn watch(client: &Client, key: &str) -> u128 {
    let mut seen = 0;
    loop {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        if client.peek(key).is_none() {
            return seen;
        }
        seen = now.as_nanos();
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn text(value: Option<&[u8]>) -> String {
    value.map_or("nothing".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
}

fn say(line: &str) {
    // On a line of its own, whatever the harness has begun.
    println!("\n> {line}");
}
