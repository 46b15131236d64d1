//! Configuration of the tiers, checked before anything is started.

use std::fmt;
use std::time::Duration;

use super::Tier;
use l1d_wire::words;

/// The configured tiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TiersConfig {
    /// memcached, if any.
    pub l2: Option<L2Config>,
    /// Redis, if any.
    pub l3: Option<L3Config>,
    /// Values with more bytes are not kept: they are skipped as they arrive.
    pub value_bytes_max: usize,
}

impl Default for TiersConfig {
    /// No tiers.
    fn default() -> TiersConfig {
        TiersConfig { l2: None, l3: None, value_bytes_max: 1 << 20 }
    }
}

/// Where memcached is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L2Config {
    /// `host:port`, an IPv6 address in brackets, or `unix:/path`.
    pub address: String,
    /// Longest time for an exchange, connecting included. While a reply is arriving, it is counted
    /// from the last bytes, up to four times as long.
    pub deadline: Duration,
}

/// A password. Nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// This password.
    #[must_use]
    pub fn new(password: String) -> Secret {
        Secret(password)
    }

    /// The password itself, for the server alone.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where Redis is.
#[derive(Clone, PartialEq, Eq)]
pub struct L3Config {
    /// `redis://[user:password@]host:port[/db]` or `redis+unix:///path`.
    pub url: String,
    /// The password, if it is not in the URL.
    pub password: Option<Secret>,
    /// Longest time for an exchange, connecting included. While a reply is arriving, it is counted
    /// from the last bytes, up to four times as long.
    pub deadline: Duration,
}

impl fmt::Debug for L3Config {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L3Config").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Why the tiers could not be started. Servers that are down are no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TiersError {
    /// The address of memcached is not one, or needs what is not supported. It is left out, because
    /// it may hold a password.
    #[error("L2 address cannot be used: {0}; write for example \"127.0.0.1:11211\"")]
    Address(String),
    /// The URL of Redis is not one, or needs what is not supported. The URL is left out, because
    /// it may hold a password.
    #[error("L3 URL cannot be used: {0}; write for example \"redis://127.0.0.1:6379\"")]
    Url(String),
    /// A deadline of zero answers nothing.
    #[error("the deadline of {0} is zero; write for example \"50ms\"")]
    Deadline(Tier),
    /// The system refused a descriptor.
    #[error(
        "cannot prepare the tiers: {}; raise the limit on open files (LimitNOFILE=)",
        words::of(.0)
    )]
    System(#[from] std::io::Error),
}

pub(super) fn check_deadline(tier: Tier, deadline: Duration) -> Result<(), TiersError> {
    if deadline.is_zero() { Err(TiersError::Deadline(tier)) } else { Ok(()) }
}
