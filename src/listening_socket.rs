//! A unix socket that the daemon listens at: made by it, or inherited from a service manager.
//!
//! Two daemons that want the same path never remove each other's socket: a lock on a file beside it
//! decides, and is taken before the path is touched. It is held until the process ends, so the file
//! stays where it is: a lock on a file that was removed would exclude nobody.

use l1d_wire::words;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{SOL_SOCKET, c_int, setsockopt, socklen_t};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn. Clients connect
/// while the daemon still makes its table.
const BACKLOG: i32 = 1024;

/// Whether descriptors may be sent to the socket. The libc crate does not name it yet.
const SO_PASSRIGHTS: c_int = 83;

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}: {}; {advice}", words::of(source))]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
    advice: String,
}

/// A listening socket. Dropping it removes the file, if this process has made it and it is
/// still the one at its path. It stays open until the process ends.
#[derive(Debug)]
pub struct ListeningSocket {
    listener: UnixListener,
    made: Option<Made>,
}

/// A socket file of this process.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Held until the process ends.
    _lock: Flock<File>,
}

impl ListeningSocket {
    /// The socket that a service manager has passed to this process.
    #[must_use]
    pub fn inherited(listener: UnixListener) -> ListeningSocket {
        refuse_descriptors(&listener);
        ListeningSocket { listener, made: None }
    }

    /// Listens at `path` with these permission bits, and this group if it is not to be the
    /// process's; replaces a socket file without a listener. `setting` names another path, for
    /// messages: `--socket`.
    ///
    /// # Errors
    /// The path cannot be bound, or another process serves it.
    pub fn listen(
        path: &Path,
        (mode, group): (u32, Option<u32>),
        setting: &'static str,
    ) -> Result<ListeningSocket, SocketError> {
        let lock = lock(path, setting)?;
        remove_stale(path, setting)?;
        let socket = bound(path).map_err(|error| {
            let advice = advice(&error, path, setting);
            SocketError::new(path, error, advice)
        })?;
        refuse_descriptors(&socket);
        // Until it listens, connecting is refused: nobody connects before the mode is right.
        let prepared = set_group(path, group)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
            .and_then(|()| fs::symlink_metadata(path))
            .and_then(|found| {
                listen(&socket, Backlog::new(BACKLOG)?)?;
                Ok(found)
            });
        match prepared {
            Ok(found) => {
                let identity = (found.dev(), found.ino());
                let made = Some(Made { path: path.into(), identity, _lock: lock });
                Ok(ListeningSocket { listener: UnixListener::from(socket), made })
            }
            Err(error) => {
                let _ = fs::remove_file(path);
                let advice = "check the owner and mode of its directory, and the groups that the \
                              daemon's user is in";
                Err(SocketError::new(path, error, advice))
            }
        }
    }

    /// The socket to accept connections from.
    #[must_use]
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        let Some(made) = &self.made else { return };
        let is_still_ours = fs::symlink_metadata(&made.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == made.identity);
        if is_still_ours {
            // If it fails, the next daemon removes it.
            let _ = fs::remove_file(&made.path);
        }
        // The last close would also close the descriptors that wait in connections nobody has
        // accepted, which can take as long as their sender likes; at the end of the process it does
        // not wait for that.
        std::mem::forget(self.listener.try_clone());
    }
}

impl SocketError {
    fn new(path: &Path, source: io::Error, advice: impl Into<String>) -> SocketError {
        SocketError { path: path.into(), source, advice: advice.into() }
    }

    /// What this daemon itself does not accept.
    fn refused(path: &Path, why: impl Into<String>, advice: impl Into<String>) -> SocketError {
        SocketError::new(path, io::Error::other(why.into()), advice)
    }
}

/// From Linux 6.16 on: has the kernel refuse descriptors that peers send over connections to this
/// socket. The doors do not rely on it; see `doors/unix/rights.rs`.
fn refuse_descriptors(socket: impl AsFd) {
    let no: c_int = 0;
    let bytes: socklen_t = 4;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the option's value is one integer of four bytes, which lives until the call has
    // returned. Earlier kernels do not know the option, and refuse.
    let _ = unsafe { setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, (&raw const no).cast(), bytes) };
}

/// Makes the directory of a user's own socket, which nobody else may enter.
///
/// # Errors
/// It cannot be made, or is not this user's alone.
pub fn make_private_directory(socket: &Path) -> Result<(), SocketError> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let failed = |error: io::Error| {
        SocketError::new(socket, error, format!("make {} first", directory.display()))
    };
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(directory).map_err(failed)?;
    let is_mine = found.uid() == nix::unistd::geteuid().as_raw();
    if found.is_dir() && is_mine && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = format!("{} is not a directory that only this user can write", directory.display());
    Err(SocketError::refused(socket, why, "remove it, or name another socket with --socket"))
}

/// Gives a file to this group, if it is not this group's: then the unit of systemd allows no call.
fn set_group(path: &Path, group: Option<u32>) -> io::Result<()> {
    match group {
        Some(group) if fs::symlink_metadata(path)?.gid() != group => chown(path, None, Some(group)),
        _ => Ok(()),
    }
}

/// The lock of whoever serves `path`.
fn lock(path: &Path, setting: &str) -> Result<Flock<File>, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&name)
        .map_err(|error| {
            let advice = advice(&error, Path::new(&name), setting);
            SocketError::new(path, error, advice)
        })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => in_use(path, setting),
        errno => SocketError::new(path, errno.into(), another(setting)),
    })
}

/// What to do where `file` cannot be made or opened.
fn advice(error: &io::Error, file: &Path, setting: &str) -> String {
    let another = another(setting);
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => format!("make its directory, or {another}"),
        Some(Errno::ENOTDIR) => format!("{another}, in a directory"),
        Some(Errno::ENAMETOOLONG) => format!("{another}: a path has at most 107 bytes"),
        Some(Errno::EMFILE | Errno::ENFILE) => "raise the limit on open files".to_owned(),
        _ => format!("check the owner and mode of {} and of its directory", file.display()),
    }
}

fn another(setting: &str) -> String {
    format!("name another socket with {setting}")
}

fn in_use(path: &Path, setting: &str) -> SocketError {
    let advice = format!("stop it, or {}", another(setting));
    SocketError::refused(path, "another process serves it", advice)
}

/// Removes a socket file that nobody listens at. The lock keeps other daemons away meanwhile.
fn remove_stale(path: &Path, setting: &str) -> Result<(), SocketError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        let advice = format!("remove it, or {}", another(setting));
        return Err(SocketError::refused(path, "the file there is no socket", advice));
    }
    match try_to_connect(path) {
        Err(Errno::ECONNREFUSED) => {}
        // EAGAIN: its backlog is full.
        Ok(()) | Err(Errno::EAGAIN) => return Err(in_use(path, setting)),
        Err(errno) => {
            let advice = format!("remove it if no process serves it, or {}", another(setting));
            return Err(SocketError::new(path, errno.into(), advice));
        }
    }
    fs::remove_file(path)
        .map_err(|error| SocketError::new(path, error, "remove the file, which nobody serves"))
}

fn try_to_connect(path: &Path) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

/// A socket at `path` that does not listen yet.
fn bound(path: &Path) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}
