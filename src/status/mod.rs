//! Metrics, health and the status page, over HTTP.
//!
//! A thread of its own serves them, with lower priority, and asks the owner over the control socket
//! as any local client does. Nothing that happens here holds up the owner, and nothing is asked
//! while nobody asks here.

mod aggregates;
mod audience;
mod figures;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod history;
mod metrics;
mod page;
mod query;
mod readers;
mod reply;
mod routes;
mod server;
mod stream;

pub use history::Samples;

use crate::config::{StatusConfig, StatusSocket};
use crate::listening_socket::{ListeningSocket, SocketError};
use audience::Audience;
use figures::Figures;
use l1d_wire::words;
use metrics::Metrics;
use routes::Routes;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// Requests to the owner that threads wait for at once.
const THREADS_MAX: usize = 8;
/// How long such a thread stays when there is nothing to ask.
const THREAD_STAYS: Duration = Duration::from_secs(2);
/// The status thread's niceness: serving clients comes first.
const NICE: i32 = 10;

/// Status requests cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The socket cannot be had.
    #[error("status requests: {0}")]
    Socket(#[from] SocketError),
    /// The address cannot be had.
    #[error(
        "cannot listen on {address} for status requests: {}; give [status] listen another port, or \
         remove it",
        words::of(source)
    )]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused what the server needs.
    #[error(
        "cannot serve status requests: {}; check this process's limits on threads and open files \
         (TasksMax=, LimitNOFILE=)",
        words::of(.0)
    )]
    System(#[from] io::Error),
}

/// The server. Dropping it ends it and removes its socket.
#[derive(Debug)]
pub struct Status {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _socket: Option<ListeningSocket>,
}

impl Status {
    /// Serves as configured, asking the daemon at the control socket `control`. `group` may
    /// connect to the socket, besides the daemon's user.
    ///
    /// # Errors
    /// A configured socket or address cannot be had. Without a socket in the default place there
    /// is only a warning.
    pub fn start(
        config: &StatusConfig,
        control: &Path,
        group: Option<u32>,
        samples: Samples,
    ) -> Result<Option<Status>, StatusError> {
        let permissions = (config.socket_mode, group);
        let listen = |path: &Path| ListeningSocket::listen(path, permissions, "[status] socket");
        let socket = match config.socket(control).as_deref().map(listen) {
            None => None,
            Some(Ok(socket)) => Some(socket),
            Some(Err(error)) if config.socket == StatusSocket::BesideControl => {
                tracing::warn!("no status page and no metrics on a socket: {error}");
                None
            }
            Some(Err(error)) => return Err(error.into()),
        };
        let tcp = config.listen.map(|address| {
            let bound = TcpListener::bind(address);
            bound.map_err(|source| StatusError::Listen { address, source })
        });
        let tcp = tcp.transpose()?;
        if socket.is_none() && tcp.is_none() {
            return Ok(None);
        }
        let unix = socket.as_ref().map(|socket| socket.listener().try_clone()).transpose()?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(THREADS_MAX)
            .thread_keep_alive(THREAD_STAYS)
            .thread_name("l1d-status-ask")
            .build()?;
        let figures = Figures::of(control).map_err(io::Error::other)?;
        let routes = Arc::new(Routes { figures, samples, metrics: Metrics::default() });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("l1d-status".into())
            .spawn(move || run(runtime, unix, tcp, &routes, stopped))?;
        Ok(Some(Status { stop: Some(stop), thread: Some(thread), _socket: socket }))
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It fails if the thread has panicked, which the log says.
            let _ = thread.join();
        }
    }
}

fn run(
    runtime: Runtime,
    unix: Option<UnixListener>,
    tcp: Option<TcpListener>,
    routes: &Arc<Routes>,
    stopped: oneshot::Receiver<()>,
) {
    // Threads that it starts inherit this. Where a service manager forbids it, it works without.
    let _ = rustix::process::setpriority_process(None, NICE);
    let started = runtime.block_on(async {
        if let Some(listener) = unix {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::UnixListener::from_std(listener)?;
            tokio::spawn(server::serve(listener, Audience::Readers, Arc::clone(routes)));
        }
        if let Some(listener) = tcp {
            listener.set_nonblocking(true)?;
            let audience = Audience::Anybody(listener.local_addr()?);
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(server::serve(listener, audience, Arc::clone(routes)));
        }
        // An error: the sender was dropped.
        let _ = stopped.await;
        Ok::<_, io::Error>(())
    });
    if let Err(error) = started {
        let error = words::of(&error);
        tracing::error!(error, "status requests are not served until the daemon is restarted");
    }
    // A request to the owner that is under way ends with its deadline.
    runtime.shutdown_background();
}
