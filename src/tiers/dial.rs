//! From a configured name or address to a connecting socket. Resolving a name blocks, so it has a
//! thread of its own for as long as it takes; nothing here waits.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect,
    getpeername, setsockopt, socket, sockopt,
};

/// Quiet time before the kernel probes the other host, in seconds.
const KEEPALIVE_IDLE_S: u32 = 5;
/// Time between two of its probes, in seconds.
const KEEPALIVE_INTERVAL_S: u32 = 1;
/// Unanswered probes that end a connection.
const KEEPALIVE_PROBES: u32 = 3;
/// Time that sent bytes may stay unacknowledged, in milliseconds.
const UNACKNOWLEDGED_MS: u32 = 3000;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Addresses to try, one after another.
pub type Addresses = std::vec::IntoIter<SocketAddr>;

/// Resolves one host name at a time.
#[derive(Debug)]
pub struct Resolver {
    /// Readable when a name was resolved.
    woken: Arc<EventFd>,
    running: Option<Receiver<io::Result<Addresses>>>,
}

impl Resolver {
    pub fn new() -> io::Result<Resolver> {
        let woken = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Resolver { woken: Arc::new(woken), running: None })
    }

    /// The descriptor to watch.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// The addresses of `host`: at once where it is an address itself, otherwise `None`, and
    /// [`take`](Resolver::take) has them once the descriptor is readable. A name that is still
    /// being resolved for an earlier caller is not resolved twice: a name server that never answers
    /// costs one thread.
    pub fn resolve(&mut self, host: &str, port: u16) -> io::Result<Option<Addresses>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Some(vec![SocketAddr::new(address, port)].into_iter()));
        }
        if self.running.is_some() {
            return Ok(None);
        }
        let (sender, receiver) = channel();
        let (host, woken) = (host.to_owned(), Arc::clone(&self.woken));
        std::thread::Builder::new().name("l1d-resolver".into()).spawn(move || {
            let addresses = (host.as_str(), port).to_socket_addrs();
            // Fails where the daemon has stopped: nobody is interested any more.
            if sender.send(addresses.map(|found| found.collect::<Vec<_>>().into_iter())).is_ok() {
                let _ = woken.write(1);
            }
        })?;
        self.running = Some(receiver);
        Ok(None)
    }

    /// The result of [`resolve`](Resolver::resolve), if it is there.
    pub fn take(&mut self) -> Option<io::Result<Addresses>> {
        // Resets the counter; it fails only where that was zero already.
        let _ = self.woken.read();
        match self.running.as_ref()?.try_recv() {
            Ok(result) => {
                self.running = None;
                Some(result)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.running = None;
                Some(Err(io::Error::other("the resolver's thread died")))
            }
        }
    }
}

/// Begins to connect; writable, or in error, when that has ended.
pub fn begin_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = begin(&SockaddrStorage::from(address))?;
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    keep_alive(&socket)?;
    Ok(socket)
}

/// Has the kernel find out within some 8 s that the other host is gone, whether or not requests are
/// waiting: nobody tells us when a host, or a firewall between, forgets the connection.
fn keep_alive(socket: &OwnedFd) -> io::Result<()> {
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S)?;
    setsockopt(socket, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    Ok(setsockopt(socket, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MS)?)
}

/// The address of the server at the other end.
pub fn peer(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address: SockaddrStorage = getpeername(socket.as_raw_fd()).ok()?;
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

/// Connects to a unix socket.
pub fn begin_unix(path: &std::path::Path) -> io::Result<OwnedFd> {
    begin(&UnixAddr::new(path)?)
}

fn begin(address: &impl SockaddrLike) -> io::Result<OwnedFd> {
    let family = address.family().unwrap_or(AddressFamily::Unspec);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// The outcome of connecting, once the socket is ready.
pub fn outcome(socket: BorrowedFd<'_>) -> io::Result<()> {
    match nix::sys::socket::getsockopt(&socket, sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Has the connection closed with a reset: commands still in the kernel's buffer are discarded.
pub fn close_with_reset(socket: BorrowedFd<'_>) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // Fails on unix sockets, which have nothing left to send when they close.
    let _ = setsockopt(&socket, sockopt::Linger, &linger);
}
