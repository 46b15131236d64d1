//! Errors of a table.

use core::fmt;

/// Why a table cannot be made, trusted or written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The memory is too small to hold a header.
    TooSmall {
        /// Its bytes.
        bytes: u64,
    },
    /// The first word is not l1d's.
    Magic,
    /// Another layout version.
    Version {
        /// The version found.
        found: u32,
    },
    /// The same version with other sizes or offsets: a build with another layout.
    Fingerprint,
    /// The first copy of the identity has a wrong checksum, or the copies differ.
    Damaged,
    /// The identity and the memory disagree on the size.
    Size {
        /// The identity's figure.
        expected: u64,
        /// The memory's figure.
        found: u64,
    },
    /// Sizes that contradict one another.
    Geometry {
        /// The impossible figure.
        what: &'static str,
    },
    /// A table of this size cannot hold its largest entry often enough (W1).
    TableTooSmall {
        /// Bytes asked for.
        bytes: u64,
        /// The smallest table that would do.
        smallest: u64,
    },
    /// A table larger than slot words can address.
    TableTooLarge {
        /// Bytes asked for.
        bytes: u64,
        /// The largest that can be addressed.
        largest: u64,
    },
    /// A key of no bytes, or too many.
    KeyBytes {
        /// Its bytes.
        bytes: usize,
    },
    /// A value with too many bytes.
    ValueBytes {
        /// Its bytes.
        bytes: usize,
    },
    /// An entry would not end inside its segment.
    OutOfSegment,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::TooSmall { bytes } => {
                write!(f, "{bytes} bytes are too few for the header of a table")
            }
            LayoutError::Magic => f.write_str("this is not an l1d table"),
            LayoutError::Version { found } => write!(
                f,
                "the table has layout version {found}, this program knows version {}",
                crate::header::LAYOUT_VERSION
            ),
            LayoutError::Fingerprint => {
                f.write_str("the table was made by a build with other sizes or offsets")
            }
            LayoutError::Damaged => f.write_str("the table's header is damaged"),
            LayoutError::Size { expected, found } => {
                write!(f, "the table's header says {expected} bytes, the file has {found}")
            }
            LayoutError::Geometry { what } => {
                write!(f, "the table's geometry is impossible: {what}")
            }
            LayoutError::TableTooSmall { bytes, smallest } => write!(
                f,
                "a table of {bytes} bytes is too small for its largest value; the smallest that \
                 would do has {smallest} bytes: set a size of {} MiB ([table] size, --table-size), \
                 or a smaller value_bytes_max",
                smallest.div_ceil(1 << 20)
            ),
            LayoutError::TableTooLarge { bytes, largest } => write!(
                f,
                "a table of {bytes} bytes is larger than slots can address; \
                 the largest has {largest} bytes: set a smaller size ([table] size, --table-size)"
            ),
            LayoutError::KeyBytes { bytes } => write!(
                f,
                "a key of {bytes} bytes cannot be stored; use one of 1 to {} bytes",
                crate::entry::KEY_BYTES_MAX
            ),
            LayoutError::ValueBytes { bytes } => write!(
                f,
                "a value of {bytes} bytes is too large for the table; store less, or raise \
                 value_bytes_max of [table]"
            ),
            LayoutError::OutOfSegment => f.write_str(
                "the entry does not fit a segment of the table; store less, or raise segment_bytes \
                 of [table]",
            ),
        }
    }
}

impl core::error::Error for LayoutError {}
