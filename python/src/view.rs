//! Values seen in place.

use l1d_client::ValueView;
use pyo3::exceptions::{PyIndexError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySlice};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

/// A value in the shared table, for the length of one call of `read_with`'s function. What is read
/// of it may be torn; then the function's result is dropped and it is called again.
#[pyclass(frozen, module = "l1d")]
pub(crate) struct View {
    shown: Mutex<Option<Shown>>,
    len: usize,
}

/// The address of the view, and the thread that may use it.
struct Shown {
    view: usize,
    thread: ThreadId,
}

/// Ends the view, also if a panic passes by: its object may live on.
struct End<'a, 'py>(&'a Bound<'py, View>);

impl Drop for End<'_, '_> {
    fn drop(&mut self) {
        *self.0.get().shown.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl View {
    /// Calls `look` with a view.
    ///
    /// # Errors
    /// What `look` raises.
    pub(crate) fn show<'py>(
        py: Python<'py>,
        view: &ValueView<'_>,
        look: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let shown = Shown {
            view: std::ptr::from_ref(view).expose_provenance(),
            thread: thread::current().id(),
        };
        let object = Bound::new(py, View { shown: Mutex::new(Some(shown)), len: view.len() })?;
        let end = End(&object);
        let result = look.call1((&object,));
        drop(end);
        result
    }

    /// Copies bytes out of the value.
    fn copy(&self, offset: usize, into: &mut [u8]) -> PyResult<bool> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shown {
            Some(shown) if shown.thread == thread::current().id() => {
                // SAFETY: the view outlives the call of `look`, during which alone its address is
                // here, and only the thread that `look` was called on comes here, so nobody shares
                // it; while the lock is held, `show` does not return.
                let view: &ValueView<'_> =
                    unsafe { &*std::ptr::with_exposed_provenance(shown.view) };
                Ok(view.copy_to(offset, into))
            }
            Some(_) => {
                let text = "a view belongs to the thread that was called with it: use it there";
                Err(PyRuntimeError::new_err(text))
            }
            None => {
                let text = "a view ends with the call that it was passed to: copy what is needed \
                            later";
                Err(PyRuntimeError::new_err(text))
            }
        }
    }
}

#[pymethods]
impl View {
    fn __len__(&self) -> usize {
        self.len
    }

    /// A copy of `size` bytes from `offset` on.
    ///
    /// Raises IndexError if the value does not have them.
    fn read<'py>(
        &self,
        py: Python<'py>,
        offset: usize,
        size: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if offset.checked_add(size).is_none_or(|end| end > self.len) {
            let text = format!("no {size} bytes at {offset} in a value of {}", self.len);
            return Err(PyIndexError::new_err(text));
        }
        PyBytes::new_with(py, size, |into| match self.copy(offset, into)? {
            true => Ok(()),
            false => Err(PyIndexError::new_err("the value has become shorter: read it again")),
        })
    }

    /// `view[2]`, `view[:8]`: copies, as of bytes; a step other than 1 is refused.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let len = isize::try_from(self.len)?;
            let at = slice.indices(len)?;
            if at.step != 1 {
                let text = "a view is read in one piece, with a step of 1: copy it first";
                return Err(PyTypeError::new_err(text));
            }
            let (begin, size) = (usize::try_from(at.start)?, at.slicelength);
            return Ok(self.read(py, begin, size)?.into_any());
        }
        let index = index.extract::<isize>()?;
        let begin = if index < 0 {
            self.len.checked_add_signed(index)
        } else {
            usize::try_from(index).ok()
        };
        match begin {
            Some(begin) if begin < self.len => self.read(py, begin, 1)?.get_item(0),
            _ => Err(PyIndexError::new_err("index out of range")),
        }
    }
}
