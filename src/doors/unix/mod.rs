//! The control socket: connections, and requests and responses as frames of bytes.

mod acceptor;
mod connection;
mod input;
mod output;

pub(super) use acceptor::{Acceptor, LISTENER};
pub(super) use connection::{Asked, Connection, Over};
#[cfg(test)]
pub(super) use input::Input;
