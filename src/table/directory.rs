//! The table's directory: permissions, the lock, finding and making files (W1, W6, S1, S2).

use super::epoch::END_NS;
use super::file::{FileError, FileOptions, TableFile, system};
use super::pages::{self, Allocator};
use crate::clock::boottime_ns;
use l1d_wire::mapping::{Access, Mapping, hugetlb_page_bytes};
use l1d_wire::words;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, posix_fallocate, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, ftruncate, unlinkat};
use shm_layout::fault_point;
use shm_layout::header::{HEADER_BYTES, Identity, STATE, USABLE_SEGMENTS, VERSION_CEILING};
use shm_layout::memory::WORD_BYTES;
use shm_layout::{Geometry, MappedMut, Memory};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// Name of the table in its directory.
const TABLE: &str = "table";
/// A table is built under this name and renamed when it is complete.
const UNFINISHED: &str = "table.new";
/// A file with fewer bytes has no word of state.
const STATE_BYTES: u64 = ((STATE + 1) * WORD_BYTES) as u64;
/// The numbers of the policy's rules in the table, and the name under which they are written.
const NUMBERS: &str = "policy-numbers";
const NUMBERS_UNFINISHED: &str = "policy-numbers.new";
/// More than 256 rules take.
const NUMBERS_BYTES_MAX: u64 = 1 << 20;
/// No table reaches this version: at 10 million a second it would take 20,000 years.
const VERSIONS_END: u64 = 1 << 63;
/// The year 2020, in nanoseconds: a clock that says less is not set.
const CLOCK_MIN: u64 = 1_577_836_800_000_000_000;
/// The daemon that holds the lock on this file owns the table. The table itself is not locked,
/// because a reader could lock it through its read-only descriptor.
const LOCK: &str = "lock";

/// A directory in which only this process makes tables (W6).
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fd: OwnedFd,
    /// Held until the process ends.
    _lock: Flock<fs::File>,
}

impl Directory {
    /// Opens and locks the directory (S1): a real directory that no other user can write and in
    /// which no other daemon makes tables.
    ///
    /// # Errors
    /// An unsafe directory, or another daemon that has the lock.
    pub fn open(path: &Path) -> Result<Directory, FileError> {
        if !path.exists() {
            let made = fs::DirBuilder::new();
            made.create(path).map_err(|source| cannot_make(path, source))?;
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .map_err(|source| system("cannot set the mode of", path, source))?;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let fd = open(path, flags, Mode::empty())
            .map_err(|source| system("cannot open the directory", path, source.into()))?;
        let stat = fstat(&fd).map_err(|source| system("cannot look at", path, source.into()))?;
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
        let lock = lock(&fd, path)?;
        let directory = Directory { path: path.into(), fd, _lock: lock };
        // Left by a daemon that was killed while it made a table.
        directory.remove_unfinished();
        Ok(directory)
    }

    /// Whether files here consist of huge pages that were reserved before.
    pub(super) fn is_hugetlbfs(&self) -> bool {
        hugetlb_page_bytes(&self.fd).is_some()
    }

    /// `bytes` rounded up to what a file in this directory has: on a hugetlbfs, whole pages.
    pub(super) fn whole_pages(&self, bytes: u64) -> u64 {
        pages::whole_pages(&self.fd, bytes)
    }

    /// Path of the table.
    pub(super) fn table(&self) -> PathBuf {
        self.file(TABLE)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The file beside the table that [`write_numbers`](Self::write_numbers) has written.
    pub(super) fn read_numbers(&self) -> io::Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, NUMBERS, flags, Mode::empty())?;
        sound(&fstat(&fd)?).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        fs::File::from(fd).take(NUMBERS_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Replaces that file at once. It needs no fsync: it lives as long as the table, which is in
    /// memory, too.
    pub(super) fn write_numbers(&self, bytes: &[u8]) -> io::Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // Left by a daemon that was killed; usually there is none.
        let _ = unlinkat(&self.fd, NUMBERS_UNFINISHED, UnlinkatFlags::NoRemoveDir);
        let mode = Mode::from_bits_truncate(0o600);
        let fd = openat(&self.fd, NUMBERS_UNFINISHED, flags, mode)?;
        fault_point!("numbers.write");
        fs::File::from(fd).write_all(bytes)?;
        fault_point!("numbers.rename");
        Ok(renameat(&self.fd, NUMBERS_UNFINISHED, &self.fd, NUMBERS)?)
    }

    /// The existing file and its identity, if an owner of this user could have left it since this
    /// boot; otherwise the reason why it cannot be used.
    pub(super) fn existing(
        &self,
        options: &FileOptions,
    ) -> Result<Option<(TableFile, Identity)>, String> {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match openat(&self.fd, TABLE, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(error) => return Err(format!("it cannot be opened: {}", error.desc())),
        };
        let stat =
            fstat(&fd).map_err(|error| format!("it cannot be looked at: {}", error.desc()))?;
        sound(&stat)?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if bytes < HEADER_BYTES as u64 {
            return Err(format!("it has {bytes} bytes, less than a header"));
        }
        let mapping = map(&fd, bytes)
            .map_err(|error| format!("it cannot be mapped: {}", words::of(&error)))?;
        // SAFETY: page-aligned and mapped for the whole of this function.
        let memory = unsafe { MappedMut::new(mapping.base()) };
        // SAFETY: the mapping has `bytes` bytes, more than a header.
        let (found, prepared) = unsafe { sound_header(&memory, bytes) }?;
        pages::enter_large(&mapping, prepared);
        self.set_access(&fd, options).map_err(|error| error.to_string())?;
        let read_only = self.read_only(TABLE).map_err(|error| error.to_string())?;
        Ok(Some((TableFile::new(Arc::new(mapping), Arc::new(fd), read_only), found)))
    }

    /// Makes a zeroed file of `bytes` bytes under another name, and allocates the first `first` of
    /// them (W1); on a hugetlbfs, all. Slow: the kernel must clear the memory.
    pub(super) fn create(
        &self,
        bytes: u64,
        first: u64,
        options: &FileOptions,
    ) -> Result<TableFile, FileError> {
        self.remove_unfinished();
        let path = self.file(UNFINISHED);
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, UNFINISHED, flags, Mode::from_bits_truncate(0o600))
            .map_err(|source| system("cannot create", &path, source.into()))?;
        let fd = Arc::new(fd);
        let built = self.build(&fd, &path, (bytes, first), options);
        if built.is_err() {
            let _ = ftruncate(&*fd, 0);
            self.remove_unfinished();
        }
        built
    }

    /// Removes the file that [`create`](Self::create) makes.
    pub(super) fn remove_unfinished(&self) {
        // Usually there is none.
        let _ = unlinkat(&self.fd, UNFINISHED, UnlinkatFlags::NoRemoveDir);
    }

    fn build(
        &self,
        fd: &Arc<OwnedFd>,
        path: &Path,
        (bytes, first): (u64, u64),
        options: &FileOptions,
    ) -> Result<TableFile, FileError> {
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        let free = pages::free_bytes(&self.fd);
        let no_space = || {
            let free = free.unwrap_or(0);
            let error = FileError::NoSpace { directory: self.path.clone(), bytes, free };
            pages::shortage(&self.fd, &self.path, bytes).unwrap_or(error)
        };
        if free.is_some_and(|free| free < bytes) {
            return Err(no_space());
        }
        let failed = |errno| match errno {
            nix::Error::ENOSPC => no_space(),
            errno => system("cannot allocate", path, errno.into()),
        };
        if self.is_hugetlbfs() {
            // Mapping it would reserve the pages.
            posix_fallocate(&**fd, 0, length).map_err(failed)?;
        } else {
            ftruncate(&**fd, length).map_err(failed)?;
        }
        let mapping = map(fd, bytes).map_err(|source| system("cannot map", path, source))?;
        let mapping = Arc::new(mapping);
        let mut allocator = Allocator::new(fd.clone(), mapping.clone(), 0);
        allocator.allocate(first, || true).map_err(failed)?;
        self.set_access(fd, options)?;
        Ok(TableFile::new(mapping, fd.clone(), self.read_only(UNFINISHED)?))
    }

    fn set_access(&self, fd: &OwnedFd, options: &FileOptions) -> Result<(), FileError> {
        let path = self.file(TABLE);
        let given = fstat(fd.as_fd())
            .map_err(|source| system("cannot look at", &path, source.into()))?
            .st_gid;
        // Otherwise no call, which the unit of systemd would refuse.
        if let Some(group) = options.group.filter(|group| *group != given) {
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

    /// S9: sends the readers of the old table away, whatever is wrong with it, as long as it is a
    /// file of ours that has a word of state. That word stands at the same place in every layout.
    pub(super) fn supersede_existing(&self) {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let Ok(fd) = openat(&self.fd, TABLE, flags, Mode::empty()) else { return };
        let Ok(stat) = fstat(&fd) else { return };
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if sound(&stat).is_err() || bytes < STATE_BYTES {
            return;
        }
        if let Ok(mapping) = map(&fd, bytes.min(HEADER_BYTES as u64)) {
            // SAFETY: page-aligned and mapped; the lock makes this process the only writer.
            let memory = unsafe { MappedMut::new(mapping.base()) };
            fault_point!("former.supersede");
            // SAFETY: the state word is part of the bytes that are mapped.
            unsafe { shm_layout::write::supersede(&memory) };
        }
    }

    /// A version that no earlier table has given out, nor any before it: the time in nanoseconds,
    /// which runs faster than versions are given out, or the ceiling of the table at hand, if the
    /// clock was set back.
    pub(super) fn version_to_begin_after(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_nanos()).unwrap_or(0);
        // Whatever else stands there is damaged.
        let is_sound = |ceiling: &u64| *ceiling <= now.max(CLOCK_MIN).saturating_mul(2);
        self.former_ceiling().filter(is_sound).map_or(now, |ceiling| ceiling.max(now))
    }

    fn former_ceiling(&self) -> Option<u64> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = fs::File::from(openat(&self.fd, TABLE, flags, Mode::empty()).ok()?);
        sound(&fstat(&file).ok()?).ok()?;
        let mut word = [0; WORD_BYTES];
        file.read_exact_at(&mut word, (VERSION_CEILING * WORD_BYTES) as u64).ok()?;
        Some(u64::from_le_bytes(word))
    }

    /// Renames the file that [`create`](Self::create) has made to the table's name.
    pub(super) fn publish(&self) -> Result<(), FileError> {
        renameat(&self.fd, UNFINISHED, &self.fd, TABLE)
            .map_err(|source| system("cannot rename", &self.file(UNFINISHED), source.into()))
    }
}

fn cannot_make(path: &Path, source: io::Error) -> FileError {
    let what = "cannot make the directory";
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => FileError::System {
            what,
            path: path.into(),
            source,
            advice: "make it, owned by the daemon's user with mode 0755",
        },
        _ => system(what, path, source),
    }
}

fn lock(directory: &OwnedFd, path: &Path) -> Result<Flock<fs::File>, FileError> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(directory, LOCK, flags, Mode::from_bits_truncate(0o600))
        .map_err(|source| system("cannot open", &path.join(LOCK), source.into()))?;
    let locked = Flock::lock(fs::File::from(fd), FlockArg::LockExclusiveNonblock);
    locked.map_err(|(_, errno)| match errno {
        nix::Error::EWOULDBLOCK => FileError::Owned { directory: path.into() },
        errno => system("cannot lock", &path.join(LOCK), errno.into()),
    })
}

/// S1: no other user could have written the file.
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

/// Reads the header of a table that an earlier daemon of this boot has left: its identity, and the
/// bytes of it that have memory.
///
/// # Errors
/// The reason why the table cannot be taken over.
///
/// # Safety
/// `memory` has `bytes` bytes, and at least those of a header.
pub(super) unsafe fn sound_header(
    memory: &impl Memory,
    bytes: u64,
) -> Result<(Identity, u64), String> {
    // SAFETY: passed on unchanged.
    let found = unsafe { Identity::load(memory, bytes) }.map_err(|error| error.to_string())?;
    if found.boot_id == [0; 2] || found.boot_id != boot_id() {
        return Err("it was made before the last boot, or under an unknown boot id".into());
    }
    // Wrapping: an epoch that is still to come is as wrong as one that is too long ago.
    if boottime_ns().wrapping_sub(found.epoch_ns) >= END_NS {
        return Err("its clock has ended, so nothing in it that expires can be read".into());
    }
    // SAFETY: a word of the header, which is there.
    let ceiling = unsafe { memory.load(VERSION_CEILING) };
    if ceiling > VERSIONS_END {
        return Err(format!("its version ceiling is damaged: {ceiling:#x}"));
    }
    let geometry = Geometry::check(found).map_err(|error| error.to_string())?;
    // SAFETY: as above.
    let usable = unsafe { memory.load(USABLE_SEGMENTS) };
    if usable > u64::from(geometry.segment_count()) {
        return Err(format!("its number of usable segments is damaged: {usable:#x}"));
    }
    Ok((found, geometry.bytes_up_to(geometry.usable(usable))))
}

/// The kernel's boot id; zero if it cannot be read. A table with a zero boot id is never taken
/// over.
pub(super) fn boot_id() -> [u64; 2] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |range: std::ops::Range<usize>| {
        digits.get(range).and_then(|part| u64::from_str_radix(part, 16).ok()).unwrap_or(0)
    };
    [half(0..16), half(16..32)]
}
