//! A private server behind a unix socket, and connections to it.

use crate::failure::Failure;
use crate::{interrupt, scratch};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// The server, killed when dropped, and a connection.
pub struct Server {
    /// To it.
    pub connection: Connection,
    child: Child,
    socket: PathBuf,
    _directory: TempDir,
}

impl Server {
    /// Starts a program and connects to it. `arguments` gets the socket's path.
    ///
    /// # Errors
    /// The program is not installed, or does not answer.
    pub fn start(
        (program, package): (&str, &str),
        arguments: impl FnOnce(&Path, &mut Command),
    ) -> Result<Server> {
        super::installed(program, package)?;
        let directory = scratch::directory()?;
        // The server may run as another user.
        std::fs::set_permissions(
            directory.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .context("cannot open the server's directory to it")?;
        let socket = directory.path().join("socket");
        let mut command = Command::new(program);
        arguments(&socket, &mut command);
        // Safe here, because the thread that starts the server is the one that reads, and outlives
        // it.
        interrupt::die_together(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tier = || Failure::Tier(format!("cannot start {program}"));
        let mut child = command.spawn().with_context(tier)?;
        let begun = Instant::now();
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                break stream;
            }
            if let Some(status) = child.try_wait()? {
                bail!(Failure::Tier(format!("{program} ended before it listened: {status}")));
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                bail!(Failure::Tier(format!("{program} does not listen after {PATIENCE:?}")));
            }
            interrupt::hold_if_interrupted();
            std::thread::sleep(Duration::from_millis(2));
        };
        let connection = Connection::over(stream)?;
        Ok(Server { connection, child, socket, _directory: directory })
    }

    /// The socket's path.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }
}

/// A connection to a server.
pub struct Connection {
    stream: UnixStream,
    /// Receive buffer of the last answer.
    answer: Vec<u8>,
}

impl Connection {
    /// Connects to the server behind this socket.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn open(socket: &Path) -> Result<Connection> {
        let nobody = || Failure::Tier(format!("cannot connect to {}", socket.display()));
        Connection::over(UnixStream::connect(socket).with_context(nobody)?)
    }

    fn over(stream: UnixStream) -> Result<Connection> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, answer: vec![0; 1 << 16] })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The server is gone, or does not read.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).context("the server does not take a request")
    }

    /// Receives until the bytes so far satisfy `is_whole`. An answer is shorter than 64 KiB.
    ///
    /// # Errors
    /// The server is gone, silent, or sends more.
    pub fn receive(&mut self, is_whole: impl Fn(&[u8]) -> bool) -> Result<&[u8]> {
        let mut end = 0;
        loop {
            let room = self.answer.get_mut(end..).unwrap_or_default();
            let count = self.stream.read(room).context("the server does not answer")?;
            if count == 0 {
                bail!(Failure::Tier(
                    "the server has closed its connection or says too much".into()
                ));
            }
            end += count;
            if self.answer.get(..end).is_some_and(&is_whole) {
                return Ok(self.answer.get(..end).unwrap_or_default());
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
