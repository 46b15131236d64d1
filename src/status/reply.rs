//! Replies, with the headers that each has.

use super::figures::Failure;
use super::page;
use super::query::QueryError;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde_json::json;

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";

pub(super) type Reply = Response<Full<Bytes>>;

/// A reply of this kind.
pub(super) fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert(CONTENT_SECURITY_POLICY, page::security_policy());
    reply
}

/// The answer that was asked for.
pub(super) fn found(kind: &'static str, body: impl Into<Bytes>) -> Reply {
    reply(StatusCode::OK, kind, body)
}

/// A refusal or failure, in a sentence.
pub(super) fn failed(status: StatusCode, message: &str) -> Reply {
    reply(status, JSON, format!("{}\n", json!({ "error": message })))
}

/// Only reading is possible.
pub(super) fn wrong_method() -> Reply {
    let message = "this server only answers GET and HEAD: it changes nothing";
    let mut reply = failed(StatusCode::METHOD_NOT_ALLOWED, message);
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    reply
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Reply {
        let status = match &failure {
            Failure::NoAnswer(_) | Failure::Full(_) | Failure::Busy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Failure::Refused(_) => StatusCode::BAD_REQUEST,
        };
        failed(status, &failure.to_string())
    }
}

impl From<QueryError> for Reply {
    fn from(error: QueryError) -> Reply {
        failed(StatusCode::BAD_REQUEST, &error.to_string())
    }
}
