//! One connection to memcached.

use std::os::fd::AsRawFd;
use std::time::Instant;

use memcache::exp::{AsyncMetaConnection, MetaResponse};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::net::TcpStream;

use super::health::Failure;
use super::memcached::refusal;

/// A connection: the crate's reader of responses, and the same socket once more to write to.
///
/// The socket is closed with a reset, so that what was given up does not arrive later.
pub struct Connection {
    reader: AsyncMetaConnection,
    writer: TcpStream,
}

/// How far an exchange has come; kept when its deadline passes.
#[derive(Default)]
pub struct Progress {
    /// Bytes that the kernel has taken.
    pub written: usize,
    /// Responses, each the server's or its refusal.
    pub responses: Vec<Result<MetaResponse, String>>,
}

impl Connection {
    /// Connects to `address` (`host:port`).
    pub async fn dial(address: &str, deadline: Instant) -> Result<Connection, Failure> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.set_zero_linger()?;
            let stream = stream.into_std()?;
            let writer = TcpStream::from_std(stream.try_clone()?)?;
            let reader = AsyncMetaConnection::from_stream(TcpStream::from_std(stream)?);
            Ok::<_, std::io::Error>(Connection { reader, writer })
        };
        match tokio::time::timeout_at(deadline.into(), connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Failure::broken(format!("cannot connect to {address}: {error}"))),
            Err(_) => Err(Failure::timeout("connecting")),
        }
    }

    /// Whether the idle connection is quiet and open: no byte, no end.
    pub fn is_usable(&self) -> bool {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.writer.as_raw_fd(), &mut byte, flags) == Err(Errno::EAGAIN)
    }

    /// Writes `payload` and reads `count` responses, both at once: a server that waits for its
    /// answers to be read must not keep us from reading them.
    pub async fn transfer(
        &mut self,
        payload: &[u8],
        count: usize,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let Connection { reader, writer } = self;
        let Progress { written, responses } = progress;
        let write = async {
            while let Some(rest) = payload.get(*written..).filter(|rest| !rest.is_empty()) {
                writer.writable().await.map_err(broken)?;
                match writer.try_write(rest) {
                    Ok(bytes) => *written += bytes,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(broken(error)),
                }
            }
            Ok(())
        };
        let read = async {
            while responses.len() < count {
                match reader.receive().await {
                    Ok(response) => responses.push(Ok(response)),
                    Err(error) => responses.push(Err(refusal(error)?)),
                }
            }
            Ok(())
        };
        let both = async { tokio::try_join!(write, read).map(|_| ()) };
        match tokio::time::timeout_at(deadline.into(), both).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::timeout("waiting for answers")),
        }
    }
}

fn broken(error: std::io::Error) -> Failure {
    Failure::broken(format!("connection failed: {error}"))
}
