//! The settings of a client.

use crate::interrupt::Interrupt;
use crate::populate::Populate;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of [`ClientBuilder`](crate::ClientBuilder), whose methods document each field.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub socket: PathBuf,
    pub deadline: Duration,
    pub attach_deadline: Duration,
    pub connections_max: usize,
    pub mailbox: bool,
    pub spin: Duration,
    pub populate: Populate,
    pub owner_uid: Option<u32>,
    pub process_cache_bytes: u64,
    pub interrupt: Interrupt,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            socket: PathBuf::new(),
            deadline: Duration::from_secs(1),
            attach_deadline: Duration::from_millis(250),
            connections_max: 4,
            mailbox: true,
            spin: Duration::from_micros(50),
            populate: Populate::Auto,
            owner_uid: None,
            process_cache_bytes: 16 << 20,
            interrupt: Interrupt::default(),
        }
    }
}
