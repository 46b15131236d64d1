//! Log lines for hits, at trace level: who hit what, where, and how much life it has left. Only with
//! the cargo feature `tracing`. While nobody wants them, a hit costs one relaxed load and a branch.

use crate::table::Table;
use std::time::Duration;

/// A hit in the table; `place` says whether its value was read, or an object made of it was used.
#[inline(always)]
pub(crate) fn in_table(place: &'static str, table: &Table, key: &[u8]) {
    if tracing::enabled!(target: "l1d_client::hit", tracing::Level::TRACE) {
        // Looked up once more: a hit itself does not keep its expiry.
        log(place, key, table.life_left(key));
    }
}

/// A value of another place, with this life left.
#[inline(always)]
pub(crate) fn elsewhere(place: &'static str, key: &[u8], left: Option<Duration>) {
    if tracing::enabled!(target: "l1d_client::hit", tracing::Level::TRACE) {
        log(place, key, left);
    }
}

/// `left` is `None` if that is not known any more.
#[cold]
#[inline(never)]
fn log(place: &'static str, key: &[u8], left: Option<Duration>) {
    let left = match left {
        None => "not known".to_owned(),
        Some(Duration::MAX) => "without end".to_owned(),
        Some(left) => format!("{} ms", left.as_millis()),
    };
    tracing::trace!(
        target: "l1d_client::hit",
        place,
        key = %key.escape_ascii(),
        left,
        process = std::process::id(),
        "hit"
    );
}
