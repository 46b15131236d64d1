//! A daemon over a real table that behaves as a test demands, faults above all.
#![allow(dead_code, reason = "each test file uses a part")]

use l1d_wire::policy::{PolicySet, Rule, Scope};
use l1d_wire::protocol::version::{PROTOCOL_NEGOTIATED, PROTOCOL_OLDEST};
use l1d_wire::protocol::{
    Attached, ErrorCode, Layouts, PROTOCOL_VERSION, Request, Response, frame,
};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::time::{ClockId, clock_gettime};
use shm_layout::entry::NEVER;
use shm_layout::{Entry, Geometry, Location, MappedMut, Plan, Writer};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

pub const TABLE_BYTES: u64 = 5 << 20;

/// A table in a file, and its only writer.
pub struct FakeTable {
    pub path: PathBuf,
    writer: Mutex<Writer<MappedMut>>,
    pub id: u64,
    geometry: Geometry,
    next_word: AtomicU32,
    _memory: MmapRaw,
}

impl FakeTable {
    pub fn new(directory: &Path, id: u64) -> Arc<FakeTable> {
        let plan = Plan {
            table_bytes: TABLE_BYTES,
            value_bytes_max: 1000,
            table_id: id,
            ..Plan::default()
        };
        let geometry = Geometry::plan(&plan).unwrap();
        let path = directory.join(format!("table-{id}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(TABLE_BYTES).unwrap();
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
        let memory = MmapOptions::new().map_raw(&file).unwrap();
        // SAFETY: page-aligned, mapped as long as the FakeTable lives, written only through this.
        let writer = unsafe { Writer::create(MappedMut::new(memory.as_mut_ptr()), geometry) };
        writer.open_for_readers();
        Arc::new(FakeTable {
            path,
            writer: Mutex::new(writer),
            id,
            geometry,
            next_word: AtomicU32::new(0),
            _memory: memory,
        })
    }

    /// Publishes a value that never expires.
    pub fn put(&self, key: &[u8], value: &[u8]) {
        self.publish(&Entry { key, value, version: 1, expiry: NEVER, ..Entry::default() });
    }

    pub fn publish(&self, entry: &Entry<'_>) {
        let hash = self.geometry.hasher().hash(entry.key);
        let words = u32::try_from(entry_words(entry)).unwrap();
        let at = Location { segment: 0, word: self.next_word.fetch_add(words, Ordering::Relaxed) };
        let entry = self.writer().prepare(entry).unwrap();
        self.writer().append(at, &entry, hash).unwrap();
        self.writer().publish(self.geometry.buckets(hash)[0].slot(0), hash, at);
    }

    pub fn writer(&self) -> MutexGuard<'_, Writer<MappedMut>> {
        self.writer.lock().unwrap()
    }

    pub fn open(&self) -> File {
        File::open(&self.path).unwrap()
    }

    /// Stores another layout version in both copies of the identity; see LAYOUT.md.
    pub fn set_layout_version(&self, version: u64) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        for copy in [0, 512] {
            file.write_all_at(&version.to_le_bytes(), copy + 8).unwrap();
        }
    }
}

fn entry_words(entry: &Entry<'_>) -> usize {
    4 + entry.key.len().div_ceil(8) + entry.value.len().div_ceil(8)
}

/// The daemon's reaction to a request.
pub enum Act {
    Reply(Vec<u8>),
    /// Sends nothing, and reads on.
    Silence,
    Close,
    /// Sends the first bytes at once; when the receiver gets a message or is disconnected, sends
    /// the second and reports that.
    Late(Vec<u8>, Vec<u8>, mpsc::Receiver<()>, mpsc::Sender<()>),
    /// Sends these bytes, then closes.
    Cut(Vec<u8>),
}

/// The fault in the attach handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachFault {
    None,
    Silence,
    NoDescriptor,
    ExtraDescriptor,
    WrongBytes,
    WrongId,
    WritableDescriptor,
    SharedWriteMode,
    OtherFile,
    WrongProtocol,
    Cut,
    Garbage,
    HugeFrame,
}

/// Which versions of the protocol the daemon speaks.
#[derive(Debug, Clone, Copy)]
pub enum Speaks {
    /// This one alone, as version 4 does.
    Only(u32),
    /// All from the oldest to this one.
    UpTo(u32),
}

/// What the daemon says of itself when a client attaches.
#[derive(Debug, Clone, Copy)]
pub struct Says {
    pub speaks: Speaks,
    pub instance: u64,
    pub layouts: Layouts,
    /// Bytes of the mailbox that it hands out, which nobody serves.
    pub mailbox_bytes: Option<u64>,
}

/// A request to attach, as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub protocol: u32,
    pub mailbox: bool,
}

type Behaviour = dyn Fn(u64, &Request<'_>) -> Act + Send + Sync;

struct Shared {
    table: Mutex<Arc<FakeTable>>,
    fault: Mutex<AttachFault>,
    hold: Mutex<Option<Hold>>,
    policy: Mutex<Vec<u8>>,
    says: Mutex<Says>,
    asked: Mutex<Vec<Asked>>,
    behaviour: Box<Behaviour>,
    stopping: AtomicBool,
    streams: Mutex<Vec<UnixStream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Pauses one attach after reading the request, before answering it with the table of that time.
struct Hold {
    reached: mpsc::Sender<()>,
    release: mpsc::Receiver<()>,
}

pub struct FakeDaemon {
    pub socket: PathBuf,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// One frame of `response`.
pub fn framed(response: &Response<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.encode(&mut bytes).unwrap();
    bytes
}

pub fn found(value: &[u8]) -> Vec<u8> {
    framed(&Response::Found {
        value,
        flags: 7,
        version: 0,
        ttl: std::time::Duration::from_secs(1000),
    })
}

impl FakeDaemon {
    /// Listens at `socket`. `behaviour` gets the number of the connection (from 0) and the request.
    pub fn start(
        socket: &Path,
        table: &Arc<FakeTable>,
        behaviour: impl Fn(u64, &Request<'_>) -> Act + Send + Sync + 'static,
    ) -> FakeDaemon {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let shared = Arc::new(Shared {
            table: Mutex::new(Arc::clone(table)),
            fault: Mutex::new(AttachFault::None),
            hold: Mutex::new(None),
            policy: Mutex::new(policy(None)),
            says: Mutex::new(Says {
                speaks: Speaks::UpTo(PROTOCOL_VERSION),
                instance: 1,
                layouts: Layouts::OWN,
                mailbox_bytes: None,
            }),
            asked: Mutex::default(),
            behaviour: Box::new(behaviour),
            stopping: AtomicBool::new(false),
            streams: Mutex::default(),
            threads: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let listener = std::thread::spawn(move || accept(&listener, &accepting));
        FakeDaemon { socket: socket.to_owned(), shared, listener: Some(listener) }
    }

    pub fn set_fault(&self, fault: AttachFault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Changes what the daemon says of itself from now on.
    pub fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.shared.says.lock().unwrap());
    }

    /// The requests to attach since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// Closes every open connection; new ones are accepted.
    pub fn close_connections(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// From the next attach on, keys that begin with `prefix` have process scope.
    pub fn set_process_scope(&self, prefix: &[u8]) {
        *self.shared.policy.lock().unwrap() = policy(Some(prefix));
    }

    /// Pauses the next attach: the receiver reports that it has arrived, dropping the sender lets
    /// it go on.
    pub fn hold_next_attach(&self) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (reached, wait) = mpsc::channel();
        let (held, release) = mpsc::channel();
        *self.shared.hold.lock().unwrap() = Some(Hold { reached, release });
        (wait, held)
    }

    pub fn set_table(&self, table: &Arc<FakeTable>) {
        *self.shared.table.lock().unwrap() = Arc::clone(table);
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
        self.listener.take().unwrap().join().unwrap();
        self.close_connections();
        for thread in self.shared.threads.lock().unwrap().drain(..) {
            thread.join().unwrap();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for number in 0.. {
        let (stream, _) = listener.accept().unwrap();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let kept = stream.try_clone().unwrap();
        shared.streams.lock().unwrap().push(kept);
        let serving = Arc::clone(shared);
        let thread = std::thread::spawn(move || serve(number, stream, &serving));
        shared.threads.lock().unwrap().push(thread);
    }
}

fn serve(number: u64, mut stream: UnixStream, shared: &Shared) {
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    let mut has_mailbox = false;
    loop {
        let Some(payload) = frame::split(&received, 1 << 24).unwrap() else {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(bytes) => received.extend_from_slice(&piece[..bytes]),
            }
            continue;
        };
        let end = payload.end;
        let act = match Request::decode(&received[payload]).unwrap() {
            Request::Attach { protocol, mailbox } => {
                assert!(!has_mailbox, "a request over the socket of a mailbox");
                let asked = Asked { protocol, mailbox };
                shared.asked.lock().unwrap().push(asked);
                has_mailbox = mailbox && shared.says.lock().unwrap().mailbox_bytes.is_some();
                attach(&stream, shared, asked)
            }
            _ if has_mailbox => panic!("a request over the socket of a mailbox"),
            request => (shared.behaviour)(number, &request),
        };
        received.drain(..end);
        match act {
            Act::Silence => {}
            Act::Reply(bytes) => drop(stream.write_all(&bytes)),
            Act::Late(first, second, release, done) => {
                stream.write_all(&first).unwrap();
                let _ = release.recv();
                stream.write_all(&second).unwrap();
                drop(done);
            }
            Act::Cut(bytes) => {
                let _ = stream.write_all(&bytes);
                break;
            }
            Act::Close => break,
        }
    }
    // Otherwise the clone in `streams` keeps the socket open.
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn attach(stream: &UnixStream, shared: &Shared, asked: Asked) -> Act {
    let fault = *shared.fault.lock().unwrap();
    let says = *shared.says.lock().unwrap();
    let protocol = match says.speaks {
        _ if fault == AttachFault::WrongProtocol => PROTOCOL_VERSION + 1,
        Speaks::Only(version) if asked.protocol == version => version,
        Speaks::UpTo(version) if asked.protocol >= PROTOCOL_OLDEST => version.min(asked.protocol),
        _ => {
            let message = "another version; upgrade it";
            return Act::Cut(framed(&Response::Error { code: ErrorCode::WrongProtocol, message }));
        }
    };
    let table = Arc::clone(&shared.table.lock().unwrap());
    if let Some(hold) = { shared.hold.lock().unwrap().take() } {
        hold.reached.send(()).unwrap();
        let _ = hold.release.recv();
    }
    let policy = shared.policy.lock().unwrap().clone();
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    let mailbox = says.mailbox_bytes.filter(|_| asked.mailbox).map(|bytes| {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"fake-mailbox", flags).unwrap());
        file.set_len(bytes).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        (bytes, file)
    });
    let reply = framed(&Response::Attached(Attached {
        protocol,
        table_id: table.id + u64::from(fault == AttachFault::WrongId),
        table_bytes: TABLE_BYTES + u64::from(fault == AttachFault::WrongBytes),
        instance: says.instance,
        clock_ns: u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec()).unwrap(),
        mailbox_bytes: mailbox.as_ref().map_or(0, |(bytes, _)| *bytes),
        policy: &policy,
        layouts: (protocol >= PROTOCOL_NEGOTIATED).then_some(says.layouts),
        policy_epoch: None,
    }));
    let mut file = table.open();
    let mut bytes = reply.as_slice();
    match fault {
        AttachFault::Silence => return Act::Silence,
        AttachFault::Garbage => return Act::Reply(vec![2, 0, 0, 0, 77, 77]),
        AttachFault::HugeFrame => return Act::Reply(vec![255; 8]),
        AttachFault::NoDescriptor => return Act::Reply(reply),
        AttachFault::Cut => bytes = &reply[..reply.len() - 1],
        AttachFault::WritableDescriptor => {
            file = OpenOptions::new().read(true).write(true).open(&table.path).unwrap();
        }
        AttachFault::SharedWriteMode => {
            file.set_permissions(Permissions::from_mode(0o666)).unwrap();
        }
        AttachFault::OtherFile => {
            let path = table.path.with_extension("other");
            std::fs::write(&path, vec![7; usize::try_from(TABLE_BYTES).unwrap()]).unwrap();
            file = File::open(path).unwrap();
        }
        _ => {}
    }
    let mut descriptors: Vec<RawFd> = vec![file.as_raw_fd()];
    descriptors.extend(mailbox.iter().map(|(_, file)| file.as_raw_fd()));
    if fault == AttachFault::ExtraDescriptor {
        descriptors.push(stream.as_raw_fd());
    }
    let control = [ControlMessage::ScmRights(&descriptors)];
    let pieces = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(stream.as_raw_fd(), &pieces, &control, flags, None);
    match (sent, fault) {
        (Err(_), _) | (_, AttachFault::Cut) => Act::Close,
        _ => Act::Silence,
    }
}

/// A policy with the default rule, and one with process scope and `ttl = "30s"` for this prefix.
fn policy(process_prefix: Option<&[u8]>) -> Vec<u8> {
    let everyone = PolicySet::default().rules()[0].clone();
    let everyone = Rule { value_bytes_max: 4 << 20, ..everyone };
    let mut rules = vec![everyone.clone()];
    if let Some(prefix) = process_prefix {
        rules.push(Rule { id: 1, prefix: prefix.to_vec(), scope: Scope::Process, ..everyone });
    }
    PolicySet::new(rules).expect("two different prefixes").encode()
}
