//! The contestant *forwarder*: a bare single-threaded event loop between the processes and the
//! tiers. Requests that arrive together leave together. No table, no policy, no deadlines: the
//! limit for any daemon with sockets.

use super::commands::{Reply, l2, l3, reply};
use super::frame::{self, DELETE, GET, SET};
use crate::process::{READY, say};
use anyhow::{Context, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// Its socket and the tiers.
#[derive(Debug, Clone, clap::Args)]
pub struct ForwarderOptions {
    #[arg(long)]
    pub socket: PathBuf,
    #[arg(long)]
    pub memcached: String,
    #[arg(long)]
    pub redis: String,
}

const LISTENER: u64 = u64::MAX;
const L2: u64 = u64::MAX - 1;
const L3: u64 = u64::MAX - 2;

/// A connection with its input and output buffers.
struct Link<S> {
    stream: S,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// A process. Its only request waits for `left` replies.
struct Client {
    link: Link<UnixStream>,
    left: usize,
}

/// The request that a tier's next reply belongs to.
struct Waiting {
    /// The client, and the position of the key in its request; `None` for a fill.
    asker: Option<(usize, u8)>,
    next: Next,
}

/// The step after a tier's reply.
enum Next {
    /// Pass the reply to the client.
    Answer,
    /// If memcached has no value, ask Redis for this key.
    AskL3(Vec<u8>),
    /// Put the value into memcached.
    FillL2(Vec<u8>),
    /// Redis is done; send this command to memcached.
    WriteL2(Vec<u8>),
}

struct Forwarder {
    clients: Vec<Client>,
    l2: Link<TcpStream>,
    l3: Link<TcpStream>,
    l2_waiting: VecDeque<Waiting>,
    l3_waiting: VecDeque<Waiting>,
}

/// Runs the forwarder until it is killed.
///
/// # Errors
/// A tier or the socket cannot be used, or a peer violates the protocol.
pub fn run(options: &ForwarderOptions) -> Result<()> {
    let listener = UnixListener::bind(&options.socket).context("the forwarder cannot listen")?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
    let tier = |address: &str| -> Result<Link<TcpStream>> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Link { stream, input: Vec::new(), output: Vec::new() })
    };
    let mut forwarder = Forwarder {
        clients: Vec::new(),
        l2: tier(&options.memcached)?,
        l3: tier(&options.redis)?,
        l2_waiting: VecDeque::new(),
        l3_waiting: VecDeque::new(),
    };
    epoll.add(&listener, readable(LISTENER))?;
    epoll.add(&forwarder.l2.stream, readable(L2))?;
    epoll.add(&forwarder.l3.stream, readable(L3))?;
    say(READY)?;
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.get(..count).unwrap_or_default() {
            match event.data() {
                LISTENER => {
                    let (stream, _) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    epoll.add(&stream, readable(forwarder.clients.len() as u64))?;
                    let link = Link { stream, input: Vec::new(), output: Vec::new() };
                    forwarder.clients.push(Client { link, left: 0 });
                }
                L2 => forwarder.take_from_l2()?,
                L3 => forwarder.take_from_l3()?,
                client => {
                    let client = usize::try_from(client)?;
                    if !forwarder.take_request(client)? {
                        let gone = forwarder.clients.get(client).context("no such client")?;
                        epoll.delete(&gone.link.stream)?;
                    }
                }
            }
        }
        forwarder.flush()?;
    }
}

impl Forwarder {
    /// Reads a client's request and turns it into commands. Returns false if the client has gone.
    fn take_request(&mut self, number: usize) -> Result<bool> {
        let client = self.clients.get_mut(number).context("no such client")?;
        if !client.link.read()? {
            return Ok(false);
        }
        let Some((head, rest)) = client.link.input.split_at_checked(4) else { return Ok(true) };
        let bytes = usize::try_from(u32::from_le_bytes(head.try_into()?))?;
        let Some(frame) = rest.get(..bytes) else { return Ok(true) };
        frame::begin(&mut client.link.output);
        let (&kind, mut frame) = frame.split_first().context("an empty frame")?;
        while let Some(key) = frame::take(&mut frame) {
            let asker = Some((number, u8::try_from(client.left)?));
            client.left += 1;
            let (to_l3, next) = match kind {
                GET => {
                    l2::get(&mut self.l2.output, key);
                    (false, Next::AskL3(key.to_vec()))
                }
                SET => {
                    let value = std::mem::take(&mut frame);
                    l3::set(&mut self.l3.output, key, value);
                    let mut command = Vec::new();
                    l2::set(&mut command, key, value);
                    (true, Next::WriteL2(command))
                }
                DELETE => {
                    l3::delete(&mut self.l3.output, key);
                    let mut command = Vec::new();
                    l2::delete(&mut command, key);
                    (true, Next::WriteL2(command))
                }
                other => bail!("a request of kind {other}"),
            };
            let waiting = if to_l3 { &mut self.l3_waiting } else { &mut self.l2_waiting };
            waiting.push_back(Waiting { asker, next });
        }
        client.link.input.clear();
        Ok(true)
    }

    fn take_from_l2(&mut self) -> Result<()> {
        let Forwarder { clients, l2, l3, l2_waiting, l3_waiting } = self;
        l2.replies(|reply| {
            let Waiting { asker, next } = l2_waiting.pop_front().context("nobody has asked")?;
            match (reply, next) {
                (Reply::Absent, Next::AskL3(key)) => {
                    l3::get(&mut l3.output, &key);
                    l3_waiting.push_back(Waiting { asker, next: Next::FillL2(key) });
                }
                (reply, _) => answer(clients, asker, &reply)?,
            }
            Ok(())
        })
    }

    fn take_from_l3(&mut self) -> Result<()> {
        let Forwarder { clients, l2, l3, l2_waiting, l3_waiting } = self;
        l3.replies(|reply| {
            let Waiting { asker, next } = l3_waiting.pop_front().context("nobody has asked")?;
            let mut waits = None;
            match (&reply, next) {
                (Reply::Value(value), Next::FillL2(key)) => {
                    l2::add(&mut l2.output, &key, value);
                    l2_waiting.push_back(Waiting { asker: None, next: Next::Answer });
                }
                (_, Next::WriteL2(command)) => {
                    l2.output.extend_from_slice(&command);
                    waits = Some(Waiting { asker, next: Next::Answer });
                }
                _ => {}
            }
            match waits {
                Some(waiting) => l2_waiting.push_back(waiting),
                None => answer(clients, asker, &reply)?,
            }
            Ok(())
        })
    }

    /// Sends the output of this turn with one write for each connection.
    fn flush(&mut self) -> Result<()> {
        self.l2.flush()?;
        self.l3.flush()?;
        for client in self.clients.iter_mut().filter(|client| client.left == 0) {
            client.link.flush()?;
        }
        Ok(())
    }
}

/// Adds a tier's reply to the reply to its client.
fn answer(clients: &mut [Client], asker: Option<(usize, u8)>, reply: &Reply<'_>) -> Result<()> {
    let Some((number, position)) = asker else { return Ok(()) };
    let client = clients.get_mut(number).context("no such client")?;
    let value = match reply {
        Reply::Value(value) => Some(*value),
        Reply::Done => Some(&[][..]),
        Reply::Absent | Reply::Many => None,
    };
    frame::answer(&mut client.link.output, position, value);
    client.left -= 1;
    if client.left == 0 {
        frame::end(&mut client.link.output, 4);
    }
    Ok(())
}

impl<S: Read + Write> Link<S> {
    /// Reads the bytes that have arrived. Returns false if the peer has closed the connection.
    fn read(&mut self) -> Result<bool> {
        let start = self.input.len();
        self.input.resize(start + (1 << 16), 0);
        let count = self.stream.read(self.input.get_mut(start..).unwrap_or_default());
        self.input.truncate(start + count.as_ref().copied().unwrap_or(0));
        match count {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            count => Ok(count? > 0),
        }
    }

    /// Reads, and passes on each complete reply.
    fn replies(&mut self, mut take: impl FnMut(Reply<'_>) -> Result<()>) -> Result<()> {
        if !self.read()? {
            bail!("a tier has closed its connection");
        }
        let mut used = 0;
        while let Some((reply, bytes)) = reply(self.input.get(used..).unwrap_or_default())? {
            used += bytes;
            take(reply)?;
        }
        self.input.drain(..used);
        Ok(())
    }

    /// Writes the output. Waits for a peer that does not read.
    fn flush(&mut self) -> Result<()> {
        let mut output = self.output.as_slice();
        while !output.is_empty() {
            match self.stream.write(output) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                count => output = output.get(count?..).unwrap_or_default(),
            }
        }
        self.output.clear();
        Ok(())
    }
}
