//! The connection to Redis: opened when needed, shared by all exchanges, noticed when lost.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    RedisError,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, spawn_local};

use super::health::{Failure, Health};

/// Opens the connection and keeps it.
pub struct Connector {
    server: ConnectionInfo,
    deadline: Duration,
    link: RefCell<Option<Rc<Link>>>,
    /// Held while connecting: exchanges that begin together share one connection.
    connecting: tokio::sync::Mutex<()>,
}

/// An open connection. Dropping the last handle closes it.
pub struct Link {
    connection: MultiplexedConnection,
    health: Rc<Health>,
    lost: Rc<Cell<bool>>,
    driver: AbortHandle,
}

/// The server at `url` (`redis://host:port/db`, `redis+unix:///path`). The error says what is wrong.
pub fn parse_url(url: &str) -> Result<ConnectionInfo, String> {
    let server = url.into_connection_info().map_err(|error| error.to_string())?;
    match server.addr() {
        ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => Ok(server),
        _ => Err("TLS is not supported".into()),
    }
}

impl Connector {
    /// For a server that [`parse_url`] has accepted.
    pub fn new(server: ConnectionInfo, deadline: Duration) -> Connector {
        Connector {
            server,
            deadline,
            link: RefCell::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// The open connection, or a new one.
    pub async fn link(&self, health: &Rc<Health>, deadline: Instant) -> Result<Rc<Link>, Failure> {
        let connect = async {
            let _guard = self.connecting.lock().await;
            if let Some(link) = self.link.borrow().as_ref().filter(|link| !link.lost.get()) {
                return Ok(Rc::clone(link));
            }
            let link = Rc::new(self.connect(health).await.map_err(|error| {
                Failure::broken(format!("cannot connect to {}: {error}", self.server.addr()))
            })?);
            *self.link.borrow_mut() = Some(Rc::clone(&link));
            Ok(link)
        };
        match tokio::time::timeout_at(deadline.into(), connect).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::timeout("connecting")),
        }
    }

    /// Closes the connection; what waits for its replies fails.
    pub fn disconnect(&self) {
        if let Some(link) = self.link.borrow_mut().take() {
            link.lose("given up");
        }
    }

    async fn connect(&self, health: &Rc<Health>) -> Result<Link, RedisError> {
        let stream: Pin<Box<dyn Stream>> = match self.server.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                // Closed with a reset, so that a write that was given up does not arrive later.
                stream.set_zero_linger()?;
                Box::pin(stream)
            }
            ConnectionAddr::Unix(path) => Box::pin(UnixStream::connect(path).await?),
            other => return Err(std::io::Error::other(format!("cannot connect to {other}")).into()),
        };
        let settings: &RedisConnectionInfo = self.server.redis_settings();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let (connection, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        let lost = Rc::new(Cell::new(false));
        let driver = spawn_local({
            let (lost, health) = (Rc::clone(&lost), Rc::clone(health));
            async move {
                driver.await;
                lose(&lost, &health, "closed by the server");
            }
        });
        Ok(Link { connection, health: Rc::clone(health), lost, driver: driver.abort_handle() })
    }
}

/// What a connection reads from and writes to.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

impl Link {
    /// A handle to send with.
    pub fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Never to be used again.
    pub fn lose(&self, why: &str) {
        lose(&self.lost, &self.health, why);
        self.driver.abort();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Counts a lost connection once.
fn lose(lost: &Cell<bool>, health: &Health, why: &str) {
    if !lost.replace(true) {
        health.connection_lost(why);
    }
}
