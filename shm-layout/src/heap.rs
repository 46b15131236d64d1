//! A table on the heap, for tests and examples.

use crate::geometry::Geometry;
use crate::memory::{Mapped, MappedMut};
use crate::receive::Destination;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::vec::Vec;

/// Zeroed memory of a table's size, aligned to a page.
#[derive(Debug)]
pub struct HeapTable {
    base: *mut u8,
    layout: Layout,
}

impl HeapTable {
    /// Memory for a table of this shape.
    ///
    /// # Panics
    /// If the memory cannot be allocated.
    #[must_use]
    pub fn new(geometry: &Geometry) -> HeapTable {
        let bytes = geometry.words() * crate::memory::WORD_BYTES;
        let layout = Layout::from_size_align(bytes, 4096).expect("a table is smaller than memory");
        // SAFETY: a checked table has a header, so the size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        HeapTable { base, layout }
    }

    /// Bytes of the table.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layout.size() as u64
    }

    /// The memory for a reader; valid as long as `self`.
    #[must_use]
    pub fn memory(&self) -> Mapped {
        // SAFETY: page-aligned, allocated until drop, reached only through `Mapped` and
        // `MappedMut`.
        unsafe { Mapped::new(self.base) }
    }

    /// The memory for the one writer; valid as long as `self`.
    #[must_use]
    pub fn memory_mut(&self) -> MappedMut {
        // SAFETY: as above.
        unsafe { MappedMut::new(self.base) }
    }

    /// The first byte, for a test that damages a table.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for HeapTable {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.base, self.layout) };
    }
}

// SAFETY: the memory is only reached through values that are Send and Sync themselves.
unsafe impl Send for HeapTable {}
// SAFETY: as above.
unsafe impl Sync for HeapTable {}

/// Collects a value in a vector.
#[derive(Debug, Default)]
pub struct VecDestination {
    value: Vec<u8>,
}

impl VecDestination {
    /// The bytes that the last read copied; meaningful only after a hit.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.value
    }
}

// SAFETY: the vector has `bytes` initialised bytes, borrowed exclusively.
unsafe impl Destination for VecDestination {
    fn room(&mut self, bytes: usize) -> *mut u8 {
        self.value.clear();
        self.value.resize(bytes, 0xee);
        self.value.as_mut_ptr()
    }
}
