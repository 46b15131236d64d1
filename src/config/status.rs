//! Section `[status]`: where metrics and the status page are served.

use super::read::socket_path;
use super::section::{Section, Wrong};
use super::value;
use l1d_wire::place;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// An address that `listen` can have.
const ADDRESS: &str = "127.0.0.1:9401";

/// Section `[status]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusConfig {
    /// The socket for status requests.
    pub socket: StatusSocket,
    /// Its permission bits: whoever may connect sees keys and clients. Its group is the table's.
    pub socket_mode: u32,
    /// A loopback address to serve as well, without keys and clients; `None`: none.
    pub listen: Option<SocketAddr>,
}

/// The socket for status requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StatusSocket {
    /// Beside the control socket; see [`place::status_socket`].
    #[default]
    BesideControl,
    /// At this path.
    At(PathBuf),
    /// Nowhere.
    Off,
}

impl StatusConfig {
    /// The path of the socket, if there is to be one, beside this control socket if no other place
    /// is configured.
    #[must_use]
    pub fn socket(&self, control: &Path) -> Option<PathBuf> {
        match &self.socket {
            StatusSocket::BesideControl => Some(place::status_socket(control)),
            StatusSocket::At(path) => Some(path.clone()),
            StatusSocket::Off => None,
        }
    }
}

impl Default for StatusConfig {
    fn default() -> StatusConfig {
        StatusConfig { socket: StatusSocket::default(), socket_mode: 0o660, listen: None }
    }
}

pub(super) fn read(mut section: Section<'_>) -> StatusConfig {
    let default = StatusConfig::default();
    let config = StatusConfig {
        socket: section.read_or("socket", default.socket, |value| match value.as_str() {
            Some("off") => Ok(StatusSocket::Off),
            _ => socket_path(value, "/run/l1d/l1d-status.sock").map(StatusSocket::At),
        }),
        socket_mode: section.read_or("socket_mode", default.socket_mode, |value| {
            value::mode(value, 0o600, 0o775, "0660")
        }),
        listen: section.read("listen", loopback).unwrap_or_default(),
    };
    section.finish(&[("port", "write listen = \"127.0.0.1:9401\"")]);
    config
}

/// An address that only this host reaches: what is served there has no password.
fn loopback(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let wrong =
        |what: &str| Wrong::new(format!("{} {what}", value::show(value)), value::quoted(ADDRESS));
    let text = value::text(value, ADDRESS)?;
    let address = text.parse::<SocketAddr>();
    let address = address.map_err(|_| wrong("is not an IP address with a port"))?;
    if !address.ip().is_loopback() {
        return Err(wrong(
            "is not a loopback address, and what is served there has no password; let a proxy that \
             checks who asks pass requests on",
        ));
    }
    if address.port() == 0 {
        return Err(wrong("has no port that a scraper could know"));
    }
    Ok(address)
}
