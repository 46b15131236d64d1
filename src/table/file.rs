//! The table's file: taken over from an earlier daemon, or newly made (W1, S2).

use super::Table;
use super::pages::Allocator;
use l1d_wire::mapping::Mapping;
use l1d_wire::pages::Pages;
use l1d_wire::policy::PolicySet;
use l1d_wire::words;
use nix::libc;
use shm_layout::fault_point;
use shm_layout::header::Identity;
use shm_layout::{Geometry, LayoutError, MappedMut, Plan, Writer};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a table is to be made.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// Directory that only the daemon's user can write.
    pub directory: PathBuf,
    /// Sizes; identity, seed, boot id and epoch are filled in here.
    pub plan: Plan,
    /// Mode of the file; no write permission for others than the owner.
    pub mode: u32,
    /// Group of the file.
    pub group: Option<u32>,
    /// The policy to bring into force. Its ids are disregarded if the table's entries have others.
    pub policy: PolicySet,
    /// An existing table keeps its index, whatever size of entries the plan has.
    pub keeps_index: bool,
}

impl FileOptions {
    /// Whether an existing table with the identity `found` may be used instead of `wanted`.
    pub(super) fn accepts(&self, found: &Identity, wanted: &Identity) -> bool {
        let same_index = (found.bucket_count, found.segment_bytes)
            == (wanted.bucket_count, wanted.segment_bytes);
        let same_segments =
            self.plan.segment_bytes.is_none() || found.segment_bytes == wanted.segment_bytes;
        (found.table_bytes, found.value_bytes_max) == (wanted.table_bytes, wanted.value_bytes_max)
            && (same_index || (self.keeps_index && same_segments))
    }
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A system call failed.
    #[error("{what} {path}: {}; {advice}", words::of(source))]
    System {
        /// The operation that failed.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
        /// What to do next.
        advice: &'static str,
    },
    /// Another daemon is at work.
    #[error(
        "another l1d owns the table in {directory}; \
         stop it, or give this one another --table-directory"
    )]
    Owned {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory is not safe.
    #[error("{directory} {what}; {advice}")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do next.
        advice: &'static str,
    },
    /// No room.
    #[error(
        "a table of {bytes} bytes does not fit {directory}: {free} bytes are free; \
         set a smaller table size or enlarge the file system"
    )]
    NoSpace {
        /// The directory.
        directory: PathBuf,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes free.
        free: u64,
    },
    /// No huge pages.
    #[error(
        "a table of {} bytes needs {wanted} huge pages of {page_bytes} bytes in {directory}, \
         and {free} are free; reserve {} in all with vm.nr_hugepages (or in \
         /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages), or use a directory on a tmpfs",
        wanted * page_bytes,
        reserved + wanted.saturating_sub(*free),
        page_bytes >> 10
    )]
    NoHugePages {
        /// The directory, on a hugetlbfs.
        directory: PathBuf,
        /// Bytes of a page there.
        page_bytes: u64,
        /// Pages that the table needs.
        wanted: u64,
        /// Free pages of this size.
        free: u64,
        /// Pages that there are, of this size.
        reserved: u64,
    },
    /// Impossible sizes.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// The file of a table, mapped.
#[derive(Debug)]
pub struct TableFile {
    /// Shared, like the file, with the thread that allocates the rest of it.
    mapping: Arc<Mapping>,
    writable: Arc<OwnedFd>,
    /// The descriptor that clients get.
    read_only: OwnedFd,
    pages: Option<Pages>,
}

impl TableFile {
    pub(super) fn new(
        mapping: Arc<Mapping>,
        writable: Arc<OwnedFd>,
        read_only: OwnedFd,
    ) -> TableFile {
        let pages = Pages::of(&mapping);
        TableFile { mapping, writable, read_only, pages }
    }

    /// What allocates the file after its first `done` bytes.
    pub(super) fn allocator(&self, done: u64) -> Allocator {
        Allocator::new(self.writable.clone(), self.mapping.clone(), done)
    }

    /// What tells in which pages the file is.
    pub(super) fn mapping(&self) -> Arc<Mapping> {
        self.mapping.clone()
    }

    pub(super) fn set_pages(&mut self, pages: Option<Pages>) {
        self.pages = pages;
    }

    /// The read-only descriptor that clients get.
    #[must_use]
    pub fn read_only(&self) -> &OwnedFd {
        &self.read_only
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.mapping.bytes() as u64
    }

    /// The pages in which this process had the table mapped when it was made, taken over or fully
    /// allocated. Not updated, because asking the kernel takes longer than the owner can wait.
    #[must_use]
    pub fn pages(&self) -> Option<Pages> {
        self.pages
    }
}

/// A table and the file that it is in.
#[derive(Debug)]
pub(super) struct Opened {
    /// Dropped before the file, whose mapping it uses.
    pub(super) table: Table<MappedMut>,
    pub(super) file: TableFile,
}

impl Opened {
    /// S2 to S5 on the file of an earlier daemon.
    pub(super) fn take_over(file: TableFile) -> Result<Opened, LayoutError> {
        // SAFETY: the mapping is page-aligned and dropped after the table, and the lock of the
        // directory makes this process the only one that writes.
        let memory = unsafe { MappedMut::new(file.mapping.base()) };
        // SAFETY: as above; the memory has the mapping's length.
        let writer = unsafe { Writer::take_over(memory, file.bytes()) }?;
        let table = Table::take_over(writer);
        Ok(Opened { table, file })
    }

    /// An empty table, not yet open for readers, in a file of zeros of this geometry's size, of
    /// which the first `usable` segments are allocated.
    pub(super) fn create(file: TableFile, geometry: Geometry, usable: u32) -> Opened {
        // SAFETY: page-aligned, dropped after the table; no other process has the file yet.
        let memory = unsafe { MappedMut::new(file.mapping.base()) };
        // SAFETY: the mapping has the bytes of this geometry, all zero.
        let writer = unsafe { Writer::create(memory, geometry) };
        fault_point!("create.usable");
        writer.set_usable_segments(usable);
        Opened { table: Table::new(writer), file }
    }
}

/// The system's refusal, with what to do about it.
pub(super) fn system(what: &'static str, path: &Path, source: io::Error) -> FileError {
    let advice = match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "run as the user who owns it, or name another directory with --table-directory"
        }
        Some(libc::ENOENT) => "make it first, or name another with --table-directory",
        Some(libc::ENOTDIR | libc::ELOOP | libc::EEXIST) => {
            "name a directory, and no symbolic link, with --table-directory"
        }
        Some(libc::EROFS) => {
            "name a directory that can be written, on a tmpfs, with --table-directory"
        }
        Some(libc::EFBIG) => {
            "raise this process's limit on the size of files (ulimit -f, LimitFSIZE=), or set a \
             smaller table size"
        }
        Some(libc::ENOMEM) => {
            "raise this process's limit on address space (ulimit -v, LimitAS=), or set a smaller \
             table size"
        }
        Some(libc::EAGAIN) => "raise the limit on threads (ulimit -u, TasksMax=)",
        Some(libc::EMFILE | libc::ENFILE) => {
            "raise the limit on open files (ulimit -n, LimitNOFILE=)"
        }
        _ => "name another directory, on a tmpfs, with --table-directory",
    };
    FileError::System { what, path: path.into(), source, advice }
}
