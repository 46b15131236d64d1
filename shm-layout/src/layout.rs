//! Names of layouts: what two builds compare before they share memory.

use crate::{header, mailbox};

/// The name of a layout. Two builds can share memory only if they have the same name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Raised with every change of what bytes mean.
    pub version: u32,
    /// Hash of sizes and offsets.
    pub fingerprint: u64,
}

impl Layout {
    /// The layout of this build's tables.
    pub const TABLE: Layout =
        Layout { version: header::LAYOUT_VERSION, fingerprint: header::FINGERPRINT };
    /// The layout of this build's mailboxes.
    pub const MAILBOX: Layout =
        Layout { version: mailbox::LAYOUT_VERSION, fingerprint: mailbox::FINGERPRINT };
}
