//! Redis behind a unix socket, in RESP.

use super::super::contest::Read;
use super::super::workload::{KEY_BYTES, Op, VALUE_BYTES, key, value};
use super::server::{Connection, Server};
use crate::failure::Failure;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Sets per write.
const TOGETHER: u32 = 512;
/// The answer to a set.
pub const STORED: &[u8] = b"+OK\r\n";
const NOTHING: &[u8] = b"$-1\r\n";
/// The header of a value in a reply.
const HEAD: &[u8] = b"$64\r\n";
const LINE: &[u8] = b"\r\n";

/// A connection and a request buffer.
pub struct Redis {
    server: Server,
    request: Vec<u8>,
}

impl Redis {
    /// A server with these keys.
    ///
    /// # Errors
    /// It is not installed, does not answer, or refuses a key.
    pub fn load(count: u32) -> Result<Redis> {
        let server = Server::start(("redis-server", "redis-server"), |socket, command| {
            command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
            command.arg(socket).current_dir(std::env::temp_dir());
        })?;
        let mut redis = Redis { server, request: Vec::new() };
        let (mut request, mut sets) = (Vec::new(), 0);
        for number in 0..count {
            set(&mut request, &key(number), &value(number));
            sets += 1;
            if sets == TOGETHER || number + 1 == count {
                redis.server.connection.send(&request)?;
                let bytes = sets as usize * STORED.len();
                let answer = redis.server.connection.receive(|answer| answer.len() >= bytes)?;
                if answer.chunks(STORED.len()).any(|answer| answer != STORED) {
                    let text = String::from_utf8_lossy(answer);
                    bail!(Failure::Tier(format!("Redis to a set: {text}")));
                }
                request.clear();
                sets = 0;
            }
        }
        Ok(redis)
    }

    /// Where the server listens.
    pub fn path(&self) -> PathBuf {
        self.server.socket()
    }
}

/// Asks for a key; `request` is a buffer for the request. Returns whether the value was there.
///
/// # Errors
/// The server is gone, silent, or sent something unexpected.
pub fn get(
    connection: &mut Connection,
    request: &mut Vec<u8>,
    key: &[u8; KEY_BYTES],
    value: &mut [u8; VALUE_BYTES],
) -> Result<bool> {
    request.clear();
    request.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$24\r\n");
    request.extend_from_slice(key);
    request.extend_from_slice(LINE);
    connection.send(request)?;
    let whole = HEAD.len() + VALUE_BYTES + LINE.len();
    let answer =
        connection.receive(|answer| answer.len() >= whole || !answer.starts_with(b"$6"))?;
    let found = answer.strip_prefix(HEAD).and_then(<[u8]>::first_chunk);
    let Some(from) = found else {
        if answer != NOTHING {
            bail!(Failure::Tier(format!("Redis says {}", String::from_utf8_lossy(answer))));
        }
        return Ok(false);
    };
    *value = *from;
    Ok(true)
}

/// Appends a set to a request.
pub fn set(request: &mut Vec<u8>, key: &[u8; KEY_BYTES], value: &[u8; VALUE_BYTES]) {
    request.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$24\r\n");
    request.extend_from_slice(key);
    request.extend_from_slice(b"\r\n$64\r\n");
    request.extend_from_slice(value);
    request.extend_from_slice(LINE);
}

impl Read for Redis {
    const NAME: &'static str = "redis";
    const HANDS_OUT: &'static str = "bytes from a unix socket";
    const IS_REMOTE: bool = true;
    type Buffer = [u8; VALUE_BYTES];

    fn buffer(&self) -> [u8; VALUE_BYTES] {
        [0; VALUE_BYTES]
    }

    fn read(&mut self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> bool {
        get(&mut self.server.connection, &mut self.request, &op.key, value).unwrap_or(false)
    }
}
