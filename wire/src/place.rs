//! Where the daemon's socket and table are if nobody says so: looked up the same way by clients, by
//! `l1ctl` and by the daemon.
//!
//! A host has one system-wide daemon, in [`SYSTEM_DIRECTORY`], or none. A user may run another one
//! in directories of their own.
//!
//! Clients look at these places and take the first one:
//!
//! 1. the environment variable [`SOCKET_VARIABLE`], if it is set and not empty;
//! 2. the system's socket if its directory exists, even if no daemon answers there: otherwise a
//!    restart of the system's daemon would split the host between two caches;
//! 3. the user's own: `l1d/l1d.sock` in `$XDG_RUNTIME_DIR`, or in `/run/user/UID`, if that
//!    directory belongs to the user, or else `/tmp/l1d-UID/l1d.sock`.
//!
//! A daemon is the system's if it runs as root or if [`SYSTEM_DIRECTORY`] belongs to its user.
//! Otherwise it serves at its user's own place, with its table in `/dev/shm/l1d-UID`.

use nix::unistd::Uid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directory of the system-wide daemon's socket.
pub const SYSTEM_DIRECTORY: &str = "/run/l1d";
/// The directory of the system-wide daemon's table.
pub const SYSTEM_TABLE_DIRECTORY: &str = "/dev/shm/l1d";
/// The environment variable that names the socket to connect to.
pub const SOCKET_VARIABLE: &str = "L1D_SOCKET";

const SOCKET: &str = "l1d.sock";

/// A socket to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPlace {
    /// Its path.
    pub path: PathBuf,
    /// It is the user's own place. Nobody but this user (and root) has business there, so a daemon
    /// of another user must not be trusted.
    pub is_own: bool,
}

/// The socket that a client of this process's user connects to.
#[must_use]
pub fn socket_to_ask() -> SocketPlace {
    let named = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
    let path = match named {
        Some(path) => path.into(),
        None if Path::new(SYSTEM_DIRECTORY).is_dir() || Uid::effective().is_root() => {
            Path::new(SYSTEM_DIRECTORY).join(SOCKET)
        }
        None => return SocketPlace { path: own_directory().join(SOCKET), is_own: true },
    };
    SocketPlace { path, is_own: false }
}

/// The socket that a daemon of this process's user serves.
#[must_use]
pub fn socket_to_serve() -> PathBuf {
    let directory = if is_system() { SYSTEM_DIRECTORY.into() } else { own_directory() };
    directory.join(SOCKET)
}

/// The socket for status requests (HTTP) of the daemon with this control socket, if no other is
/// configured: `l1d-status.sock` beside `l1d.sock`.
#[must_use]
pub fn status_socket(control: &Path) -> PathBuf {
    let mut name = control.file_stem().unwrap_or_default().to_owned();
    name.push("-status");
    if let Some(extension) = control.extension() {
        name.push(".");
        name.push(extension);
    }
    control.with_file_name(name)
}

/// The directory of the table that a daemon of this process's user owns.
#[must_use]
pub fn table_directory() -> PathBuf {
    // With a socket from a service manager, the system's directory may be somebody else's.
    if is_system() || is_mine(Path::new(SYSTEM_TABLE_DIRECTORY)) {
        SYSTEM_TABLE_DIRECTORY.into()
    } else {
        format!("{SYSTEM_TABLE_DIRECTORY}-{}", Uid::effective()).into()
    }
}

/// The directory of the socket of this user's own daemon.
#[must_use]
pub fn own_directory() -> PathBuf {
    let uid = Uid::effective();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let candidates = [runtime, Some(format!("/run/user/{uid}").into())];
    // `sudo` and `su` may leave another user's in the environment.
    let runtime = candidates.into_iter().flatten().find(|path| path.is_absolute() && is_mine(path));
    match runtime {
        Some(directory) => directory.join("l1d"),
        None => format!("/tmp/l1d-{uid}").into(),
    }
}

/// Whether this user's daemon is the system's.
fn is_system() -> bool {
    Uid::effective().is_root() || is_mine(Path::new(SYSTEM_DIRECTORY))
}

fn is_mine(directory: &Path) -> bool {
    fs::symlink_metadata(directory)
        .is_ok_and(|found| found.is_dir() && found.uid() == Uid::effective().as_raw())
}
