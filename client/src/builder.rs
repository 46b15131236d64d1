//! How a client is set up.

use crate::client::Client;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::populate::Populate;
use crate::settings::Settings;
use crate::shared::Shared;
use l1d_wire::place;
use nix::unistd::geteuid;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Sets a [`Client`] up; begins with [`Client::builder`].
///
/// ```no_run
/// use std::time::Duration;
///
/// let cache = l1d_client::Client::builder()
///     .socket("/run/l1d/l1d.sock")
///     .deadline(Duration::from_millis(200))
///     .connect()?;
/// # Ok::<(), l1d_client::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing before `connect`"]
pub struct ClientBuilder {
    /// `None`: looked up when the client is made.
    socket: Option<PathBuf>,
    settings: Settings,
}

impl ClientBuilder {
    pub(crate) fn new() -> ClientBuilder {
        ClientBuilder { socket: None, settings: Settings::default() }
    }

    /// The daemon's socket. By default: `L1D_SOCKET` of the environment; otherwise the system's,
    /// `/run/l1d/l1d.sock`, if its directory exists, even if no daemon answers there; otherwise the
    /// user's own, `l1d/l1d.sock` in `$XDG_RUNTIME_DIR` or `/run/user/UID`, or
    /// `/tmp/l1d-UID/l1d.sock`. At the user's own only a daemon of that user (or root) is trusted.
    ///
    /// ```no_run
    /// let cache = l1d_client::Client::builder().socket("/run/l1d/l1d.sock").connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn socket(mut self, path: impl Into<PathBuf>) -> ClientBuilder {
        self.socket = Some(path.into());
        self
    }

    /// The longest that a call may take which has to ask the daemon; 1 s by default.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// let cache = l1d_client::Client::builder().deadline(Duration::from_millis(200)).connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> ClientBuilder {
        self.settings.deadline = deadline;
        self
    }

    /// The longest that a `peek` can take, which attaches when the table was replaced; 250 ms by
    /// default. Calls that ask the daemon wait for it until their own deadline, also while it is
    /// still starting.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// let builder = l1d_client::Client::builder().attach_deadline(Duration::from_millis(50));
    /// let cache = builder.connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn attach_deadline(mut self, deadline: Duration) -> ClientBuilder {
        self.settings.attach_deadline = deadline;
        self
    }

    /// The most connections for requests that do not travel in the mailbox, and so the number of
    /// threads that can make such a request at once; 4 by default, at least 1. They are opened on
    /// demand.
    ///
    /// ```no_run
    /// let cache = l1d_client::Client::builder().connections_max(1).connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn connections_max(mut self, connections: usize) -> ClientBuilder {
        self.settings.connections_max = connections;
        self
    }

    /// `false`: requests travel over the control socket and not in a mailbox. Slower; for
    /// comparison, and where memory is so short that its 200 KiB matter.
    ///
    /// ```no_run
    /// let cache = l1d_client::Client::builder().mailbox(false).connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn mailbox(mut self, mailbox: bool) -> ClientBuilder {
        self.settings.mailbox = mailbox;
        self
    }

    /// How long a thread spins for the daemon's answer before it sleeps; 50 µs by default, zero for
    /// a thread that must not waste processor time. It spins only if the daemon runs on another
    /// processor and its answers have been about that fast.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// let cache = l1d_client::Client::builder().spin(Duration::ZERO).connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn spin(mut self, spin: Duration) -> ClientBuilder {
        self.settings.spin = spin;
        self
    }

    /// The part of the table that attaching enters into this process's page table; by default
    /// [`Populate::Auto`]. A forked child's page table does not have the table: it is populated at
    /// the child's first request to the daemon, and reads before that fault.
    ///
    /// ```no_run
    /// use l1d_client::Populate;
    ///
    /// let cache = l1d_client::Client::builder().populate(Populate::Nothing).connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn populate(mut self, populate: Populate) -> ClientBuilder {
        self.settings.populate = populate;
        self
    }

    /// Trusts only a daemon and a table of this user (or root). By default any process that listens
    /// at the socket is trusted, because only a privileged user can put a socket into `/run/l1d`;
    /// see [`socket`](Self::socket) for the exception.
    ///
    /// ```no_run
    /// let cache = l1d_client::Client::builder().owner_uid(1000).connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn owner_uid(mut self, uid: u32) -> ClientBuilder {
        self.settings.owner_uid = Some(uid);
        self
    }

    /// Room for keys whose policy says `scope = "process"`, in bytes; 16 MiB by default. Nothing is
    /// taken before there are such keys.
    ///
    /// ```no_run
    /// let cache = l1d_client::Client::builder().process_cache_bytes(64 << 20).connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn process_cache_bytes(mut self, bytes: u64) -> ClientBuilder {
        self.settings.process_cache_bytes = bytes;
        self
    }

    /// Lets a signal end a call that waits. `ends_call` is called in the thread that waits, when a
    /// signal has interrupted it and at least every 50 ms; `true` ends the call, with
    /// [`Error::Interrupted`] if nothing was changed, or [`Error::UnknownOutcome`] if a write was
    /// sent. By default calls go on after a signal.
    ///
    /// For bindings to languages in which a signal raises an exception. No lock of the client is
    /// held while it runs. It may use the client; what needs the connection that the interrupted
    /// call is using or making fails at its deadline. It may fork: in the child the call fails,
    /// with [`Error::System`], or [`Error::UnknownOutcome`] if a write was sent, and the answer is
    /// the parent's. Waits that hold locks are not interrupted, and take no longer than
    /// [`attach_deadline`](Self::attach_deadline).
    ///
    /// ```no_run
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// // Set by the handler of SIGINT.
    /// static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);
    /// let cache = l1d_client::Client::builder()
    ///     .on_interrupt(|| IS_INTERRUPTED.swap(false, Ordering::Relaxed))
    ///     .connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn on_interrupt(
        mut self,
        ends_call: impl Fn() -> bool + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.settings.interrupt = Interrupt::new(ends_call);
        self
    }

    /// Connects to the daemon and attaches its table.
    ///
    /// ```no_run
    /// let cache = l1d_client::Client::builder().connect()?;
    /// println!("attached: {}", cache.has_table());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] without a daemon, [`Error::WrongProtocol`] if it and this client have
    /// no protocol version in common, [`Error::Untrusted`] if the table fails a check. A table of a
    /// layout that this client does not know is no error: [`Client::has_table`] is then `false`.
    pub fn connect(self) -> Result<Client, Error> {
        let shared = Shared::new(self.settings())?;
        shared.attach_first()?;
        Ok(Client::of(Arc::new(shared)))
    }

    /// A client that connects when it is first used: for a service that has to start whether or not
    /// its cache is there.
    ///
    /// ```
    /// // No daemon is needed for this.
    /// let cache = l1d_client::Client::builder().connect_later()?;
    /// assert!(!cache.has_table());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::System`] when this process can map no more memory.
    pub fn connect_later(self) -> Result<Client, Error> {
        Ok(Client::of(Arc::new(Shared::new(self.settings())?)))
    }

    fn settings(self) -> Settings {
        let mut settings = self.settings;
        match self.socket {
            Some(socket) => settings.socket = socket,
            None => {
                let place = place::socket_to_ask();
                if place.is_own {
                    settings.owner_uid.get_or_insert_with(|| geteuid().as_raw());
                }
                settings.socket = place.path;
            }
        }
        settings
    }
}
