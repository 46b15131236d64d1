//! Bytes objects that values are copied into.

use l1d_client::{Destination, Meta};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::slice;

/// A new bytes object, which a value is read straight into.
pub(crate) struct NewBytes<'py> {
    /// Null, or a bytes object that nobody else has.
    object: *mut ffi::PyObject,
    py: Python<'py>,
}

impl<'py> NewBytes<'py> {
    #[inline(always)]
    pub(crate) fn new(py: Python<'py>) -> NewBytes<'py> {
        NewBytes { object: null_mut(), py }
    }

    /// The object, after a read that found a value; null before.
    #[inline(always)]
    pub(crate) fn into_ptr(mut self) -> *mut ffi::PyObject {
        std::mem::replace(&mut self.object, null_mut())
    }

    /// The object as one of pyo3's.
    ///
    /// # Errors
    /// There is none: memory has run out.
    pub(crate) fn into_bound(self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        // SAFETY: null with Python's error set, or a reference that this hands over.
        unsafe { Bound::from_owned_ptr_or_err(py, self.into_ptr()) }
    }
}

impl Destination for NewBytes<'_> {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]> {
        if !self.object.is_null() {
            // SAFETY: a reference of its own, which is given up.
            unsafe { ffi::Py_DECREF(std::mem::replace(&mut self.object, null_mut())) };
        }
        let size = ffi::Py_ssize_t::try_from(bytes).ok()?;
        // SAFETY: without a source, Python makes an object of so many bytes and leaves them as they
        // are. Until it is given out they may be written, as nobody else has the object.
        unsafe {
            self.object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
            if self.object.is_null() {
                // The read may be tried again, and then find nothing.
                ffi::PyErr_Clear();
                return None;
            }
            let start = ffi::PyBytes_AsString(self.object).cast::<MaybeUninit<u8>>();
            Some(slice::from_raw_parts_mut(start, bytes))
        }
    }

    #[inline(always)]
    unsafe fn filled(&mut self, _bytes: usize) {}
}

impl Drop for NewBytes<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.object.is_null() {
            // SAFETY: a reference of its own; `py` says that the interpreter is attached.
            unsafe { ffi::Py_DECREF(self.object) };
        }
    }
}

/// A place in a new list, for the value of one of several keys.
pub(crate) struct Place<'py> {
    bytes: NewBytes<'py>,
    list: *mut ffi::PyObject,
    index: ffi::Py_ssize_t,
    /// The list has the value.
    pub(crate) is_filled: bool,
}

impl<'py> Place<'py> {
    /// Place `index` of a list of more objects than that, which must outlive this.
    #[inline(always)]
    pub(crate) fn of(list: &Bound<'py, PyList>, index: usize) -> Place<'py> {
        let index = ffi::Py_ssize_t::try_from(index).unwrap_or(ffi::Py_ssize_t::MAX);
        let bytes = NewBytes::new(list.py());
        Place { bytes, list: list.as_ptr(), index, is_filled: false }
    }
}

impl Destination for Place<'_> {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]> {
        self.bytes.room(bytes)
    }

    #[inline(always)]
    unsafe fn filled(&mut self, _bytes: usize) {}

    #[inline(always)]
    fn found(&mut self, _meta: &Meta) {
        let value = std::mem::replace(&mut self.bytes.object, null_mut());
        // SAFETY: `Place::of` was given the list, which takes over the reference to the value; the
        // interpreter is attached, as `bytes` says.
        self.is_filled = unsafe { ffi::PyList_SetItem(self.list, self.index, value) } == 0;
    }
}

/// The value of one of several keys: a bytes object once a read has filled it.
pub(crate) struct Filled<'py> {
    bytes: NewBytes<'py>,
    meta: Option<Meta>,
}

impl<'py> Filled<'py> {
    #[inline(always)]
    pub(crate) fn new(py: Python<'py>) -> Filled<'py> {
        Filled { bytes: NewBytes::new(py), meta: None }
    }

    /// The object and its metadata, if a value was found.
    #[inline(always)]
    pub(crate) fn found(self) -> Option<(Bound<'py, PyAny>, Meta)> {
        let meta = self.meta?;
        Some((self.bytes.into_bound().ok()?, meta))
    }
}

impl Destination for Filled<'_> {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]> {
        self.bytes.room(bytes)
    }

    #[inline(always)]
    unsafe fn filled(&mut self, _bytes: usize) {}

    #[inline(always)]
    fn found(&mut self, meta: &Meta) {
        self.meta = Some(*meta);
    }
}

/// A bytes object with this content.
pub(crate) fn bytes<'py>(py: Python<'py>, content: &[u8]) -> Bound<'py, PyAny> {
    pyo3::types::PyBytes::new(py, content).into_any()
}
