//! The texts that the status server reads, for the fuzz targets.

use super::audience::Audience;
use super::metrics::Format;
use super::query;
use hyper::HeaderMap;
use hyper::header::{ACCEPT, HeaderValue};

/// The key that a query names, if it names one.
pub(crate) fn key(text: &str) -> Option<Vec<u8>> {
    query::key(text).ok()
}

/// Whether a `Host` header is meant for a listener.
pub(crate) fn host(text: &str) -> bool {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9401));
    Audience::Anybody(address).is_meant(Some(text))
}

/// Which format an `Accept` header asks for.
pub(crate) fn accept(text: &str) -> &'static str {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(ACCEPT, value);
    }
    Format::wanted(&headers).kind()
}
