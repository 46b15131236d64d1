//! The table's file: found, checked and taken over, or made anew (W1, W6, S1, S2).

use super::Table;
use super::pages;
use l1d_client::mapping::{Access, Mapping};
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, posix_fallocate, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, ftruncate, unlinkat};
use shm_layout::header::{HEADER_BYTES, Identity, VERSION_CEILING};
use shm_layout::{Geometry, LayoutError, MappedMut, Memory, Plan, Writer};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Name of the table in its directory.
const TABLE: &str = "table";
/// A table is built under this name and renamed when it is whole.
const UNFINISHED: &str = "table.new";
/// No owner gives so many versions out: at 10 million a second it would take 29,000 years.
const VERSIONS_END: u64 = 1 << 63;
/// A table's epoch lies this long before it was made: the coarse clock of readers lags, and a time
/// before the epoch would look like the far future, in which everything has expired.
const EPOCH_LEAD_NS: u64 = 1_000_000_000;
/// Who holds the lock on this file owns the table. Never the table itself: a reader could lock that
/// through its read-only descriptor.
const LOCK: &str = "lock";

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
    /// Fingerprint of the policy in force.
    pub policy_fingerprint: u64,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A system call failed.
    #[error("{what} {path}: {source}; {advice}")]
    System {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do next.
        advice: &'static str,
    },
    /// Another daemon is at work.
    #[error(
        "another l1d owns the table in {directory}; stop it, or give this one another --table-directory"
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
        "a table of {bytes} bytes does not fit {directory}: {free} bytes are free; set a smaller table size or enlarge the file system"
    )]
    NoSpace {
        /// The directory.
        directory: PathBuf,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes free.
        free: u64,
    },
    /// Sizes that cannot be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// The file of a table, mapped.
#[derive(Debug)]
pub struct TableFile {
    /// Kept mapped as long as anything uses the table.
    mapping: Mapping,
    /// What clients get.
    read_only: OwnedFd,
    /// Held until the process ends.
    _lock: Flock<fs::File>,
    /// Why the file that was there could not be used, if one was.
    replaced: Option<String>,
    taken_over: bool,
}

impl TableFile {
    /// The table in the directory: the one that is there if it is sound and has the shape that is
    /// asked for, else a new one.
    ///
    /// # Errors
    /// An unsafe directory, another daemon at work, no space, sizes that cannot be had.
    pub fn open(options: &FileOptions) -> Result<(TableFile, Table<MappedMut>), FileError> {
        let directory = Directory::open(&options.directory)?;
        let lock = directory.lock()?;
        let mut plan = options.plan;
        plan.boot_id = boot_id();
        let wanted = Geometry::plan(&plan)?;

        let mut replaced = None;
        match directory.existing(&wanted) {
            Ok(Some((file, mapping))) => match take_over(&mapping, options.policy_fingerprint) {
                Ok(table) => {
                    directory.set_access(&file, options)?;
                    let read_only = directory.read_only(TABLE)?;
                    let file =
                        TableFile { mapping, read_only, _lock: lock, replaced, taken_over: true };
                    return Ok((file, table));
                }
                Err(error) => replaced = Some(error.to_string()),
            },
            Ok(None) => {}
            Err(reason) => replaced = Some(reason),
        }

        plan.table_id = random();
        plan.hash_seed = random();
        plan.epoch_ns = crate::clock::boottime_ns().saturating_sub(EPOCH_LEAD_NS);
        let geometry = Geometry::plan(&plan)?;
        let (mapping, table) = directory.create(geometry, options)?;
        let read_only = directory.read_only(UNFINISHED)?;
        directory.supersede_old();
        directory.publish()?;
        let file = TableFile { mapping, read_only, _lock: lock, replaced, taken_over: false };
        Ok((file, table))
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

    /// Bytes of the table that this process has in large pages, as the kernel reports them now.
    #[must_use]
    pub fn large_page_bytes(&self) -> u64 {
        pages::large_bytes(&self.mapping)
    }

    /// Why the file that was there could not be used, if one was.
    #[must_use]
    pub fn replaced(&self) -> Option<&str> {
        self.replaced.as_deref()
    }

    /// Whether this is a table that an earlier daemon made.
    #[must_use]
    pub fn was_taken_over(&self) -> bool {
        self.taken_over
    }
}

/// S2 to S5 on a mapped file.
fn take_over(mapping: &Mapping, fingerprint: u64) -> Result<Table<MappedMut>, LayoutError> {
    // SAFETY: the mapping is page-aligned, lives as long as the `TableFile` beside the table, and
    // the lock makes this process the only one that writes.
    let memory = unsafe { MappedMut::new(mapping.base()) };
    // SAFETY: as above; the memory has the mapping's length.
    let writer = unsafe { Writer::take_over(memory, mapping.bytes() as u64) }?;
    let table = Table::take_over(writer, fingerprint);
    table.writer().open_for_readers();
    Ok(table)
}

struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    /// S1: a real directory that nobody else can put files into.
    fn open(path: &Path) -> Result<Directory, FileError> {
        if !path.exists() {
            let made = fs::DirBuilder::new();
            made.create(path).map_err(|source| FileError::System {
                what: "cannot make the directory",
                path: path.into(),
                source,
                advice: "make it, owned by the daemon's user with mode 0755",
            })?;
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .map_err(|source| system("cannot set the mode of", path, source))?;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let fd = open(path, flags, Mode::empty())
            .map_err(|source| system("cannot open the directory", path, source.into()))?;
        let stat = fstat(&fd).map_err(|source| system("cannot stat", path, source.into()))?;
        let refuse = |what: String| FileError::Directory {
            directory: path.into(),
            what,
            advice: "use a directory that only the daemon's user can write (mode 0755 or less)",
        };
        if stat.st_uid != Uid::effective().as_raw() {
            return Err(refuse(format!("belongs to user {}", stat.st_uid)));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(refuse(format!(
                "can be written by others (mode {:o})",
                stat.st_mode & 0o777
            )));
        }
        Ok(Directory { path: path.into(), fd })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn lock(&self) -> Result<Flock<fs::File>, FileError> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, LOCK, flags, Mode::from_bits_truncate(0o600))
            .map_err(|source| system("cannot open", &self.file(LOCK), source.into()))?;
        Flock::lock(fs::File::from(fd), FlockArg::LockExclusiveNonblock)
            .map_err(|_| FileError::Owned { directory: self.path.clone() })
    }

    /// The file that is there, when an owner of ours could have left it with this shape; the reason
    /// when it cannot be used.
    fn existing(&self, wanted: &Geometry) -> Result<Option<(OwnedFd, Mapping)>, String> {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match openat(&self.fd, TABLE, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(error) => return Err(format!("it cannot be opened: {error}")),
        };
        let stat = fstat(&fd).map_err(|error| error.to_string())?;
        sound(&stat)?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if bytes != wanted.identity().table_bytes {
            return Err(format!(
                "it has {bytes} bytes, the configuration asks for {}",
                wanted.identity().table_bytes
            ));
        }
        let mapping = map(&fd, bytes).map_err(|error| error.to_string())?;
        // SAFETY: page-aligned and mapped for the whole of this function.
        let memory = unsafe { MappedMut::new(mapping.base()) };
        // SAFETY: the mapping has `bytes` bytes.
        let found = unsafe { Identity::load(&memory, bytes) }.map_err(|error| error.to_string())?;
        if found.boot_id == [0; 2] || found.boot_id != wanted.identity().boot_id {
            return Err("it is of an earlier boot, or of one that cannot be told".into());
        }
        // SAFETY: a word of the header, which was checked to be there.
        let ceiling = unsafe { memory.load(VERSION_CEILING) };
        if ceiling > VERSIONS_END {
            return Err(format!("its version ceiling is damaged: {ceiling:#x}"));
        }
        let same_shape = Identity {
            table_id: found.table_id,
            hash_seed: found.hash_seed,
            epoch_ns: found.epoch_ns,
            ..*wanted.identity()
        };
        if found != same_shape {
            return Err("the configuration asks for another shape".into());
        }
        Ok(Some((fd, mapping)))
    }

    /// W1: made under another name, every page allocated, everything in place but the last word.
    fn create(
        &self,
        geometry: Geometry,
        options: &FileOptions,
    ) -> Result<(Mapping, Table<MappedMut>), FileError> {
        let bytes = geometry.identity().table_bytes;
        // A leftover of a start that was killed.
        let _ = unlinkat(&self.fd, UNFINISHED, UnlinkatFlags::NoRemoveDir);
        let path = self.file(UNFINISHED);
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, UNFINISHED, flags, Mode::from_bits_truncate(0o600))
            .map_err(|source| system("cannot create", &path, source.into()))?;
        let built = self.build(&fd, &path, bytes, geometry, options);
        if built.is_err() {
            let _ = ftruncate(&fd, 0);
            let _ = unlinkat(&self.fd, UNFINISHED, UnlinkatFlags::NoRemoveDir);
        }
        built
    }

    fn build(
        &self,
        fd: &OwnedFd,
        path: &Path,
        bytes: u64,
        geometry: Geometry,
        options: &FileOptions,
    ) -> Result<(Mapping, Table<MappedMut>), FileError> {
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        // Before: what a refused allocation has taken is not free again until the file is.
        let free = nix::sys::statvfs::fstatvfs(&self.fd)
            .map_or(0, |stat| stat.blocks_available().saturating_mul(stat.fragment_size()));
        match posix_fallocate(fd, 0, length) {
            Ok(()) => {}
            Err(nix::Error::ENOSPC) => {
                return Err(FileError::NoSpace { directory: self.path.clone(), bytes, free });
            }
            Err(source) => return Err(system("cannot allocate", path, source.into())),
        }
        let mapping = map(fd, bytes).map_err(|source| system("cannot map", path, source))?;
        // Before anybody reads it: a collapse under readers stalls them for milliseconds.
        pages::collapse(&mapping);
        // SAFETY: page-aligned, kept mapped beside the table; nobody else has the file yet.
        let memory = unsafe { MappedMut::new(mapping.base()) };
        // SAFETY: the mapping has the bytes of this geometry, all zero.
        let table = Table::new(unsafe { Writer::create(memory, geometry) });
        table.writer().set_policy_fingerprint(options.policy_fingerprint);
        self.set_access(fd, options)?;
        table.writer().open_for_readers();
        Ok((mapping, table))
    }

    fn set_access(&self, fd: &OwnedFd, options: &FileOptions) -> Result<(), FileError> {
        let path = self.file(TABLE);
        if let Some(group) = options.group {
            fchown(fd.as_fd(), None, Some(Gid::from_raw(group)))
                .map_err(|source| system("cannot set the group of", &path, source.into()))?;
        }
        fchmod(fd.as_fd(), Mode::from_bits_truncate(options.mode & 0o755))
            .map_err(|source| system("cannot set the mode of", &path, source.into()))
    }

    fn read_only(&self, name: &str) -> Result<OwnedFd, FileError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.fd, name, flags, Mode::empty())
            .map_err(|source| system("cannot open", &self.file(name), source.into()))
    }

    /// S2: whoever still reads the old table is sent to the new one, even where the rest of the old
    /// header is damaged.
    fn supersede_old(&self) {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(fd) = openat(&self.fd, TABLE, flags, Mode::empty()) else { return };
        let Ok(stat) = fstat(&fd) else { return };
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if sound(&stat).is_err() || bytes < HEADER_BYTES as u64 {
            return;
        }
        if let Ok(mapping) = map(&fd, HEADER_BYTES as u64) {
            // SAFETY: page-aligned and mapped; the lock makes this process the only writer.
            let memory = unsafe { MappedMut::new(mapping.base()) };
            // SAFETY: the state word is part of the header that is mapped.
            unsafe { shm_layout::write::supersede(&memory) };
        }
    }

    fn publish(&self) -> Result<(), FileError> {
        renameat(&self.fd, UNFINISHED, &self.fd, TABLE)
            .map_err(|source| system("cannot rename", &self.file(UNFINISHED), source.into()))
    }
}

/// S1: nobody but this user could have written the file.
fn sound(stat: &FileStat) -> Result<(), String> {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFREG {
        return Err("it is not a regular file".into());
    }
    if stat.st_uid != Uid::effective().as_raw() {
        return Err(format!("it belongs to user {}", stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(format!("others can write it (mode {:o})", stat.st_mode & 0o777));
    }
    Ok(())
}

fn map(fd: &OwnedFd, bytes: u64) -> io::Result<Mapping> {
    Mapping::of_file(fd, bytes, Access::Write)
}

fn system(what: &'static str, path: &Path, source: io::Error) -> FileError {
    let advice = match source.raw_os_error() {
        Some(nix::libc::EACCES | nix::libc::EPERM) => "run as the user who owns it",
        Some(nix::libc::ENOENT) => "make it first, or name another with --table-directory",
        _ => "see the system's message",
    };
    FileError::System { what, path: path.into(), source, advice }
}

/// The kernel's boot id; zero where it cannot be read: such a table is never taken over.
fn boot_id() -> [u64; 2] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |range: std::ops::Range<usize>| {
        digits.get(range).and_then(|part| u64::from_str_radix(part, 16).ok()).unwrap_or(0)
    };
    [half(0..16), half(16..32)]
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is 8 bytes long, as said.
    let got = unsafe { nix::libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    debug_assert_eq!(got, 8);
    u64::from_le_bytes(bytes)
}
