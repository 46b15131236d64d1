//! Who can ask at a listener, and so what is served there.

use std::net::SocketAddr;

/// Whoever can connect to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Members of the readers' group, through the socket's mode: they see everything.
    Readers,
    /// Every local user, who sees aggregates. Web sites in their browsers ask here, too, and must
    /// not get to read the answers.
    Anybody(SocketAddr),
}

impl Audience {
    /// Whether keys and clients are shown.
    pub(super) fn sees_keys(self) -> bool {
        self == Audience::Readers
    }

    /// Whether a request that names this host is meant for this listener. A web site whose name
    /// leads to 127.0.0.1 (DNS rebinding) must not read what is served there, and its requests have
    /// its own name.
    pub(super) fn is_meant(self, host: Option<&str>) -> bool {
        let Audience::Anybody(address) = self else { return true };
        let Some(host) = host else { return false };
        let port = address.port();
        let host = match host.strip_suffix(&format!(":{port}")) {
            Some(host) => host,
            None if port == 80 => host,
            None => return false,
        };
        let own = match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        ["127.0.0.1", "[::1]", own.as_str()].contains(&host)
            || host.eq_ignore_ascii_case("localhost")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_meant_for_it() {
        let audience = Audience::Anybody("127.0.0.9:9401".parse().unwrap());
        for host in
            ["127.0.0.1:9401", "localhost:9401", "LocalHost:9401", "[::1]:9401", "127.0.0.9:9401"]
        {
            assert!(audience.is_meant(Some(host)), "{host}");
        }
        for host in [
            "evil.example:9401",
            "evil.example",
            "localhost",
            "localhost:80",
            "localhost:9401:9401",
            "localhost.evil.example:9401",
            "127.0.0.1.evil.example:9401",
            "user@localhost:9401",
            "127.0.0.8:9401",
            ":9401",
            "",
        ] {
            assert!(!audience.is_meant(Some(host)), "{host}");
        }
        assert!(!audience.is_meant(None));
        assert!(Audience::Readers.is_meant(None));
        assert!(Audience::Anybody("[::1]:80".parse().unwrap()).is_meant(Some("localhost")));
    }
}
