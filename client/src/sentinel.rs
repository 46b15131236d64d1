//! State that a forked child must not share (R9).
//!
//! Sockets, locks and caches of a process are of no use to its forked child: two processes would
//! read each other's answers from one socket, and a lock that another thread held at the fork stays
//! locked forever. The child has to notice, in every call, without a system call.
//!
//! The only pointer to such state lies in a page that the kernel wipes in a child
//! (MADV_WIPEONFORK). One load gives either this process's state or, in a new child, nothing; the
//! child then makes its own. What the parent made is never reached again in the child: it stays
//! allocated there (its sockets stay open too), because giving it back would need the very locks
//! that must not be touched. After vfork and with CLONE_VM the memory is one and so is the state.

use crate::error::Error;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Whole pages of every size in use; only the first word is used.
const PAGE_BYTES: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// One `T` in each process, made when it is first asked for.
pub(crate) struct PerProcess<T> {
    page: NonNull<AtomicPtr<T>>,
    owns: PhantomData<T>,
}

// SAFETY: hands out `&T` to any thread and drops the `T` in any thread, as a shared `Box<T>` would.
unsafe impl<T: Send + Sync> Send for PerProcess<T> {}
// SAFETY: as above; the pointer is an atomic.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}

impl<T> PerProcess<T> {
    pub(crate) fn new() -> Result<PerProcess<T>, Error> {
        // SAFETY: a new anonymous mapping touches no memory that is in use.
        let page = unsafe {
            mmap_anonymous(
                None,
                PAGE_BYTES,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )
        }
        .map_err(|errno| Error::system("reserving memory for the client", errno))?;
        let state = PerProcess { page: page.cast(), owns: PhantomData };
        // SAFETY: the range is the mapping just made.
        unsafe { madvise(page, PAGE_BYTES.get(), MmapAdvise::MADV_WIPEONFORK) }
            .map_err(|errno| Error::system("preparing the client's memory for fork", errno))?;
        Ok(state)
    }

    fn pointer(&self) -> &AtomicPtr<T> {
        // SAFETY: the page stays mapped as long as `self` lives, is aligned to a page, and the zero
        // bytes that it begins with, or is wiped to, are a null `AtomicPtr`.
        unsafe { self.page.as_ref() }
    }

    /// This process's `T`.
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        // Acquire here and Release below: a thread that sees the pointer sees the value.
        let present = self.pointer().load(Ordering::Acquire);
        let made = match NonNull::new(present) {
            Some(present) => present,
            None => offer(self.pointer(), Box::new(make())),
        };
        // SAFETY: made from a Box by `offer` in this process (a child sees null instead), and
        // dropped only with `self`.
        unsafe { made.as_ref() }
    }

    /// This process's `T`, if there is one yet.
    pub(crate) fn get(&self) -> Option<&T> {
        let present = NonNull::new(self.pointer().load(Ordering::Acquire))?;
        // SAFETY: as in `get_or_make`.
        Some(unsafe { present.as_ref() })
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if let Some(made) = NonNull::new(self.pointer().load(Ordering::Acquire)) {
            // SAFETY: made from a Box in this process, and `&mut self` proves that it is not in
            // use.
            drop(unsafe { Box::from_raw(made.as_ptr()) });
        }
        // SAFETY: the mapping made in `new`, not used from here on. It cannot fail for a whole
        // mapping, and nothing could be done if it did.
        let _ = unsafe { munmap(self.page.cast(), PAGE_BYTES.get()) };
    }
}

/// Puts `made` in place, unless another thread was first: then that one's is taken.
fn offer<T>(place: &AtomicPtr<T>, made: Box<T>) -> NonNull<T> {
    let made = NonNull::from(Box::leak(made));
    let (none, ours) = (ptr::null_mut(), made.as_ptr());
    let offered = place.compare_exchange(none, ours, Ordering::AcqRel, Ordering::Acquire);
    match offered.err().and_then(NonNull::new) {
        None => made,
        Some(first) => {
            // SAFETY: leaked from a Box above, and no other thread has seen it.
            drop(unsafe { Box::from_raw(made.as_ptr()) });
            first
        }
    }
}

/// A process, told from its parent and its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessMark(usize);

impl ProcessMark {
    /// That of this process: an address that no other one that descends from it has. Two loads, and
    /// no lock, which another thread could hold at a fork.
    pub(crate) fn own() -> ProcessMark {
        static MARKS: AtomicPtr<PerProcess<u8>> = AtomicPtr::new(ptr::null_mut());
        let marks = match NonNull::new(MARKS.load(Ordering::Acquire)) {
            Some(marks) => marks,
            None => match PerProcess::new() {
                Ok(made) => offer(&MARKS, Box::new(made)),
                // Without memory for it, no process is told from another.
                Err(_) => return ProcessMark(0),
            },
        };
        // SAFETY: made from a Box by `offer`, and never dropped.
        let own = unsafe { marks.as_ref() }.get_or_make(|| 0);
        ProcessMark(ptr::from_ref(own).addr())
    }

    /// Whether this is still the process that has it.
    pub(crate) fn is_own(self) -> bool {
        self == ProcessMark::own()
    }
}
