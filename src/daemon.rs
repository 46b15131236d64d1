//! The daemon: configuration in, a served socket out.

use crate::config::{Config, ConfigError, DaemonConfig};
use crate::control_socket::{self, ControlSocket, SocketError};
use crate::doors::Limits;
use crate::event_loop::{self, EventLoopError};
use crate::owner::Owner;
use crate::reactor::{Reactor, halts_at_once};
use crate::signals::Signals;
use crate::table::{Directory, FileError, FileOptions, Tables};
use crate::tiers::{Tiers, TiersError, Upstream};
use l1d_wire::place::{self, SOCKET_VARIABLE, SYSTEM_DIRECTORY};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
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
    /// The control socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system refused what every daemon needs.
    #[error("cannot {what}: {source}; check this process's limits on open files and memory")]
    System {
        /// The operation that failed.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Serves until a signal says to stop: on `inherited`, the socket of a service manager, or on the
/// configured one. `ready` is called when clients can attach.
///
/// # Errors
/// The reason why the daemon cannot serve.
pub fn run(
    config: &Config,
    inherited: Option<UnixListener>,
    signals: &impl Signals,
    ready: impl FnOnce(),
) -> Result<(), DaemonError> {
    let group = config.table.group_id()?;
    let options = FileOptions {
        directory: config.table.directory(),
        plan: config.table.plan(),
        mode: config.table.mode,
        group,
        policy_fingerprint: config.policy.fingerprint(),
        keeps_index: config.table.fit_index,
    };
    // In this order: a daemon that is turned away by the lock of the table has not touched the
    // socket of the one that has it. Clients that connect while the table is made wait.
    let directory = Directory::open(&options.directory)?;
    let socket = match inherited {
        Some(listener) => ControlSocket::inherited(listener),
        None => listen(&config.daemon)?,
    };
    let tables = Tables::open_in(directory, options)?;
    if let Some(reason) = tables.replaced() {
        tracing::warn!(
            reason,
            "the table that was there cannot be used; starting with an empty one"
        );
    }
    let stats = tables.current().stats();
    tracing::info!(
        file = %tables.path().display(),
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
    let reactor =
        reactor.map_err(|source| DaemonError::System { what: "make an epoll instance", source })?;
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
    let end = event_loop::run(&reactor, socket.listener(), signals, &mut owner, limits);
    // Before the lock of the table: whoever gets that finds the socket free.
    drop(socket);
    end?;
    tracing::info!("stopped");
    Ok(())
}

/// Listens on the configured socket, or on the default one of this process's user.
fn listen(config: &DaemonConfig) -> Result<ControlSocket, SocketError> {
    let path = config.socket();
    if config.socket.is_none() && path.parent() == Some(&place::own_directory()) {
        control_socket::make_private_directory(&path)?;
        if Path::new(SYSTEM_DIRECTORY).is_dir() {
            tracing::warn!(
                "{SYSTEM_DIRECTORY} exists, so clients look for the system's daemon and not for \
                 this one; set {SOCKET_VARIABLE}={} for those that are to use this one",
                path.display()
            );
        }
    }
    ControlSocket::listen(&path, config.socket_mode)
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
    let mut tiers = Upstream::new(&config.tiers, l2_ttl_max, reactor)?;
    tiers.try_once();
    Ok(Some(Box::new(tiers)))
}
