//! Real memcached and redis-server processes, and plain clients that share no code with the tiers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub use crate::proxy::{LateRequests, Pieces, Proxy};

/// Time limit for everything in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Retries until `attempt` returns something.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[derive(Clone, Copy)]
pub enum Kind {
    Memcached,
    Redis,
}

/// A server process on a private port; killed when dropped.
pub struct Server {
    kind: Kind,
    pub port: u16,
    child: Child,
    arguments: Vec<String>,
}

impl Server {
    pub fn memcached() -> Server {
        Server::start(Kind::Memcached, &[])
    }

    pub fn redis() -> Server {
        Server::start(Kind::Redis, &[])
    }

    /// A redis-server with further arguments.
    pub fn redis_with(arguments: &[&str]) -> Server {
        Server::start(Kind::Redis, arguments)
    }

    /// A memcached with further arguments.
    pub fn memcached_with(arguments: &[&str]) -> Server {
        Server::start(Kind::Memcached, arguments)
    }

    fn start(kind: Kind, arguments: &[&str]) -> Server {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.into()).collect();
        // Another process may take the port between the probe and the server's start: then try
        // another.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(child) = spawn(kind, port, &arguments) {
                return Server { kind, port, child, arguments };
            }
        }
        panic!("no server could be started");
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts a new server on the same port. It is empty, unless its arguments name files that it
    /// kept: then this waits until they are loaded. Before that Redis answers, but refuses commands.
    pub fn restart(&mut self) {
        self.child =
            until("the port to be free again", || spawn(self.kind, self.port, &self.arguments));
        if let Kind::Redis = self.kind {
            until("the data to be loaded", || {
                let state = self.client().resp(&[b"INFO", b"persistence"]);
                state.split(|&byte| byte == b'\n').any(|line| line == b"loading:0\r").then_some(())
            });
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(kind: Kind, port: u16, arguments: &[String]) -> Option<Child> {
    let port_text = port.to_string();
    let mut command = match kind {
        Kind::Memcached => {
            let mut command = Command::new("memcached");
            command.args([
                "-l",
                "127.0.0.1",
                "-U",
                "0",
                // A limit, not a reservation.
                "-m",
                "1024",
                "-u",
                "nobody",
                "-p",
                &port_text,
            ]);
            command
        }
        Kind::Redis => {
            let mut command = Command::new("redis-server");
            command.args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
                &port_text,
            ]);
            command.current_dir(std::env::temp_dir());
            command
        }
    };
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command
        .spawn()
        .expect("install memcached and redis-server (Debian packages of these names)");
    until("the server to answer or to give up", || {
        if child.try_wait().unwrap().is_some() {
            return Some(None);
        }
        answers(kind, port, child.id()).then_some(Some(()))
    })
    .filter(|()| child.try_wait().unwrap().is_none())
    .map(|()| child)
}

/// The process `pid` answers on the port. A server of another test may have taken it first.
fn answers(kind: Kind, port: u16, pid: u32) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (question, answer) = match kind {
        Kind::Memcached => ("stats\r\n", format!("STAT pid {pid}")),
        Kind::Redis => ("INFO server\r\n", format!("process_id:{pid}")),
    };
    (&stream).write_all(question.as_bytes()).is_ok()
        && BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| line != "END" && !line.starts_with("config_file"))
            .any(|line| line.trim_end() == answer)
}

/// A client with raw ASCII for memcached, raw RESP for Redis.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// `set` of the classic ASCII protocol.
    pub fn ascii_set(&mut self, key: &str, flags: u32, ttl: i64, value: &[u8]) {
        self.write(format!("set {key} {flags} {ttl} {}\r\n", value.len()).as_bytes());
        self.write(value);
        self.write(b"\r\n");
        assert_eq!(self.line(), "STORED");
    }

    /// `get` of the classic ASCII protocol: flags and value.
    pub fn ascii_get(&mut self, key: &str) -> Option<(u32, Vec<u8>)> {
        self.write(format!("get {key}\r\n").as_bytes());
        let line = self.line();
        if line == "END" {
            return None;
        }
        let mut words = line.split(' ').skip(2);
        let flags = words.next().unwrap().parse().unwrap();
        let count = words.next().unwrap().parse().unwrap();
        let value = self.bytes(count);
        assert_eq!((self.line(), self.line()), (String::new(), "END".into()));
        Some((flags, value))
    }

    /// Remaining seconds, by the meta protocol.
    pub fn ascii_ttl(&mut self, key: &str) -> i64 {
        self.write(format!("mg {key} t\r\n").as_bytes());
        self.line().strip_prefix("HD t").expect("a hit").parse().unwrap()
    }

    /// Sends one line of ASCII and receives one line.
    pub fn ascii(&mut self, command: &str) -> String {
        self.write(format!("{command}\r\n").as_bytes());
        self.line()
    }

    /// GET of the binary protocol, whose keys may have any bytes.
    pub fn binary_get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let length = u16::try_from(key.len()).unwrap();
        let mut request = vec![0x80, 0];
        request.extend(length.to_be_bytes());
        request.extend([0, 0, 0, 0]);
        request.extend(u32::from(length).to_be_bytes());
        request.extend([0; 12]);
        request.extend(key);
        self.write(&request);
        let header = self.bytes(24);
        let status = u16::from_be_bytes([header[6], header[7]]);
        let total = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let body = self.bytes(usize::try_from(total).unwrap());
        (status == 0).then(|| body[usize::from(header[4])..].to_vec())
    }

    /// A command in RESP; the reply as text: `+OK`, `:1`, `-ERR ...`, `$-1`, or the string itself.
    pub fn resp(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let line = self.ask(words);
        self.string(&line).unwrap_or_else(|| line.into_bytes())
    }

    /// `GET`, whose value may look like any other reply.
    pub fn resp_get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let line = self.ask(&[b"GET", key]);
        let value = self.string(&line);
        assert!(value.is_some() || line == "$-1", "GET is answered by {line}");
        value
    }

    /// Sends a command in RESP; returns the first line of the reply.
    fn ask(&mut self, words: &[&[u8]]) -> String {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).as_bytes());
            command.extend(*word);
            command.extend(b"\r\n");
        }
        self.write(&command);
        self.line()
    }

    /// The string that `line` announces, if it does.
    fn string(&mut self, line: &str) -> Option<Vec<u8>> {
        let count = line.strip_prefix('$').filter(|&count| count != "-1")?;
        let value = self.bytes(count.parse().unwrap());
        self.line();
        Some(value)
    }

    pub fn resp_int(&mut self, words: &[&[u8]]) -> i64 {
        let reply = String::from_utf8(self.resp(words)).unwrap();
        reply.strip_prefix(':').expect("a number").parse().unwrap()
    }
}

/// A memcached that answers the first exchange of `count` commands with `answers`, and passes every
/// line that it receives to the test. Later commands get a success reply.
pub fn scripted_memcached(count: usize, answers: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut commands = 0;
        for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
            if line == "mn" {
                // The greeting.
                (&stream).write_all(b"MN\r\n").unwrap();
                continue;
            }
            let is_command = line.starts_with('m');
            commands += usize::from(is_command);
            let opaque = line.split(' ').find(|token| token.starts_with('O')).map(str::to_owned);
            if sender.send(line).is_err() {
                return;
            }
            if is_command && commands >= count {
                let done = format!("HD {}\r\n", opaque.unwrap_or_default());
                let answers = if commands == count { answers } else { &done };
                (&stream).write_all(answers.as_bytes()).unwrap();
            }
        }
    });
    (address, lines)
}
