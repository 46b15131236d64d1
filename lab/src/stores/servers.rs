//! memcached and Redis: all sets since the last reply go in one request, and are visible when all
//! its replies have arrived.

use crate::failure::Failure;
use crate::hot_key::view::{Ask, Value, View};
use crate::hot_key::writer::Sets;
use crate::reads::rivals::server::Connection;
use crate::reads::rivals::{memcached, redis};
use crate::reads::workload::{KEY_BYTES, key};
use anyhow::{Result, bail};
use std::path::Path;

/// The writer.
pub struct ServerWriter {
    connection: Connection,
    request: Vec<u8>,
    /// Number of sets in the request.
    count: usize,
    append: fn(&mut Vec<u8>, &[u8; KEY_BYTES], &Value),
    stored: &'static [u8],
}

impl ServerWriter {
    /// A writer to the memcached behind this socket.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn memcached(socket: &Path) -> Result<ServerWriter> {
        ServerWriter::open(socket, memcached::set, memcached::STORED)
    }

    /// A writer to the Redis behind this socket.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn redis(socket: &Path) -> Result<ServerWriter> {
        ServerWriter::open(socket, redis::set, redis::STORED)
    }

    fn open(
        socket: &Path,
        append: fn(&mut Vec<u8>, &[u8; KEY_BYTES], &Value),
        stored: &'static [u8],
    ) -> Result<ServerWriter> {
        let connection = Connection::open(socket)?;
        Ok(ServerWriter { connection, request: Vec::new(), count: 0, append, stored })
    }
}

impl Sets for ServerWriter {
    fn set(&mut self, number: u32, value: &Value) -> Result<()> {
        (self.append)(&mut self.request, &key(number), value);
        self.count += 1;
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        self.connection.send(&self.request)?;
        let bytes = self.count * self.stored.len();
        let answer = self.connection.receive(|answer| answer.len() >= bytes)?;
        if answer.chunks(self.stored.len()).any(|answer| answer != self.stored) {
            let text = String::from_utf8_lossy(answer);
            bail!(Failure::Tier(format!("the server to a set: {text}")));
        }
        self.request.clear();
        self.count = 0;
        Ok(())
    }
}

type Get = fn(&mut Connection, &mut Vec<u8>, &[u8; KEY_BYTES], &mut Value) -> Result<bool>;

/// A reader.
pub struct ServerView {
    connection: Connection,
    request: Vec<u8>,
    get: Get,
}

impl ServerView {
    /// A reader of the memcached behind this socket.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn memcached(socket: &Path) -> Result<ServerView> {
        let connection = Connection::open(socket)?;
        Ok(ServerView { connection, request: Vec::new(), get: memcached::get })
    }

    /// A reader of the Redis behind this socket.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn redis(socket: &Path) -> Result<ServerView> {
        let connection = Connection::open(socket)?;
        Ok(ServerView { connection, request: Vec::new(), get: redis::get })
    }
}

impl View for ServerView {
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool {
        (self.get)(&mut self.connection, &mut self.request, &ask.key, value).unwrap_or(false)
    }
}
