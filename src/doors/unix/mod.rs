//! The control socket: connections, and requests and responses as frames of bytes.

mod acceptor;
mod connection;
mod incoming;
mod input;
mod output;
mod phase;
mod requests;
mod rights;

pub(super) use acceptor::{Acceptor, LISTENER};
pub(super) use connection::{Closed, Connection, Stall};
#[cfg(test)]
pub(super) use input::Input;
pub(super) use phase::Phase;
