//! The event loop in a thread, with a service that reports its calls to the test and obeys it.

use super::super::{Limits, Origin, Peer, Replies, Service};
use super::NEVER;
use crate::event_loop;
use crate::manager::ServiceManager;
use crate::reactor::{Interest, Reactor, Readiness, Token};
use l1d_wire::protocol::{Attached, Layouts, PROTOCOL_VERSION, Request, Response};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A call of the service.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A get of a key that begins with `later` or `block`, or a set that wants no reply. After a
    /// set of a key that begins with `full`, the service takes no more until it is released.
    Asked(Origin, Vec<u8>),
    /// A request for this many keys; for none: for the policy, as an example of figures.
    Many(Origin, usize),
    Gone(Origin),
    Hit(u64, u32),
}

pub struct Daemon {
    directory: tempfile::TempDir,
    stop: Arc<EventFd>,
    wake: Arc<EventFd>,
    heard: Receiver<Heard>,
    answers: Sender<(Origin, Vec<u8>)>,
    release: Sender<()>,
    handled: Arc<AtomicUsize>,
    turns: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    pub fn start(limits: Limits) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let path = directory.path().join("socket");
        fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        fs::write(directory.path().join("table"), b"the table").unwrap();

        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let [stop, wake] = [(), ()].map(|()| Arc::new(EventFd::from_flags(flags).unwrap()));
        let (hear, heard) = channel();
        let (answers, to_answer) = channel();
        let (release, released) = channel();
        let [handled, turns] = [(), ()].map(|()| Arc::new(AtomicUsize::new(0)));
        let mut service = Scripted {
            hear,
            answers: to_answer,
            released,
            handled: handled.clone(),
            turns: turns.clone(),
            table: File::open(directory.path().join("table")).unwrap(),
            is_together: false,
            is_full: false,
            wake: None,
        };
        let thread = std::thread::spawn({
            let (stop, wake) = (stop.clone(), wake.clone());
            move || {
                let reactor = Reactor::new().unwrap();
                reactor.register(wake.as_fd(), Token::tier(0), Interest::READABLE).unwrap();
                service.wake = Some(wake);
                let mut manager = ServiceManager::none();
                event_loop::run(&reactor, &listener, &*stop, &mut service, &mut manager, limits)
                    .unwrap();
            }
        });
        let thread = Some(thread);
        Daemon { directory, stop, wake, heard, answers, release, handled, turns, thread }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub fn table(&self) -> PathBuf {
        self.directory.path().join("table")
    }

    /// The next call of the service.
    pub fn hear(&self) -> Heard {
        self.heard.recv_timeout(NEVER).expect("the service is told something")
    }

    /// Calls of the service that the test has not looked at.
    pub fn unheard(&self) -> Vec<Heard> {
        self.heard.try_iter().collect()
    }

    /// Replies with this value, in a later turn than the request.
    pub fn answer(&self, origin: Origin, value: &[u8]) {
        self.answers.send((origin, value.to_vec())).unwrap();
        self.wake.write(1).unwrap();
    }

    /// Lets the event loop go on after a key that begins with `block`, or, with its next turn, the
    /// service take requests after one that begins with `full`.
    pub fn release(&self) {
        self.release.send(()).unwrap();
    }

    /// Gets that the service has handled.
    pub fn handled(&self) -> usize {
        self.handled.load(Ordering::SeqCst)
    }

    /// Turns of the event loop.
    pub fn turns(&self) -> usize {
        self.turns.load(Ordering::SeqCst)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.write(1).unwrap();
        let thread = self.thread.take().filter(|_| !std::thread::panicking());
        // Joining after a failed test could hang, and hide the failure.
        if let Some(Err(panic)) = thread.map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

struct Scripted {
    hear: Sender<Heard>,
    answers: Receiver<(Origin, Vec<u8>)>,
    released: Receiver<()>,
    handled: Arc<AtomicUsize>,
    turns: Arc<AtomicUsize>,
    table: File,
    /// Between `begin` and `end`.
    is_together: bool,
    /// It takes no more requests.
    is_full: bool,
    /// Readable when an answer was given.
    wake: Option<Arc<EventFd>>,
}

fn found(value: &[u8]) -> Response<'_> {
    Response::Found { value, flags: 0, version: 1, ttl: Duration::ZERO }
}

impl Scripted {
    fn get(&self, origin: Origin, key: &[u8], replies: &mut dyn Replies) {
        self.handled.fetch_add(1, Ordering::SeqCst);
        if key.starts_with(b"later") {
            return self.tell(Heard::Asked(origin, key.to_vec()));
        }
        if key.starts_with(b"block") {
            self.tell(Heard::Asked(origin, key.to_vec()));
            self.released.recv_timeout(NEVER).unwrap();
        }
        if key.starts_with(b"twice") {
            replies.reply(origin, &found(key));
        }
        let bytes = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix("bytes "));
        match bytes {
            Some(bytes) => replies.reply(origin, &found(&vec![b'x'; bytes.parse().unwrap()])),
            None => replies.reply(origin, &found(key)),
        }
    }

    fn tell(&self, heard: Heard) {
        // Fails when the test has ended.
        let _ = self.hear.send(heard);
    }
}

impl Service for Scripted {
    fn request(
        &mut self,
        origin: Origin,
        peer: &Peer,
        request: Request<'_>,
        replies: &mut dyn Replies,
    ) {
        match request {
            Request::Attach { protocol: PROTOCOL_VERSION, .. } => {
                let attached = Attached {
                    protocol: PROTOCOL_VERSION,
                    table_id: 1,
                    table_bytes: 9,
                    instance: 1,
                    clock_ns: 0,
                    mailbox_bytes: 0,
                    policy: b"",
                    layouts: Some(Layouts::OWN),
                    policy_epoch: None,
                };
                let response = Response::Attached(attached);
                replies.reply_with_table(origin, &response, self.table.as_fd());
            }
            Request::Get { key } => self.get(origin, key, replies),
            Request::Set(set) if !set.reply => {
                self.is_full |= set.key.starts_with(b"full");
                self.tell(Heard::Asked(origin, set.key.to_vec()));
            }
            Request::GetMany { keys } => {
                self.tell(Heard::Many(origin, keys.len()));
                replies.reply(origin, &Response::Unknown);
            }
            Request::Policy => {
                self.tell(Heard::Many(origin, 0));
                replies.reply(origin, &Response::Unknown);
            }
            Request::Stats => {
                let text = serde_json::json!({
                    "origin": origin.0, "uid": peer.uid, "gid": peer.gid, "pid": peer.pid,
                    "clients": replies.clients(),
                });
                replies.reply(origin, &Response::Json(&text.to_string()));
            }
            _ => replies.reply(origin, &Response::Unknown),
        }
    }

    fn gone(&mut self, origin: Origin) {
        self.tell(Heard::Gone(origin));
    }

    fn hit(&mut self, hash: u64, times: u32) {
        self.tell(Heard::Hit(hash, times));
    }

    fn tier_ready(&mut self, _: u64, _: Readiness, replies: &mut dyn Replies) {
        let _ = self.wake.as_ref().unwrap().read();
        for (origin, value) in self.answers.try_iter() {
            replies.reply(origin, &found(&value));
        }
    }

    fn takes_more(&self) -> bool {
        !self.is_full
    }

    fn advance_tiers(&mut self, _: Instant, _: &mut dyn Replies) -> Option<Instant> {
        self.is_full = self.is_full && self.released.try_recv().is_err();
        None
    }

    fn begin(&mut self) {
        self.is_together = true;
    }

    fn end(&mut self) {
        self.is_together = false;
    }

    fn turn(&mut self, _now: Instant, _replies: &mut dyn Replies) -> Option<Instant> {
        self.turns.fetch_add(1, Ordering::SeqCst);
        assert!(!self.is_together, "requests that were begun together were not ended");
        None
    }
}
