//! Memory in which a stray access faults.

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use shm_layout::memory::words_for;
use shm_layout::{Mapped, MappedMut, Memory, MemoryMut};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

pub const PAGE: usize = 4096;

/// Zeroed memory between two inaccessible pages.
pub struct Guarded {
    first: NonNull<c_void>,
    bytes: usize,
}

impl Guarded {
    pub fn new(bytes: usize) -> Guarded {
        let bytes = bytes.next_multiple_of(PAGE);
        let all = NonZeroUsize::new(bytes + 2 * PAGE).unwrap();
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new private memory at an address chosen by the kernel.
        let first = unsafe { mmap_anonymous(None, all, access, MapFlags::MAP_PRIVATE) }.unwrap();
        for guard in [0, bytes + PAGE] {
            // SAFETY: both pages lie in the mapping.
            unsafe {
                let page = NonNull::new_unchecked(first.as_ptr().byte_add(guard));
                mprotect(page, PAGE, ProtFlags::PROT_NONE).unwrap();
            }
        }
        Guarded { first, bytes }
    }

    pub fn base(&self) -> *mut u8 {
        // SAFETY: after the first guard page, inside the mapping.
        unsafe { self.first.as_ptr().cast::<u8>().add(PAGE) }
    }

    pub fn memory(&self) -> Mapped {
        // SAFETY: page-aligned, mapped until drop, accessed only as words.
        unsafe { Mapped::new(self.base()) }
    }

    pub fn memory_mut(&self) -> MappedMut {
        // SAFETY: as above.
        unsafe { MappedMut::new(self.base()) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { munmap(self.first, self.bytes + 2 * PAGE) }.unwrap();
    }
}

/// The same memory with the traits' default implementations, without assembly.
#[derive(Clone)]
pub struct Plain(pub Mapped);

impl Memory for Plain {
    unsafe fn load(&self, index: usize) -> u64 {
        // SAFETY: passed on unchanged.
        unsafe { self.0.load(index) }
    }

    fn fence_acquire(&self) {
        self.0.fence_acquire();
    }
}

/// The same memory with its own code, which panics if an access would leave its first `words`
/// words: guard pages are only one page wide.
#[derive(Clone)]
pub struct Bounded<M = Mapped> {
    pub memory: M,
    pub words: usize,
}

impl<M> Bounded<M> {
    fn assert_inside(&self, from: usize, words: usize) {
        assert!(
            from.checked_add(words).is_some_and(|end| end <= self.words),
            "words {from} to {from} + {words} of {}",
            self.words
        );
    }
}

impl<M: Memory> Memory for Bounded<M> {
    unsafe fn load(&self, index: usize) -> u64 {
        self.assert_inside(index, 1);
        // SAFETY: passed on unchanged.
        unsafe { self.memory.load(index) }
    }

    fn fence_acquire(&self) {
        self.memory.fence_acquire();
    }

    unsafe fn match_tag(&self, bucket: usize, tag: u16) -> u32 {
        assert!(bucket.is_multiple_of(8));
        self.assert_inside(bucket, 8);
        // SAFETY: passed on unchanged.
        unsafe { self.memory.match_tag(bucket, tag) }
    }

    unsafe fn copy_out(&self, from: usize, to: *mut u8, bytes: usize) {
        self.assert_inside(from, words_for(bytes));
        // SAFETY: passed on unchanged.
        unsafe { self.memory.copy_out(from, to, bytes) }
    }

    unsafe fn equals(&self, from: usize, bytes: &[u8]) -> bool {
        self.assert_inside(from, words_for(bytes.len()));
        // SAFETY: passed on unchanged.
        unsafe { self.memory.equals(from, bytes) }
    }
}

impl MemoryMut for Bounded<MappedMut> {
    unsafe fn store(&self, index: usize, word: u64) {
        self.assert_inside(index, 1);
        // SAFETY: passed on unchanged.
        unsafe { self.memory.store(index, word) }
    }

    fn fence_release(&self) {
        self.memory.fence_release();
    }
}
