//! The daemon: configuration in, a served socket out.

use crate::config::{Config, ConfigError, ConfigReader, ConfigSource, DaemonConfig};
use crate::doors::Limits;
use crate::event_loop::{self, EventLoopError};
use crate::listening_socket::{self, ListeningSocket, SocketError};
use crate::manager::ServiceManager;
use crate::owner::Owner;
use crate::reactor::{Interest, Reactor, Token, halts_at_once};
use crate::signals::Signals;
use crate::status::{Status, StatusError};
use crate::table::{Adopted, Directory, FileError, FileOptions, Tables};
use crate::tiers::{Tiers, TiersError, Upstream};
use l1d_wire::place::{self, SOCKET_VARIABLE, SYSTEM_DIRECTORY};
use l1d_wire::words;
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
    /// Status requests cannot be served where the configuration says.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The system refused what every daemon needs.
    #[error(
        "cannot {what}: {}; check this process's limits on open files and memory (LimitNOFILE=, \
         MemoryMax=)",
        words::of(source)
    )]
    System {
        /// The operation that failed.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Serves until a signal says to stop: on `inherited`, the socket of a service manager, or on the
/// configured one. `config` was read from `source`, which is read again for a reload.
///
/// # Errors
/// The reason why the daemon cannot serve.
pub fn run(
    config: &Config,
    source: ConfigSource,
    inherited: Option<UnixListener>,
    signals: &impl Signals,
    manager: &mut ServiceManager,
) -> Result<(), DaemonError> {
    let group = config.table.group_id()?;
    let options = FileOptions {
        directory: config.table.directory(),
        plan: config.table.plan(),
        mode: config.table.mode,
        group,
        policy: config.policy.clone(),
        keeps_index: config.table.fit_index,
    };
    // In this order: a daemon that is turned away by the lock of the table has not touched the
    // socket of the one that has it. Clients that connect while the table is made wait.
    let directory = Directory::open(&options.directory)?;
    let socket = match inherited {
        Some(listener) => ListeningSocket::inherited(listener),
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
    if config.table.value_follows_size && config.table.plan().table_bytes > config.table.size {
        tracing::warn!(
            configured = config.table.size,
            bytes = stats.table_bytes,
            "the table is a little larger than configured: it is the smallest possible"
        );
    }
    tracing::info!(
        file = %tables.path().display(),
        bytes = stats.table_bytes,
        segments = stats.segments,
        entries = stats.entries,
        taken_over = tables.was_taken_over(),
        "the table is open"
    );
    log_adopted(tables.adopted());
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
    let mut owner = Owner::new(tables, absent_share_max_permille, ttl_max, below);
    owner.fit_index(config.table.fit_index);
    owner.set_access(config.access.clone());
    let reader = watch(source, &reactor)
        .map_err(|source| DaemonError::System { what: "watch for a reload", source })?;
    owner.watch_config(config.clone(), reader);
    let limits = Limits {
        frame_bytes_max: config.table.value_bytes_max as usize + FRAME_BYTES_BESIDE_VALUE,
        connections_max: config.daemon.clients_max,
        connections_per_uid_max: config.daemon.clients_max - config.daemon.clients_max / 8,
        buffer_bytes_per_uid_max: config.table.value_bytes_max as usize
            + BUFFER_BYTES_BESIDE_VALUE / 2,
        buffer_bytes_max: config.table.value_bytes_max as usize + BUFFER_BYTES_BESIDE_VALUE,
        stall: STALL,
        spin: config.daemon.spin,
        grace: Upstream::grace(&config.tiers),
    };
    let path = match socket.listener().local_addr() {
        Ok(address) => address.as_pathname().map(Path::to_owned),
        Err(_) => None,
    };
    let control = path.unwrap_or_else(|| config.daemon.socket());
    let status = Status::start(&config.status, &control, group, owner.history())?;
    tracing::info!(socket = %config.daemon.socket().display(), "ready");
    manager.ready();
    let end = event_loop::run(&reactor, socket.listener(), signals, &mut owner, manager, limits);
    // Before the lock of the table: whoever gets that finds the sockets free.
    drop((status, socket));
    end?;
    tracing::info!("stopped");
    Ok(())
}

/// Listens on the configured socket, or on the default one of this process's user.
fn listen(config: &DaemonConfig) -> Result<ListeningSocket, SocketError> {
    let path = config.socket();
    if config.socket.is_none() && path.parent() == Some(&place::own_directory()) {
        listening_socket::make_private_directory(&path)?;
        if Path::new(SYSTEM_DIRECTORY).is_dir() {
            tracing::warn!(
                "{SYSTEM_DIRECTORY} exists, so clients look for the system's daemon and not for \
                 this one; set {SOCKET_VARIABLE}={} for those that are to use this one",
                path.display()
            );
        }
    }
    ListeningSocket::listen(&path, (config.socket_mode, None), "--socket")
}

/// Prepares to read the configuration again.
fn watch(source: ConfigSource, reactor: &Reactor) -> io::Result<ConfigReader> {
    let reader = ConfigReader::new(source)?;
    reactor.register(reader.fd(), Token::CONFIG, Interest::READABLE)?;
    Ok(reader)
}

/// Says what the policy, if it is not the one that the table was left under, has changed.
fn log_adopted(adopted: &Adopted) {
    for change in &adopted.rules {
        tracing::info!("the policy has changed since the last start: {change}");
    }
    if adopted.moved > 0 {
        let entries = adopted.moved;
        tracing::info!(entries, "entries were dropped: their keys belong to new rules");
    }
    if adopted.dropped_all {
        tracing::warn!(
            "all entries were dropped: they were stored under another policy, and the numbers of \
             its rules are not known"
        );
    }
}

fn prepare_tiers(
    config: &Config,
    reactor: &Rc<Reactor>,
) -> Result<Option<Box<dyn Tiers>>, DaemonError> {
    let (l2, l3) = (&config.tiers.l2, &config.tiers.l3);
    if l2.is_none() && l3.is_none() {
        return Ok(None);
    }
    let mut tiers = Upstream::new(&config.tiers, config.policy.l2_ttl_max(), reactor)?;
    tiers.try_once();
    Ok(Some(Box::new(tiers)))
}
