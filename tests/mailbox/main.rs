//! The mailbox between real clients and a real daemon: sleeping, polling, and a peer that is slow,
//! stopped or killed.

mod back_pressure;
mod bench;
mod processors;
mod restarts;
mod threads;
