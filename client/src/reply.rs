//! From a reply's payload to a call's result.

use crate::error::{Cause, Error};
use l1d_wire::protocol::Response;

/// The response in a reply's payload.
pub(crate) fn decode(payload: &[u8]) -> Result<Response<'_>, Error> {
    Response::decode(payload).map_err(|error| Error::Internal {
        reason: error.to_string(),
        source: Some(Cause::of(error)),
    })
}

/// The error of a response that does not fit the request: the daemon's own error, or a broken
/// daemon.
pub(crate) fn unexpected(response: &Response<'_>) -> Error {
    match response {
        Response::Error { code, message } => Error::from_daemon(*code, message),
        _ => Error::internal("an answer to another question"),
    }
}

/// Requests and replies may no longer match on this connection, or it is being closed: it must not
/// be used again.
pub(crate) fn is_out_of_step<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Internal { .. } | Error::WrongProtocol { .. }))
}
