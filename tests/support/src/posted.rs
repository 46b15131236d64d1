//! A client's end of a mailbox, used as the client crate would, and as it never would.

use crate::servers::PATIENCE;
use l1d_wire::protocol::frame::HEADER_BYTES;
use l1d_wire::protocol::{PROTOCOL_VERSION, Request, Response};
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recv, recvmsg};
use rustix::thread::futex::{self, Flags, Timespec};
use shm_layout::mailbox::ring::{Head, Kind, Producer};
use shm_layout::mailbox::{Mailbox, SHAPE};
use shm_layout::{MappedMut, Memory, MemoryMut};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Posted {
    pub stream: UnixStream,
    pub mailbox: Mailbox<MappedMut>,
    pub producer: Producer<MappedMut>,
    pub file: OwnedFd,
    /// The table's.
    pub table: OwnedFd,
    sequences: Vec<u32>,
    mapping: Arc<MmapRaw>,
}

// SAFETY: the memory is accessed only as atomics.
unsafe impl Send for Posted {}

/// The words of a mailbox, for a thread that overwrites them at random.
#[derive(Clone)]
pub struct Words {
    mailbox: Mailbox<MappedMut>,
    _mapping: Arc<MmapRaw>,
}

// SAFETY: as above.
unsafe impl Send for Words {}

impl Words {
    pub fn peek(&self, index: usize) -> u64 {
        assert!(index < SHAPE.words());
        // SAFETY: a word of the mailbox, which stays mapped as long as this lives.
        unsafe { self.mailbox.memory().load(index) }
    }

    pub fn poke(&self, index: usize, word: u64) {
        assert!(index < SHAPE.words());
        // SAFETY: as above.
        unsafe { self.mailbox.memory().store(index, word) };
    }
}

impl Words {
    /// Sleeps on a word while it stays as it is, for this time at most. Returns whether it was
    /// woken.
    pub fn sleep(&self, index: usize, time: Duration) -> bool {
        let [a, b, c, d, ..] = self.peek(index).to_le_bytes();
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        // SAFETY: a word of the mailbox; only the kernel uses the reference.
        let futex = unsafe { self.mailbox.memory().futex(index) };
        let seen = u32::from_le_bytes([a, b, c, d]);
        futex::wait(futex, Flags::empty(), seen, Some(&timeout)).is_ok()
    }
}

/// What one `recvmsg` of at most 4096 bytes brings, and the files that come along.
pub fn receive_with_files(stream: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut bytes = vec![0; 4096];
    let mut control = nix::cmsg_space!([i32; 4]);
    let mut room = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(stream.as_raw_fd(), &mut room, Some(&mut control), flags).unwrap();
    let mut files = Vec::new();
    for message in received.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(rights) = message {
            // SAFETY: the kernel has just made these for us; nobody else has their numbers.
            files.extend(rights.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let count = received.bytes;
    bytes.truncate(count);
    (bytes, files)
}

impl Posted {
    pub fn attached(socket: &Path) -> Posted {
        Posted::try_attached(socket).expect("an attachment")
    }

    /// The same; `None` if the daemon refuses.
    pub fn try_attached(socket: &Path) -> Option<Posted> {
        let mut stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut frame = Vec::new();
        let attach = Request::Attach { protocol: PROTOCOL_VERSION, mailbox: true };
        attach.encode(&mut frame).unwrap();
        stream.write_all(&frame).ok()?;
        let (bytes, mut files) = receive_with_files(&stream);
        let response = Response::decode(bytes.get(HEADER_BYTES..)?).unwrap();
        let Response::Attached(attached) = response else { return None };
        assert_eq!((attached.mailbox_bytes, files.len()), (SHAPE.bytes() as u64, 2));
        let (file, table) = (files.remove(1), files.remove(0));
        let mapping = MmapOptions::new().len(SHAPE.bytes()).map_raw(&file).unwrap();
        // SAFETY: page-aligned, and mapped as long as the mapping beside it.
        let memory = unsafe { MappedMut::new(mapping.as_mut_ptr()) };
        // SAFETY: the mapping has the bytes of this shape.
        let mailbox = unsafe { Mailbox::new(memory, SHAPE) };
        Some(Posted {
            stream,
            producer: Producer::new(mailbox.clone()),
            mailbox,
            file,
            table,
            sequences: vec![0; SHAPE.lanes],
            mapping: Arc::new(mapping),
        })
    }

    /// Pushes a record and sends a wakeup.
    pub fn push(&mut self, kind: Kind, lane: Option<u8>, bytes: &[u8]) {
        let sequence = lane.map_or(0, |lane| self.sequences[usize::from(lane)]);
        let begun = Instant::now();
        while self.producer.push(Head { kind, lane, sequence }, bytes).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the ring stays full");
            if self.is_closed() {
                return;
            }
            std::thread::yield_now();
        }
        self.ring();
    }

    pub fn ring(&mut self) {
        if self.mailbox.must_ring() {
            // The daemon may have closed.
            let _ = self.stream.write_all(&[1]);
        }
    }

    /// Sends a request on a lane, whole or in pieces.
    pub fn ask(&mut self, lane: u8, request: &Request<'_>) {
        self.ask_with(lane, request, |_| ());
    }

    /// The same; calls `meanwhile` when the lane is open and the request is not yet written.
    pub fn ask_with(
        &mut self,
        lane: u8,
        request: &Request<'_>,
        meanwhile: impl FnOnce(&mut Posted),
    ) {
        self.sequences[usize::from(lane)] += 1;
        self.mailbox.open_lane(lane.into(), self.sequences[usize::from(lane)]);
        meanwhile(self);
        let payload = payload(request);
        if payload.len() <= SHAPE.piece_bytes() {
            return self.push(Kind::Whole, Some(lane), &payload);
        }
        let pieces: Vec<&[u8]> = payload.chunks(SHAPE.piece_bytes()).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let kind = match index {
                0 => Kind::First,
                index if index + 1 == pieces.len() => Kind::Last,
                _ => Kind::Next,
            };
            self.push(kind, Some(lane), piece);
        }
    }

    /// Receives the whole reply on a lane.
    pub fn reply(&mut self, lane: u8) -> Vec<u8> {
        self.reply_after(lane, |_, begun| {
            assert!(begun.elapsed() < PATIENCE, "no reply");
            std::thread::yield_now();
        })
    }

    /// The same, but sleeps until it is woken, however long that takes.
    pub fn reply_asleep(&mut self, lane: u8) -> Vec<u8> {
        self.reply_after(lane, |posted, _| {
            let (number, sequence) = (usize::from(lane), posted.sequences[usize::from(lane)]);
            let Some(word) = posted.mailbox.sleep_in(number, sequence) else { return };
            let timeout = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
            // SAFETY: a word of the mailbox; only the kernel uses the reference.
            let futex = unsafe { posted.mailbox.memory().futex(posted.mailbox.lane_word(number)) };
            let slept = futex::wait(futex, Flags::empty(), word, Some(&timeout));
            assert_ne!(slept, Err(rustix::io::Errno::TIMEDOUT), "nobody woke the sleeper");
        })
    }

    /// The same, but only says that it sleeps.
    pub fn reply_as_if_asleep(&mut self, lane: u8) -> Vec<u8> {
        self.reply_after(lane, |posted, begun| {
            assert!(begun.elapsed() < PATIENCE, "no reply");
            let _ = posted.mailbox.sleep_in(lane.into(), posted.sequences[usize::from(lane)]);
            std::thread::yield_now();
        })
    }

    fn reply_after(&mut self, lane: u8, wait: impl Fn(&mut Posted, Instant)) -> Vec<u8> {
        let number = usize::from(lane);
        let mut reply = Vec::new();
        let begun = Instant::now();
        loop {
            let Some(piece) = self.mailbox.reply(number, self.sequences[number]) else {
                wait(self, begun);
                continue;
            };
            let before = reply.len();
            reply.resize(before + piece.bytes, 0);
            self.mailbox.take(number, &mut reply[before..]);
            if !piece.more {
                return reply;
            }
            self.mailbox.open_lane(number, self.sequences[number]);
            self.push(Kind::More, Some(lane), &[]);
        }
    }

    pub fn get(&mut self, lane: u8, key: &[u8]) -> Vec<u8> {
        self.ask(lane, &Request::Get { key });
        match Response::decode(&self.reply(lane)).unwrap() {
            Response::Found { value, .. } => value.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Writes any word of the mailbox.
    pub fn poke(&self, index: usize, word: u64) {
        self.words().poke(index, word);
    }

    /// All words of the mailbox, for use by another thread.
    pub fn words(&self) -> Words {
        Words { mailbox: self.mailbox.clone(), _mapping: self.mapping.clone() }
    }

    /// The daemon has closed the connection. Everything else it sends is a wakeup.
    pub fn is_closed(&self) -> bool {
        loop {
            match recv(self.stream.as_raw_fd(), &mut [0; 64], MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error != Errno::EAGAIN,
            }
        }
    }

    /// Asserts that the daemon closes the connection.
    pub fn assert_is_closed(&mut self) {
        loop {
            match self.stream.read(&mut [0; 64]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }
}

pub fn payload(request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    request.encode(&mut frame).unwrap();
    frame.split_off(HEADER_BYTES)
}
