//! `get_many`: the values of several keys, straight into a list.

use crate::client::Client;
use crate::errors::OrRaise;
use crate::key::bytes_of;
use crate::object::{Place, bytes};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use pyo3::{Borrowed, ffi};

/// Keys that are read from the table at a time.
const CHUNK: usize = 16;
/// The keys of a call for several: the list itself, or a new one.
///
/// # Errors
/// `TypeError` for a single key, whose letters are meant by nobody, and for what is no iterable.
pub(crate) fn key_list<'py>(keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    if let Ok(list) = keys.cast_exact::<PyList>() {
        return Ok(list.clone());
    }
    if keys.is_instance_of::<PyString>() || keys.is_instance_of::<PyBytes>() {
        let text = "several keys are expected, and this is one: put it into a list";
        return Err(PyTypeError::new_err(text));
    }
    // SAFETY: the interpreter is attached, and this returns a new list or null with an error.
    let list =
        unsafe { Bound::from_owned_ptr_or_err(keys.py(), ffi::PySequence_List(keys.as_ptr()))? };
    Ok(list.cast_into::<PyList>()?)
}

/// The values of keys, in their order; `default` for those without one.
///
/// # Errors
/// As for [`bytes_of`], and the client's.
pub(crate) fn list_of_values<'py>(
    client: &Client,
    keys: &Bound<'py, PyList>,
    default: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let py = keys.py();
    let count = keys.len();
    let size = ffi::Py_ssize_t::try_from(count)?;
    // SAFETY: the interpreter is attached, and this returns a new list or null with an error.
    let list = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyList_New(size))? };
    let list = list.cast_into::<PyList>()?;
    // Keys that L1 does not know, and where their values belong.
    let mut unknown: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut joined = Vec::new();
    for begin in (0..count).step_by(CHUNK) {
        let chunk = begin..count.min(begin + CHUNK);
        let mut slices: [&[u8]; CHUNK] = [&[]; CHUNK];
        // No code of Python runs between these two loops: the keys keep their places and bytes.
        for (place, index) in slices.iter_mut().zip(chunk.clone()) {
            // SAFETY: `keys` holds a reference to the key, and is not changed before `slices` is
            // used for the last time: memory for bytes is all that is allocated, which runs no
            // finaliser, and the interpreter's lock is kept.
            let key: Borrowed<'_, 'py, PyAny> = unsafe {
                let key = ffi::PyList_GetItem(keys.as_ptr(), ffi::Py_ssize_t::try_from(index)?);
                Borrowed::from_ptr_or_err(py, key)?
            };
            // SAFETY: as above; the bytes are the key's.
            *place = unsafe { &*std::ptr::from_ref(bytes_of(&key)?) };
        }
        let slices = slices.get(..chunk.len()).unwrap_or_default();
        let slices = if client.prefix.is_empty() {
            slices
        } else {
            joined.clear();
            joined.extend(slices.iter().map(|key| [&client.prefix, *key].concat()));
            &joined.iter().map(Vec::as_slice).collect::<Vec<_>>()
        };
        let mut places: [Place<'py>; CHUNK] =
            std::array::from_fn(|at| Place::of(&list, begin + at));
        let missing = client.inner.peek_many_to(slices, &mut places);
        unknown.extend(
            missing.into_iter().filter_map(|at| Some((begin + at, slices.get(at)?.to_vec()))),
        );
        for (place, index) in places.iter().zip(chunk) {
            if !place.is_filled {
                put(&list, index, default.clone())?;
            }
        }
    }
    if !unknown.is_empty() {
        let asked: Vec<&[u8]> = unknown.iter().map(|(_, key)| key.as_slice()).collect();
        let answers = py.detach(|| client.inner.lookup_many(&asked));
        for ((index, _), answer) in unknown.iter().zip(answers) {
            if let Some(value) = answer.or_raise(py)?.found() {
                put(&list, *index, bytes(py, &value))?;
            }
        }
    }
    Ok(list)
}

#[inline]
fn put(list: &Bound<'_, PyList>, index: usize, value: Bound<'_, PyAny>) -> PyResult<()> {
    let index = ffi::Py_ssize_t::try_from(index)?;
    // SAFETY: both are objects, and the list takes over the reference to the value.
    let status = unsafe { ffi::PyList_SetItem(list.as_ptr(), index, value.into_ptr()) };
    if status == 0 { Ok(()) } else { Err(PyErr::fetch(list.py())) }
}
