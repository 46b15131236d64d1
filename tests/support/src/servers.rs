//! Real memcached and redis-server processes, a proxy that holds replies back, and plain clients
//! that share no code with the tiers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

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

    /// Starts a new, empty server on the same port.
    pub fn restart(&mut self) {
        self.child =
            until("the port to be free again", || spawn(self.kind, self.port, &self.arguments));
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
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).as_bytes());
            command.extend(*word);
            command.extend(b"\r\n");
        }
        self.write(&command);
        let line = self.line();
        match line.strip_prefix('$') {
            Some(count) if count != "-1" => {
                let value = self.bytes(count.parse().unwrap());
                self.line();
                value
            }
            _ => line.into_bytes(),
        }
    }

    pub fn resp_int(&mut self, words: &[&[u8]]) -> i64 {
        let reply = String::from_utf8(self.resp(words)).unwrap();
        reply.strip_prefix(':').expect("a number").parse().unwrap()
    }
}

/// How a [`Proxy`] forwards replies.
#[derive(Debug, Clone, Copy)]
pub enum Pieces {
    /// As they arrive.
    Whole,
    /// Byte by byte.
    Bytes,
    /// In two halves, the second one a little later.
    Halves,
    /// In pieces of 16 KiB, one each 15 ms.
    Slow,
}

/// A proxy before a server that can hold replies or requests back, split replies, and be cut off.
pub struct Proxy {
    pub port: u16,
    /// Replies of all connections.
    held: Arc<Gate>,
    /// Requests of the connections that are open now, and of later ones.
    requests: Mutex<Arc<Gate>>,
    is_cut: AtomicBool,
    /// To end them.
    clients: Mutex<Vec<TcpStream>>,
    /// The port of the server behind it; connections that exist stay with theirs.
    upstream: AtomicU16,
    connections: Arc<Connections>,
}

/// Connections of a proxy, numbered from 0.
#[derive(Default)]
struct Connections {
    opened: AtomicUsize,
    /// The first of these are dead: they stay open, and nothing is forwarded over them any more, in
    /// either direction.
    dead: AtomicUsize,
}

type Gate = (Mutex<Held>, Condvar);

/// Whether replies are held back, and the number waiting.
#[derive(Default)]
struct Held {
    on: bool,
    waiting: usize,
}

impl Proxy {
    pub fn before(server: &Server) -> Arc<Proxy> {
        Proxy::cutting(server, Pieces::Whole)
    }

    pub fn cutting(server: &Server, pieces: Pieces) -> Arc<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Arc::new(Proxy {
            port,
            held: Arc::default(),
            requests: Mutex::default(),
            is_cut: AtomicBool::new(false),
            clients: Mutex::default(),
            upstream: AtomicU16::new(server.port),
            connections: Arc::default(),
        });
        let shared = Arc::downgrade(&proxy);
        // These threads end with the test process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Some(proxy) = shared.upgrade() else { return };
                if proxy.is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let upstream = proxy.upstream.load(Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else {
                    continue;
                };
                let number = proxy.connections.opened.fetch_add(1, Ordering::SeqCst);
                let life = Life { number, all: Arc::clone(&proxy.connections) };
                let there = life.clone();
                proxy.clients.lock().unwrap().push(client.try_clone().unwrap());
                let (to_server, to_client) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                let requests = Arc::clone(&proxy.requests.lock().unwrap());
                std::thread::spawn(move || {
                    copy(client, to_server, (&requests, &there), Pieces::Whole);
                });
                let replies = Arc::clone(&proxy.held);
                std::thread::spawn(move || copy(server, to_client, (&replies, &life), pieces));
            }
        });
        proxy
    }

    /// Takes requests but delivers none of them, on the connections that are open now. On later
    /// connections they pass.
    pub fn hold_requests(&self) -> LateRequests {
        let mut requests = self.requests.lock().unwrap();
        requests.0.lock().unwrap().on = true;
        LateRequests(std::mem::take(&mut *requests))
    }

    /// Ends all connections, and every new one at once, until [`mend`](Proxy::mend).
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for client in self.clients.lock().unwrap().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends connections that are opened from now on to another server, as a name or a virtual
    /// address does after a failover.
    pub fn lead_to(&self, server: &Server) {
        self.upstream.store(server.port, Ordering::SeqCst);
    }

    /// Connections that were opened so far.
    pub fn connections(&self) -> usize {
        self.connections.opened.load(Ordering::SeqCst)
    }

    /// From now on nothing is forwarded over the connections that exist, which stay open: as when a
    /// firewall has forgotten them.
    pub fn forget_connections(&self) {
        self.connections.dead.store(self.connections(), Ordering::SeqCst);
    }

    /// Forwards requests but holds replies back.
    pub fn hold(&self) {
        self.held.0.lock().unwrap().on = true;
    }

    /// Returns when a reply of the server is being held back.
    pub fn wait_until_held(&self) {
        wait_until_held(&self.held);
    }

    pub fn release(&self) {
        self.held.0.lock().unwrap().on = false;
        self.held.1.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.release();
    }
}

fn wait_until_held(gate: &Gate) {
    let held = gate.0.lock().unwrap();
    let (held, _) = gate.1.wait_timeout_while(held, PATIENCE, |held| held.waiting == 0).unwrap();
    assert!(held.waiting > 0, "nothing came");
}

/// One connection of a proxy, by its number.
#[derive(Clone)]
struct Life {
    number: usize,
    all: Arc<Connections>,
}

impl Life {
    fn is_over(&self) -> bool {
        self.number < self.all.dead.load(Ordering::SeqCst)
    }
}

/// Requests that a [`Proxy`] delivers late.
#[must_use]
pub struct LateRequests(Arc<Gate>);

impl LateRequests {
    /// Returns when a request has come that is not delivered.
    pub fn wait_until_held(&self) {
        wait_until_held(&self.0);
    }

    /// Delivers them.
    pub fn deliver(&self) {
        self.0.0.lock().unwrap().on = false;
        self.0.1.notify_all();
    }
}

impl Drop for LateRequests {
    fn drop(&mut self) {
        self.deliver();
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, (gate, life): (&Gate, &Life), pieces: Pieces) {
    to.set_nodelay(true).unwrap();
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if life.is_over() {
            continue;
        }
        let mut held = gate.0.lock().unwrap();
        held.waiting += 1;
        gate.1.notify_all();
        held = gate.1.wait_while(held, |held| held.on).unwrap();
        held.waiting -= 1;
        drop(held);
        let piece_bytes = match pieces {
            Pieces::Whole => count,
            Pieces::Bytes => 1,
            Pieces::Halves => count.div_ceil(2),
            Pieces::Slow => {
                std::thread::sleep(Duration::from_millis(15));
                count
            }
        };
        let mut sent = buffer[..count].chunks(piece_bytes).map(|piece| {
            if piece_bytes < count {
                // So that the receiver reads them one by one.
                std::thread::sleep(Duration::from_micros(10));
            }
            to.write_all(piece)
        });
        if sent.any(|sent| sent.is_err()) {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    // The other direction goes on until its own end.
    let _ = to.shutdown(Shutdown::Write);
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
