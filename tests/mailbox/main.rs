//! The mailbox between real clients and a real daemon: who sleeps and who is looked at, what happens when
//! one side is slow, stopped or killed.

mod back_pressure;
mod bench;
mod processors;
mod restarts;
mod threads;
