//! A proxy before a server that holds replies or requests back, splits replies, and is cut off.

use crate::servers::{PATIENCE, Server};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

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
