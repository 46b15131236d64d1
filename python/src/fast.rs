//! Methods whose hits must cost nothing besides the read: `Client.get`, `Client.peek` and
//! `Memo.get`, as method descriptors of the kind that C extensions have. Interpreters specialise
//! calls of these, and no argument is converted.

use crate::client::Client;
use crate::errors::OrRaise;
use crate::key::{bytes_of, fail, with_prefix};
use crate::memo::{Held, Memo};
use crate::object::{NewBytes, bytes};
use l1d_client::Lookup;
use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::prelude::*;
use pyo3::{Borrowed, PyTypeInfo, ffi};
use std::ffi::{CStr, c_int};

type Method = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// Adds the methods to their classes.
///
/// # Errors
/// Memory has run out.
pub(crate) fn add_methods(py: Python<'_>) -> PyResult<()> {
    add::<Client>(py, c"get", get, GET_DOC)?;
    add::<Client>(py, c"peek", peek, PEEK_DOC)?;
    add::<Client>(py, c"_peek_now", peek_now, PEEK_NOW_DOC)?;
    add::<Memo>(py, c"get", memo_get, MEMO_GET_DOC)?;
    add::<Memo>(py, c"peek", memo_peek, MEMO_PEEK_DOC)
}

const GET_DOC: &CStr = c"get($self, key, /, default=None)
--

The value of a key, from L1 or else from the daemon and the tiers below; `default` without one.

Raises an `l1d.Error` only where L1 does not answer.";
const PEEK_DOC: &CStr = c"peek($self, key, /, default=None)
--

The value of a key if L1 holds it; `default` otherwise. Asks nobody and raises no `l1d.Error`.";
const PEEK_NOW_DOC: &CStr = c"_peek_now($self, key, /, default=None)
--

`peek` that does not wait for a table either.";
const MEMO_PEEK_DOC: &CStr = c"peek($self, key, /, default=None)
--

`get` of a value that the table holds; `default` otherwise. Asks nobody.";
const MEMO_GET_DOC: &CStr = c"get($self, key, /, default=None)
--

The object that a key's value decodes to, never older than the table; `default` without one.";

fn add<T: PyTypeInfo>(
    py: Python<'_>,
    name: &'static CStr,
    method: Method,
    doc: &'static CStr,
) -> PyResult<()> {
    let class = T::type_object(py);
    // A descriptor refers to its definition for as long as the process runs.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method },
        ml_flags: FLAGS,
        ml_doc: doc.as_ptr(),
    }));
    // SAFETY: the type is one, and the definition lives for ever; the descriptor is a new reference.
    unsafe {
        let descriptor = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        let descriptor = Bound::from_owned_ptr_or_err(py, descriptor)?;
        let name = name.as_ptr();
        if ffi::PyObject_SetAttrString(class.as_ptr(), name, descriptor.as_ptr()) != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(())
}

const FLAGS: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

/// What a method was called with.
struct Call<'a, 'py> {
    key: Borrowed<'a, 'py, PyAny>,
    default: Option<Borrowed<'a, 'py, PyAny>>,
}

impl<'a, 'py> Call<'a, 'py> {
    /// # Safety
    /// The arguments are those that the interpreter has called a fast method with.
    #[inline(always)]
    unsafe fn of(
        py: Python<'py>,
        arguments: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> PyResult<Call<'a, 'py>> {
        if !names.is_null() {
            // SAFETY: the caller's.
            return unsafe { Call::named(py, arguments, count, names) };
        }
        if !(1..=2).contains(&count) {
            return Err(wrong_arguments());
        }
        // SAFETY: the interpreter passes as many objects as it says, which live during the call.
        unsafe {
            let key = Borrowed::from_ptr(py, *arguments);
            let default = (count == 2).then(|| Borrowed::from_ptr(py, *arguments.add(1)));
            Ok(Call { key, default })
        }
    }

    /// A call in which the default has its name.
    ///
    /// # Safety
    /// As for [`of`](Self::of), with a tuple of names.
    #[cold]
    unsafe fn named(
        py: Python<'py>,
        arguments: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> PyResult<Call<'a, 'py>> {
        // SAFETY: names are a tuple of str, whose values follow the arguments without a name.
        unsafe {
            let names = Borrowed::from_ptr(py, names);
            let is_default = names.len()? == 1 && names.get_item(0)?.eq("default")?;
            if !is_default || count != 1 {
                return Err(wrong_arguments());
            }
            let key = Borrowed::from_ptr(py, *arguments);
            Ok(Call { key, default: Some(Borrowed::from_ptr(py, *arguments.add(1))) })
        }
    }

    /// A new reference to the default.
    fn default(&self, py: Python<'py>) -> *mut ffi::PyObject {
        match &self.default {
            Some(default) => (**default).clone().into_ptr(),
            None => py.None().into_ptr(),
        }
    }
}

#[cold]
fn wrong_arguments() -> PyErr {
    PyTypeError::new_err("give a key, by position, and at most a default")
}

/// What to do about a key that L1 does not know.
enum Then {
    Ask,
    Attach,
    Nothing,
}

/// # Safety
/// Called as a method of `Client` by the interpreter.
unsafe extern "C" fn get(
    client: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe { read(client, arguments, count, names, &Then::Ask) }
}

/// # Safety
/// Called as a method of `Client` by the interpreter.
unsafe extern "C" fn peek(
    client: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe { read(client, arguments, count, names, &Then::Attach) }
}

/// # Safety
/// Called as a method of `Client` by the interpreter.
unsafe extern "C" fn peek_now(
    client: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe { read(client, arguments, count, names, &Then::Nothing) }
}

/// # Safety
/// The arguments are those that the interpreter has called a method of `Client` with.
#[inline(always)]
unsafe fn read(
    client: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    then: &Then,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter is attached while it calls a method, passes what it says, and only an
    // object of the descriptor's class as the receiver.
    let (py, client, call) = unsafe {
        let py = Python::assume_attached();
        let client = Borrowed::from_ptr(py, client).cast_unchecked::<Client>();
        match Call::of(py, arguments, count, names) {
            Ok(call) => (py, client, call),
            Err(error) => return fail(py, error),
        }
    };
    let client = client.get();
    let key = match bytes_of(&call.key) {
        Ok(key) => key,
        Err(error) => return fail(py, error),
    };
    with_prefix(&client.prefix, key, |key| {
        let mut object = NewBytes::new(py);
        match client.inner.peek_now_to(key, &mut object) {
            Ok(Lookup::Found(_)) => object.into_ptr(),
            Ok(Lookup::Absent) => call.default(py),
            Ok(Lookup::Unknown) => match then {
                Then::Nothing => call.default(py),
                _ => read_on(py, client, key, &call, then),
            },
            Err(_) => no_memory(py),
        }
    })
}

#[cold]
fn no_memory(py: Python<'_>) -> *mut ffi::PyObject {
    let error =
        PyErr::take(py).unwrap_or_else(|| PyMemoryError::new_err("no memory for the value"));
    fail(py, error)
}

/// Reads on without the interpreter's lock.
#[inline(never)]
fn read_on(
    py: Python<'_>,
    client: &Client,
    key: &[u8],
    call: &Call<'_, '_>,
    then: &Then,
) -> *mut ffi::PyObject {
    let read = Python::attach(|py| {
        let found = py.detach(|| match then {
            Then::Ask => client.inner.fetch(key),
            _ => Ok(client.inner.peek_lookup(key)),
        });
        Ok(found.or_raise(py)?.found().map(|value| bytes(py, &value).into_ptr()))
    });
    match read {
        Ok(Some(value)) => value,
        Ok(None) => call.default(py),
        Err(error) => fail(py, error),
    }
}

/// # Safety
/// Called as a method of `Memo` by the interpreter.
unsafe extern "C" fn memo_get(
    memo: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe { read_memo(memo, arguments, count, names, true) }
}

/// # Safety
/// Called as a method of `Memo` by the interpreter.
unsafe extern "C" fn memo_peek(
    memo: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe { read_memo(memo, arguments, count, names, false) }
}

/// # Safety
/// The arguments are those that the interpreter has called a method of `Memo` with.
#[inline(always)]
unsafe fn read_memo(
    memo: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    asks: bool,
) -> *mut ffi::PyObject {
    // SAFETY: as in `read`.
    let (py, memo, call) = unsafe {
        let py = Python::assume_attached();
        let memo = Borrowed::from_ptr(py, memo).cast_unchecked::<Memo>();
        match Call::of(py, arguments, count, names) {
            Ok(call) => (py, memo, call),
            Err(error) => return fail(py, error),
        }
    };
    let memo = memo.get();
    let key = match bytes_of(&call.key) {
        Ok(key) => key,
        Err(error) => return fail(py, error),
    };
    with_prefix(memo.prefix(), key, |key| match memo.held(py, key) {
        Held::Object(object) => object.into_ptr(),
        Held::Unshared => made(memo.load(py, key, asks), &call, py),
        Held::Nothing => Python::attach(|py| made(memo.decode(py, key, asks), &call, py)),
    })
}

fn made(
    object: PyResult<Option<Bound<'_, PyAny>>>,
    call: &Call<'_, '_>,
    py: Python<'_>,
) -> *mut ffi::PyObject {
    match object {
        Ok(Some(object)) => object.into_ptr(),
        Ok(None) => call.default(py),
        Err(error) => fail(py, error),
    }
}
