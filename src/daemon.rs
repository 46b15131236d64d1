//! The daemon: configuration in, a served socket out.

use crate::config::{Config, ConfigError};
use crate::doors::Limits;
use crate::event_loop::{self, EventLoopError};
use crate::owner::Owner;
use crate::reactor::{Reactor, halts_at_once};
use crate::table::{FileError, FileOptions, Tables};
use crate::tiers::{Tiers, TiersError, Upstream};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// How long a peer may take to attach, to complete a request, or to read an answer.
const STALL: Duration = Duration::from_secs(5);
/// Beside the value a request or response holds at most a key and some fields.
const FRAME_BYTES_BESIDE_VALUE: usize = 1 << 20;
/// Held for all peers together, in answers not read and requests not complete.
const BUFFER_BYTES_BESIDE_VALUE: usize = 64 << 20;

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The table cannot be had.
    #[error(transparent)]
    Table(#[from] FileError),
    /// The tiers cannot be had.
    #[error(transparent)]
    Tiers(#[from] TiersError),
    /// The event loop broke.
    #[error(transparent)]
    EventLoop(#[from] EventLoopError),
    /// The group of the table does not exist.
    #[error(transparent)]
    Group(#[from] ConfigError),
    /// The socket cannot be bound.
    #[error("cannot listen on {path}: {source}; {advice}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do next.
        advice: &'static str,
    },
    /// A system call that cannot fail did.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Serves on `listener` until `stop` is readable. `ready` is called when clients can attach.
///
/// # Errors
/// The reason why the daemon cannot serve.
pub fn run(
    config: &Config,
    listener: &UnixListener,
    stop: BorrowedFd<'_>,
    ready: impl FnOnce(),
) -> Result<(), DaemonError> {
    let group = config.table.group_id()?;
    let tables = Tables::open(FileOptions {
        directory: config.table.directory.clone(),
        plan: config.table.plan(),
        mode: config.table.mode,
        group,
        policy_fingerprint: config.policy.fingerprint(),
        keeps_index: config.table.fit_index,
    })?;
    if let Some(reason) = tables.replaced() {
        tracing::warn!(
            reason,
            "the table that was there cannot be used; starting with an empty one"
        );
    }
    let stats = tables.current().stats();
    tracing::info!(
        directory = %config.table.directory.display(),
        bytes = stats.table_bytes,
        segments = stats.segments,
        entries = stats.entries,
        taken_over = tables.was_taken_over(),
        "the table is open"
    );
    match tables.file().pages() {
        Some(pages) => tracing::info!("{pages}"),
        None => tracing::info!("in what pages the table is cannot be told without /proc"),
    }

    let reactor = Reactor::new().map(Rc::new);
    let reactor = reactor.map_err(|source| DaemonError::System { what: "epoll", source })?;
    let below = prepare_tiers(config, &reactor)?;
    if below.is_some() && halts_at_once() {
        tracing::info!(
            "this virtual machine halts idle processors at once, which makes the misses and writes \
             of a single process slower; see \"Guest halt polling\" in systemd/README.md"
        );
    }
    let (absent_share_max_permille, ttl_max) =
        (config.table.absent_share_max_permille, config.table.ttl_max);
    let policy = config.policy.clone();
    let mut owner = Owner::new(tables, policy, absent_share_max_permille, ttl_max, below);
    owner.fit_index(config.table.fit_index);
    let limits = Limits {
        frame_bytes_max: config.table.value_bytes_max as usize + FRAME_BYTES_BESIDE_VALUE,
        connections_max: config.daemon.clients_max,
        connections_per_uid_max: config.daemon.clients_max - config.daemon.clients_max / 8,
        buffer_bytes_max: config.table.value_bytes_max as usize + BUFFER_BYTES_BESIDE_VALUE,
        stall: STALL,
        spin: config.daemon.spin,
        grace: Upstream::grace(&config.tiers),
    };
    ready();
    event_loop::run(&reactor, listener, stop, &mut owner, limits)?;
    tracing::info!("stopped");
    Ok(())
}

fn prepare_tiers(
    config: &Config,
    reactor: &Rc<Reactor>,
) -> Result<Option<Box<dyn Tiers>>, DaemonError> {
    let (l2, l3) = (&config.tiers.l2, &config.tiers.l3);
    if l2.is_none() && l3.is_none() {
        return Ok(None);
    }
    let l2_ttl_max = config.policy.rules().iter().map(|rule| rule.l2_ttl).max().unwrap_or_default();
    Ok(Some(Box::new(Upstream::new(&config.tiers, l2_ttl_max, reactor)?)))
}

/// Listens on the configured socket; replaces a socket file without a listener.
///
/// # Errors
/// A path cannot be bound, or another process serves it.
pub fn listen(config: &Config) -> Result<UnixListener, DaemonError> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let path = &config.daemon.socket;
    let failed =
        |source: io::Error, advice| DaemonError::Socket { path: path.clone(), source, advice };
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(failed(source, "the file there is no socket; name another with --socket"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let source = io::Error::from(io::ErrorKind::AddrInUse);
            return Err(failed(
                source,
                "another process serves it; stop it, or name another socket",
            ));
        }
        let _ = std::fs::remove_file(path);
    }
    let advice = "make its directory, or name another with --socket";
    let listener = UnixListener::bind(path).map_err(|error| failed(error, advice))?;
    let mode = std::fs::Permissions::from_mode(config.daemon.socket_mode);
    std::fs::set_permissions(path, mode).map_err(|error| failed(error, "check its owner"))?;
    Ok(listener)
}
