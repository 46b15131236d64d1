//! Entering a mapping into the process's page table ahead of its first use.

use crate::mapping::{HUGE_PAGE_BYTES, Mapping};
use std::ops::Range;

/// Bytes populated between two calls of `go_on`.
const PIECE_BYTES: usize = 64 << 20;

/// Populates the parts of the first `bytes_max` bytes of a mapping that are in large pages, piece
/// by piece while `go_on` says so. Each piece is judged by its first large page, and touched only
/// if it has one. Stops at the first piece that the kernel refuses.
pub fn populate_large(mapping: &Mapping, bytes_max: usize, go_on: impl Fn() -> bool) {
    for piece in pieces(0..mapping.bytes().min(bytes_max)) {
        // A kernel too old to populate one piece cannot populate any.
        let is_large = piece.len() >= HUGE_PAGE_BYTES && mapping.is_large_at(piece.start);
        if !go_on() || (is_large && mapping.populate(piece).is_err()) {
            return;
        }
    }
}

/// Populates the bytes `range` of a mapping, piece by piece while `go_on` says so. Stops at the
/// first piece that the kernel refuses.
pub fn populate_range(mapping: &Mapping, range: Range<usize>, go_on: impl Fn() -> bool) {
    for piece in pieces(range) {
        if !go_on() || mapping.populate(piece).is_err() {
            return;
        }
    }
}

fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let starts = range.clone().step_by(PIECE_BYTES);
    starts.map(move |start| start..start.saturating_add(PIECE_BYTES).min(range.end))
}
