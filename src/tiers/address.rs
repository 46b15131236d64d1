//! Addresses of the servers below, and refusals of what is not supported.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};

use super::dial::Endpoint;

/// Longest path of a unix socket: `sun_path` without its terminating zero.
const SOCKET_BYTES_MAX: usize = 107;

const TLS: &str = "TLS is not supported; have a TLS proxy on this host, such as stunnel, and give \
                   its address";
const SEVERAL_MEMCACHED: &str = "several memcached servers are not supported; give one, \
                                 or the address of a proxy such as mcrouter";
const SASL: &str = "authentication at memcached (SASL) is not supported; restrict access by \
                    address, or by a unix socket";
const PASSWORD: &str = "write password_file, password_credential or password_env, so that the \
                        configuration holds no password";
const USER: &str = "write it into the url: redis://USER@HOST:PORT";
const SEVERAL_REDIS: &str = "Redis Cluster and Sentinel are not supported; give the address \
                             of one master, or of a proxy or virtual address in front of it";

/// The library's reason, without its own names of kinds.
fn unusable(error: &RedisError) -> String {
    let text = error.to_string();
    let why = match text.split(" - ").next().unwrap_or_default() {
        "Redis URL did not parse" | "URL provided is not a redis URL" => "it is no URL of Redis",
        "Missing hostname" => "it names no host",
        "Missing path" => "it has no absolute path",
        "Invalid database number" => "its database is no number",
        "Invalid protocol version" => "its protocol is neither resp2 nor resp3",
        other => other,
    };
    why.to_owned()
}

/// Keys that a section of a tier does not have because what they ask for is not supported, each
/// with the reason.
pub const UNSUPPORTED_L2_KEYS: &[(&str, &str)] = &[
    ("addresses", SEVERAL_MEMCACHED),
    ("servers", SEVERAL_MEMCACHED),
    ("username", SASL),
    ("user", SASL),
    ("password", SASL),
    ("password_file", SASL),
    ("password_credential", SASL),
    ("password_env", SASL),
    ("sasl", SASL),
    ("tls", TLS),
];
/// The same for Redis.
pub const UNSUPPORTED_L3_KEYS: &[(&str, &str)] = &[
    ("password", PASSWORD),
    ("user", USER),
    ("username", USER),
    ("urls", SEVERAL_REDIS),
    ("nodes", SEVERAL_REDIS),
    ("cluster", SEVERAL_REDIS),
    ("sentinel", SEVERAL_REDIS),
    ("sentinels", SEVERAL_REDIS),
    ("tls", TLS),
];

/// Checks the address of memcached: `host:port`, or `unix:/path`. The error says what is wrong with
/// it, and does not repeat it, because it may hold a password.
///
/// # Errors
/// It is none, or asks for what is not supported.
pub fn check_address(address: &str) -> Result<(), String> {
    parse_address(address).map(drop)
}

/// The server at `address`; see [`check_address`].
pub(super) fn parse_address(address: &str) -> Result<Endpoint, String> {
    if let Some(path) = address.strip_prefix("unix:") {
        // "unix:///path" is a common spelling.
        let path = path.strip_prefix("//").unwrap_or(path);
        return unix(path).map(Endpoint::Unix);
    }
    if address.contains([',', ' ', ';']) {
        return Err(SEVERAL_MEMCACHED.to_owned());
    }
    if let Some((scheme, _)) = address.split_once("://") {
        let is_tls = scheme.ends_with('s') || scheme.contains("tls") || scheme.contains("ssl");
        return Err(if is_tls { TLS } else { "it is a URL, not host:port" }.to_owned());
    }
    if address.contains('@') {
        return Err(SASL.to_owned());
    }
    tcp(address).ok_or_else(|| "it is not host:port or unix:/path".to_owned())
}

fn unix(path: &str) -> Result<PathBuf, String> {
    if !Path::new(path).is_absolute() || path.contains('\0') {
        return Err("it has no absolute path after unix:".to_owned());
    }
    if path.len() > SOCKET_BYTES_MAX {
        let bytes = path.len();
        return Err(format!(
            "its path has {bytes} bytes, and a socket's has {SOCKET_BYTES_MAX} at most"
        ));
    }
    Ok(path.into())
}

fn tcp(address: &str) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok().then_some(ip)?,
        None => (!host.is_empty() && host.bytes().all(is_name)).then_some(host)?,
    };
    Some(Endpoint::Tcp { host: host.to_owned(), port })
}

/// The server at `url` (`redis://host:port/db`, `redis+unix:///path`). The error says what is
/// wrong, without the URL, which may hold a password.
///
/// # Errors
/// It is none, or asks for what is not supported.
pub fn parse_url(url: &str) -> Result<ConnectionInfo, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if ["rediss", "valkeys", "redis+tls"].contains(&scheme) {
        return Err(TLS.to_owned());
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let servers = authority.rsplit_once('@').map_or(authority, |(_, servers)| servers);
    let is_several = scheme.contains("sentinel") || scheme.contains("cluster");
    if is_several || servers.contains(',') {
        return Err(SEVERAL_REDIS.to_owned());
    }
    let server = url.into_connection_info().map_err(|error| unusable(&error))?;
    match server.addr() {
        ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => Ok(server),
        _ => Err(TLS.to_owned()),
    }
}
