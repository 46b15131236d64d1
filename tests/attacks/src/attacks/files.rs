//! Files: the table through the descriptor that clients get, and everything that has a name.

use crate::attack::{Found, Target, errno, open};
use l1d_wire::mapping::{Access, Mapping};
use nix::errno::Errno::{EACCES, EBADF, EINVAL, EPERM, EXDEV};
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mprotect, munmap};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Pid, Uid, fchown, ftruncate, truncate, write};
use shm_layout::memory::WORD_BYTES;
use shm_layout::{Mapped, Memory};
use std::fs;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use test_support::posted::Posted;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Writes to the table by every way that a descriptor opens.
pub fn table(target: &Target, found: &mut Found) {
    let posted = Posted::attached(&target.socket);
    let table = &posted.table;
    let own = PathBuf::from(format!("/proc/self/fd/{}", table.as_raw_fd()));
    found.refused("write", write(table, b"x"), &[EBADF]);
    found.refused("truncate through the descriptor", ftruncate(table, 0), &[EINVAL, EBADF]);
    found.refused("truncate by its /proc path", truncate(&own, 0), &[EACCES]);
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    found.refused("punch a hole", fallocate(table, punch, 0, 4096), &[EBADF]);
    found.refused("reopen through /proc/self/fd", open(&own, true), &[EACCES]);
    let thread = format!("/proc/self/task/{}/fd/{}", nix::unistd::gettid(), table.as_raw_fd());
    found.refused("reopen through /proc/self/task", open(Path::new(&thread), true), &[EACCES]);
    let writable = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let map = |protection| {
        // SAFETY: a new mapping at an address that the kernel chooses.
        unsafe { mmap(None, PAGE, protection, MapFlags::MAP_SHARED, table, 0) }
    };
    found.refused("map for writing", map(writable), &[EACCES]);
    if let Ok(page) = map(ProtFlags::PROT_READ) {
        // SAFETY: the page is mapped, and nothing refers to its bytes.
        let outcome = unsafe { mprotect(page, PAGE.get(), writable) };
        found.refused("mprotect the mapping", outcome, &[EACCES]);
        for (what, advice) in [
            ("remove pages by madvise", MmapAdvise::MADV_REMOVE),
            ("page out by madvise", MmapAdvise::MADV_PAGEOUT),
        ] {
            // SAFETY: as above.
            let outcome = unsafe { madvise(page, PAGE.get(), advice) };
            match advice {
                MmapAdvise::MADV_REMOVE => found.refused(what, outcome, &[EACCES]),
                _ => found.harmless(what, outcome),
            }
        }
        // SAFETY: mapped above, and not used any more.
        let _ = unsafe { munmap(page, PAGE.get()) };
    }
    found.refused(
        "seal",
        fcntl(table, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)),
        &[EPERM, EINVAL],
    );
    found.refused("chmod", fchmod(table, Mode::from_bits_truncate(0o666)), &[EPERM]);
    found.refused("chown", fchown(table, Some(Uid::current()), None), &[EPERM]);
    found.refused("take a lease", lease(table), &[EACCES, EPERM]);
    found.refused("a lock for writing, by fcntl", lock(table, libc::F_WRLCK), &[EBADF]);
    found.harmless("a lock for reading, by fcntl", lock(table, libc::F_RDLCK));
    // SAFETY: the descriptor is open.
    let locked = unsafe { libc::flock(table.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    found.harmless("an exclusive flock", nix::errno::Errno::result(locked));
    let daemon = Pid::from_raw(target.pid);
    let memory = PathBuf::from(format!("/proc/{daemon}/mem"));
    found.refused("open the daemon's memory", open(&memory, false), &[EACCES, EPERM]);
    let descriptors = errno(fs::read_dir(format!("/proc/{daemon}/fd")));
    found.refused("list the daemon's descriptors", descriptors, &[EACCES]);
    found.refused("trace the daemon", nix::sys::ptrace::attach(daemon), &[EPERM]);
    found.refused("signal the daemon", nix::sys::signal::kill(daemon, Signal::SIGSTOP), &[EPERM]);
    touch_everything(table, found);
    found.repeats = 1;
    target.wait();
}

/// Reads every page. Where the file had a hole, that would take memory.
fn touch_everything(table: &OwnedFd, found: &mut Found) {
    let blocks = || fstat(table).map(|found| found.st_blocks);
    let Ok(bytes) = fstat(table).map(|found| u64::try_from(found.st_size).unwrap_or(0)) else {
        return found.expects(false, "the table cannot be looked at");
    };
    let before = blocks();
    let Ok(mapping) = Mapping::of_file(table, bytes, Access::Read) else {
        return found.expects(false, "the table cannot be mapped");
    };
    // SAFETY: page-aligned, and mapped for the rest of this function.
    let memory = unsafe { Mapped::new(mapping.base()) };
    for word in (0..mapping.bytes() / WORD_BYTES).step_by(PAGE.get() / WORD_BYTES) {
        // SAFETY: below the number of words of the mapping.
        std::hint::black_box(unsafe { memory.load(word) });
    }
    found.expects(blocks() == before, "reading all of the table took memory");
    found.says(format!("read all {bytes} bytes: no page more in use"));
}

fn lock(file: &OwnedFd, kind: i32) -> nix::Result<i32> {
    let lock = libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or(0),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock))
}

fn lease(file: &OwnedFd) -> nix::Result<i32> {
    // SAFETY: the descriptor is open; the argument is a number.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    nix::errno::Errno::result(taken)
}

/// Everything with a name, by a process that may not connect.
pub fn stranger(target: &Target, found: &mut Found) {
    let connect = |path: &Path| errno(UnixStream::connect(path));
    found.refused("connect to the control socket", connect(&target.socket), &[EACCES]);
    found.refused("connect to the status socket", connect(&target.status), &[EACCES]);
    found.refused("read the table", open(&target.table(), false), &[EACCES]);
    let lock = target.socket.with_file_name("l1d.sock.lock");
    let status_lock = target.socket.with_file_name("l1d-status.sock.lock");
    for (what, path) in [
        ("the table", target.table()),
        ("the table's lock", target.tables.join("lock")),
        ("the socket's lock", lock.clone()),
        ("the status socket's lock", status_lock),
    ] {
        // A socket of a service manager has no lock.
        if !path.exists() {
            continue;
        }
        found.refused(&format!("write {what}"), open(&path, true), &[EACCES]);
    }
    for path in [target.tables.join("table.new"), target.socket.with_file_name("new")] {
        let name = path.display();
        found.refused(&format!("make {name}"), errno(fs::File::create(&path)), &[EACCES]);
        let linked = errno(std::os::unix::fs::symlink("/etc/passwd", &path));
        found.refused(&format!("a symbolic link {name}"), linked, &[EACCES]);
    }
    for path in [target.table(), target.socket.clone(), target.status.clone(), lock] {
        if !path.exists() {
            continue;
        }
        let name = path.display();
        found.refused(&format!("remove {name}"), errno(fs::remove_file(&path)), &[EACCES, EPERM]);
        let renamed = errno(fs::rename(&path, path.with_file_name("moved")));
        found.refused(&format!("rename {name}"), renamed, &[EACCES, EPERM]);
        // Elsewhere on the same file system, where everybody may make names.
        let elsewhere = elsewhere(&path);
        let linked = errno(fs::hard_link(&path, &elsewhere));
        if linked.is_ok() {
            let _ = fs::remove_file(&elsewhere);
        }
        // Without fs.protected_hardlinks it gives a name to a file that can be opened no more than
        // before, and keeps the file's memory in use.
        match fs::read_to_string("/proc/sys/fs/protected_hardlinks").as_deref() {
            Ok("0\n") => found.harmless(&format!("a hard link to {name}"), linked),
            _ => found.refused(&format!("a hard link to {name}"), linked, &[EPERM, EACCES, EXDEV]),
        }
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    if let Ok(directory) = nix::fcntl::open(&target.tables, flags, Mode::empty()) {
        found.harmless("lock the table's directory", lock_directory(&directory));
    }
    found.repeats = 1;
    target.wait();
}

fn lock_directory(directory: &OwnedFd) -> nix::Result<i32> {
    // SAFETY: the descriptor is open.
    let locked = unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    nix::errno::Errno::result(locked)
}

/// A name in the world's directory of the file system that `path` is on.
fn elsewhere(path: &Path) -> PathBuf {
    let is_shared = path.starts_with("/dev/shm");
    let parent = if is_shared { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    parent.join(format!("l1d-attacks-link-{}", std::process::id()))
}
