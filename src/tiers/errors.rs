//! The one table of the errors that tiers answer with (P17).
//!
//! | kind | errors | caller | tier |
//! |---|---|---|---|
//! | [`Kind::Request`] | Redis: `WRONGTYPE`, `CROSSSLOT`, `NOPERM` for a key, `ERR` not named below. memcached: "object too large", "out of memory storing object" | is told, with the server's word | healthy |
//! | [`Kind::NotReady`] | Redis: `READONLY`, `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`, `TRYAGAIN`, `MOVED`, `ASK`, `BUSY`, `UNBLOCKED`, "max number of clients". memcached: any other `SERVER_ERROR` | asked once more over a new connection, then "nothing has changed" | left: the address is resolved again; counts as a failure |
//! | [`Kind::Unable`] | Redis: `NOAUTH`, `WRONGPASS`, `NOPERM` for a command that reads, an unknown command that reads, an unknown database, `NOPROTO`. memcached without meta commands | is told what to mend | as above, and one log line |
//! | [`Kind::NoWrites`] | Redis: `OOM`, `NOREPLICAS`, `MISCONF`, `NOPERM` for a command that writes, an unknown command that writes | is told what to mend | healthy, because reads are served; one log line |
//!
//! None of them is an absence. All of them are known outcomes: the server has changed nothing.

use redis::{RedisError, ServerError, ServerErrorKind};

/// The kinds of errors; see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This request is wrong. Another one may be fine.
    Request,
    /// This server is the wrong one, or not ready.
    NotReady,
    /// This server cannot serve us until someone mends the server or the configuration.
    Unable,
    /// As for `Unable` or `NotReady`, but for writes only.
    NoWrites,
}

/// An error answer, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What to do about it.
    pub kind: Kind,
    /// The server's word.
    pub word: String,
    /// What to mend, where the error does not end by itself.
    pub advice: Option<&'static str>,
    /// In an exchange for several keys, one of them may have caused it: the others deserve to be
    /// asked for by themselves.
    pub may_be_one_keys: bool,
}

impl Fault {
    /// The text for callers: the server's word, and what to do next.
    pub fn text(&self) -> String {
        match (self.kind, self.advice) {
            (Kind::Request, _) => self.word.clone(),
            (_, Some(advice)) => format!("{}; this does not end by itself: {advice}", self.word),
            (_, None) => format!("{}; {TRY_AGAIN}", self.word),
        }
    }

    /// The tier is to be left, and this counts as a failure.
    pub fn counts(&self) -> bool {
        matches!(self.kind, Kind::NotReady | Kind::Unable)
    }
}

/// The advice for what ends by itself.
pub const TRY_AGAIN: &str = "try again when it is back";

const CREDENTIALS: &str = "check the user in `url` and the password, under [l3]";
const PERMISSION: &str = "allow the daemon's Redis user the commands that docs/src/tiers.md lists";
const COMMAND: &str =
    "the server lacks a command that docs/src/tiers.md lists; use Redis 6 or later";
const DATABASE: &str = "check the database number in `url` under [l3]";
const DISK: &str = "the server cannot save its data to disk; its own log says why";
const META: &str = "memcached 1.6 or later, without authentication, is needed";

/// Sorts an error of Redis in reply to a command that reads, or to one that writes.
pub fn redis(error: ServerError, is_read: bool) -> Fault {
    let (kind, advice) = redis_kind(&error, is_read);
    let one_of_cluster = matches!(
        error.kind(),
        Some(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain)
    );
    // Without authentication no key is served. Any other refusal may be one key's, or be caused by
    // a command that a request for a single key does without.
    let may_be_one_keys = one_of_cluster
        || kind == Kind::Request
        || (kind == Kind::Unable && !is_code(&error, &["NOAUTH", "WRONGPASS"]));
    Fault { kind, word: word(error), advice, may_be_one_keys }
}

/// Sorts an error in reply to a command that opens a session. No request is at fault here.
pub fn redis_session(error: ServerError) -> Fault {
    let (kind, advice) = redis_kind(&error, true);
    let (kind, advice) = match kind {
        Kind::NotReady => (kind, advice),
        _ if error.details().is_some_and(|text| text.contains("DB index")) => {
            (Kind::Unable, Some(DATABASE))
        }
        _ => (Kind::Unable, advice.or(Some(CREDENTIALS))),
    };
    Fault { kind, word: word(error), advice, may_be_one_keys: false }
}

fn redis_kind(error: &ServerError, is_read: bool) -> (Kind, Option<&'static str>) {
    let unable = if is_read { Kind::Unable } else { Kind::NoWrites };
    let text = error.details().unwrap_or_default();
    match error.kind() {
        Some(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => (Kind::NotReady, None),
        Some(ServerErrorKind::NoPerm) if is_about_keys(text) => (Kind::Request, None),
        Some(ServerErrorKind::NoPerm) => (unable, Some(PERMISSION)),
        Some(_) if text.starts_with("unknown command") => (unable, Some(COMMAND)),
        Some(_) if text.starts_with("max number of clients") => (Kind::NotReady, None),
        Some(_) => (Kind::Request, None),
        None => match error.code() {
            "BUSY" | "UNBLOCKED" => (Kind::NotReady, None),
            "NOAUTH" | "WRONGPASS" => (Kind::Unable, Some(CREDENTIALS)),
            "NOPROTO" => (Kind::Unable, Some(COMMAND)),
            "OOM" | "NOREPLICAS" => (Kind::NoWrites, None),
            "MISCONF" => (Kind::NoWrites, Some(DISK)),
            _ => (Kind::Request, None),
        },
    }
}

/// Redis 6 says "... to access one of the keys used as arguments", Redis 7 "... to access a key".
fn is_about_keys(details: &str) -> bool {
    details.contains("to access")
}

fn is_code(error: &ServerError, codes: &[&str]) -> bool {
    codes.contains(&error.code())
}

/// The server's word, as it stood on the wire. An unknown command is followed by its arguments,
/// which are cut off: they differ from one request to the next.
fn word(error: ServerError) -> String {
    let details = error.details().unwrap_or_default();
    let details = details.split(", with args").next().unwrap_or_default().trim_end();
    let details = details.trim_end_matches(',');
    if details.is_empty() {
        return RedisError::from(error).to_string();
    }
    format!("{} {details}", error.code())
}

/// Sorts the text behind `SERVER_ERROR`.
pub fn memcached(text: String) -> Fault {
    // For both, memcached has room for other values: memory belongs to a class of sizes.
    let is_about_value =
        text.contains("object too large") || text.contains("out of memory storing object");
    let kind = if is_about_value { Kind::Request } else { Kind::NotReady };
    Fault { kind, word: text, advice: None, may_be_one_keys: true }
}

/// The server does not know the meta commands.
pub fn memcached_session(answer: &str) -> Fault {
    let word = format!("answers {answer:?} to a meta command");
    Fault { kind: Kind::Unable, word, advice: Some(META), may_be_one_keys: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::{Parser, Value};

    fn error(line: &str) -> ServerError {
        match Parser::new().parse_value(format!("-{line}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    fn kinds(line: &str) -> (Kind, Kind) {
        (redis(error(line), true).kind, redis(error(line), false).kind)
    }

    #[test]
    fn each_error_of_redis_is_of_the_kind_that_the_table_says() {
        use Kind::{NoWrites, NotReady, Request, Unable};
        for (line, read, write) in [
            ("WRONGTYPE Operation against a key holding the wrong kind", Request, Request),
            ("CROSSSLOT Keys in request don't hash to the same slot", Request, Request),
            ("NOPERM No permissions to access a key", Request, Request),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                Request,
                Request,
            ),
            ("ERR string exceeds maximum allowed size", Request, Request),
            ("READONLY You can't write against a read only replica.", NotReady, NotReady),
            ("LOADING Redis is loading the dataset in memory", NotReady, NotReady),
            ("MASTERDOWN Link with MASTER is down", NotReady, NotReady),
            ("CLUSTERDOWN The cluster is down", NotReady, NotReady),
            ("TRYAGAIN Multiple keys request during rehashing of slot", NotReady, NotReady),
            ("MOVED 3999 127.0.0.1:6381", NotReady, NotReady),
            ("ASK 3999 127.0.0.1:6381", NotReady, NotReady),
            ("BUSY Redis is busy running a script.", NotReady, NotReady),
            ("ERR max number of clients reached", NotReady, NotReady),
            ("NOAUTH Authentication required.", Unable, Unable),
            ("WRONGPASS invalid username-password pair", Unable, Unable),
            ("NOPERM this user has no permissions to run the 'get' command", Unable, NoWrites),
            ("NOPERM User me has no permissions to run the 'set' command", Unable, NoWrites),
            ("ERR unknown command 'GET', with args beginning with: 'k'", Unable, NoWrites),
            ("OOM command not allowed when used memory > 'maxmemory'.", NoWrites, NoWrites),
            ("NOREPLICAS Not enough good replicas to write.", NoWrites, NoWrites),
            ("MISCONF Redis is configured to save RDB snapshots", NoWrites, NoWrites),
        ] {
            assert_eq!(kinds(line), (read, write), "{line}");
        }
    }

    #[test]
    fn texts_promise_an_end_only_of_what_ends_by_itself() {
        let text = |line| redis(error(line), false).text();
        assert_eq!(text("WRONGTYPE wrong kind"), "WRONGTYPE wrong kind");
        assert!(text("LOADING loading").ends_with(TRY_AGAIN));
        assert_eq!(
            text("ERR unknown command 'SET', with args beginning with: 'k' "),
            format!("ERR unknown command 'SET'; this does not end by itself: {COMMAND}")
        );
        for line in ["NOAUTH Authentication required.", "MISCONF cannot save", "NOPERM no"] {
            assert!(!text(line).contains(TRY_AGAIN), "{line}");
        }
    }

    #[test]
    fn nothing_that_refuses_a_session_is_a_requests_fault() {
        let session = |line| redis_session(error(line));
        assert_eq!(session("ERR DB index is out of range").advice, Some(DATABASE));
        assert_eq!(session("ERR Client sent AUTH, but no password is set").kind, Kind::Unable);
        assert_eq!(session("LOADING loading").kind, Kind::NotReady);
    }

    #[test]
    fn a_value_that_memcached_cannot_hold_is_not_the_servers_fault() {
        let kind = |text: &str| memcached(text.to_owned()).kind;
        assert_eq!(kind("object too large for cache"), Kind::Request);
        assert_eq!(kind("out of memory storing object"), Kind::Request);
        assert_eq!(kind("out of memory writing get response"), Kind::NotReady);
        assert_eq!(kind("backend failure"), Kind::NotReady);
    }
}
