//! Keys: bytes or str, behind the client's prefix.

use crate::many::key_list;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::slice;

/// Longer keys are joined with their prefix on the heap.
const JOINED_BYTES: usize = 512;

/// The bytes of a key, which is bytes or str; of str its UTF-8.
///
/// # Errors
/// `TypeError` for another type, `UnicodeEncodeError` for a str that has no UTF-8.
#[inline(always)]
pub(crate) fn bytes_of<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    // SAFETY: `key` is an object that lives for 'a, and the interpreter is attached.
    unsafe { raw_bytes_of(key.as_ptr()) }.map_err(|Failed| {
        PyErr::take(key.py()).unwrap_or_else(|| {
            let kind = key.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            PyTypeError::new_err(format!("a key is bytes or str, not {kind}"))
        })
    })
}

/// The key has no bytes. Python's error is set where it has one to tell.
struct Failed;

/// # Safety
/// `key` is an object that lives for 'a, and the interpreter is attached.
#[inline(always)]
unsafe fn raw_bytes_of<'a>(key: *mut ffi::PyObject) -> Result<&'a [u8], Failed> {
    // SAFETY: the caller's; the addresses of types are only compared. A str or bytes object does
    // not change, and keeps the bytes that these functions return for as long as it lives.
    unsafe {
        let kind = ffi::Py_TYPE(key);
        // The types themselves first: the checks for their subclasses are calls.
        let is_str = kind == &raw mut ffi::PyUnicode_Type;
        if !is_str && (kind == &raw mut ffi::PyBytes_Type || ffi::PyBytes_Check(key) != 0) {
            let (mut bytes, mut size) = (null_mut(), 0);
            ffi::PyBytes_AsStringAndSize(key, &raw mut bytes, &raw mut size);
            return part(bytes.cast(), size);
        }
        if is_str || ffi::PyUnicode_Check(key) != 0 {
            let mut size = 0;
            let bytes = ffi::PyUnicode_AsUTF8AndSize(key, &raw mut size);
            return part(bytes.cast(), size);
        }
    }
    Err(Failed)
}

/// # Safety
/// `bytes` is null or has `size` bytes that do not change for 'a.
#[inline(always)]
unsafe fn part<'a>(bytes: *const u8, size: ffi::Py_ssize_t) -> Result<&'a [u8], Failed> {
    match usize::try_from(size) {
        // SAFETY: the caller's.
        Ok(size) if !bytes.is_null() => Ok(unsafe { slice::from_raw_parts(bytes, size) }),
        _ => Err(Failed),
    }
}

/// Calls `act` with the key behind the prefix.
#[inline(always)]
pub(crate) fn with_prefix<R>(prefix: &[u8], key: &[u8], act: impl FnOnce(&[u8]) -> R) -> R {
    // In one place for both kinds of keys, so that `act` becomes part of the caller.
    act(Joined::new().join(prefix, key))
}

/// Room for a key behind its prefix.
struct Joined {
    short: [MaybeUninit<u8>; JOINED_BYTES],
    long: Vec<u8>,
}

impl Joined {
    #[inline(always)]
    const fn new() -> Joined {
        Joined { short: [MaybeUninit::uninit(); JOINED_BYTES], long: Vec::new() }
    }

    /// The key behind the prefix.
    #[inline(always)]
    fn join<'a>(&'a mut self, prefix: &[u8], key: &'a [u8]) -> &'a [u8] {
        if prefix.is_empty() { key } else { self.join_two(prefix, key) }
    }

    #[inline(never)]
    fn join_two(&mut self, prefix: &[u8], key: &[u8]) -> &[u8] {
        let bytes = prefix.len() + key.len();
        if bytes > JOINED_BYTES {
            self.long = [prefix, key].concat();
            return &self.long;
        }
        let start = self.short.as_mut_ptr().cast::<u8>();
        // SAFETY: both parts fit into the array, which they do not overlap, and its first `bytes`
        // bytes are then initialised.
        unsafe {
            start.copy_from_nonoverlapping(prefix.as_ptr(), prefix.len());
            start.add(prefix.len()).copy_from_nonoverlapping(key.as_ptr(), key.len());
            slice::from_raw_parts(start, bytes)
        }
    }
}

/// The key behind the prefix, as bytes that outlive a call.
///
/// # Errors
/// As [`bytes_of`].
pub(crate) fn owned(prefix: &[u8], key: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    Ok([prefix, bytes_of(key)?].concat())
}

/// The keys of a call for several.
pub(crate) struct Keys<'py> {
    pub(crate) objects: Vec<Bound<'py, PyAny>>,
    /// With their prefix, one after the other, and where each ends; empty without a prefix.
    joined: Vec<u8>,
    ends: Vec<usize>,
}

impl<'py> Keys<'py> {
    /// # Errors
    /// `TypeError` for a single key, whose letters are meant by nobody, and for what is no iterable.
    pub(crate) fn of(prefix: &[u8], keys: &Bound<'py, PyAny>) -> PyResult<Keys<'py>> {
        let objects = key_list(keys)?.iter().collect();
        Keys::of_objects(prefix, objects)
    }

    /// # Errors
    /// As [`bytes_of`].
    pub(crate) fn of_objects(
        prefix: &[u8],
        objects: Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Keys<'py>> {
        let mut keys = Keys { objects, joined: Vec::new(), ends: Vec::new() };
        if !prefix.is_empty() {
            for key in &keys.objects {
                keys.joined.extend_from_slice(prefix);
                keys.joined.extend_from_slice(bytes_of(key)?);
                keys.ends.push(keys.joined.len());
            }
        }
        Ok(keys)
    }

    /// The bytes of each.
    ///
    /// # Errors
    /// As [`bytes_of`].
    #[inline]
    pub(crate) fn slices(&self) -> PyResult<Vec<&[u8]>> {
        if self.ends.is_empty() {
            return self.objects.iter().map(bytes_of).collect();
        }
        let begins = std::iter::once(&0).chain(&self.ends);
        let part = |(&begin, &end)| self.joined.get(begin..end).unwrap_or_default();
        Ok(begins.zip(&self.ends).map(part).collect())
    }
}

/// Sets Python's error and returns null, as C functions of Python fail.
#[cold]
pub(crate) fn fail(py: Python<'_>, error: PyErr) -> *mut ffi::PyObject {
    error.restore(py);
    null_mut()
}
