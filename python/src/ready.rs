//! `_ready(value)`: a coroutine that has its result already. Up to Python 3.11, it takes two thirds of
//! the time of one that an `async def` makes, because no frame is made and run. From 3.12 on, it takes
//! twice as long, because interpreters await coroutines other than their own by `StopIteration`.
//!
//! It has the methods of `collections.abc.Coroutine`, so that tasks can be made of it.

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTypeInfo, ffi};
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// An object of the type that [`add_to`] makes.
#[repr(C)]
struct Ready {
    head: ffi::PyObject,
    /// A reference to the result; null once it was taken. Atomic for interpreters without a lock.
    value: AtomicPtr<ffi::PyObject>,
}

/// CPython's `sendfunc`.
type Receive = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut *mut ffi::PyObject,
) -> ffi::PySendResult;

static TYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

const READY_DOC: &CStr = c"A coroutine that has its result already.";
const MAKE_DOC: &CStr = c"_ready(value, /)
--

A coroutine whose result is the value.";

/// Adds the type and the function to the module.
///
/// # Errors
/// Memory has run out.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let class = TYPE.get_or_try_init(py, || new_type(py))?;
    module.add("Ready", class)?;
    // A function refers to its definition for as long as the process runs.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: c"_ready".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: make },
        ml_flags: ffi::METH_O,
        ml_doc: MAKE_DOC.as_ptr(),
    }));
    // SAFETY: the definition lives for ever; a new reference, or null with Python's error set.
    let make = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyCFunction_NewEx(definition, null_mut(), null_mut()))
    }?;
    module.add("_ready", make)
}

fn new_type(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let methods = Box::leak(Box::new([
        method(c"send", ffi::PyMethodDefPointer { PyCFunction: send }, ffi::METH_O),
        method(c"throw", ffi::PyMethodDefPointer { PyCFunctionFast: throw }, ffi::METH_FASTCALL),
        method(c"close", ffi::PyMethodDefPointer { PyCFunction: close }, ffi::METH_NOARGS),
        ffi::PyMethodDef::zeroed(),
    ]));
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_tp_doc, READY_DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_dealloc, dealloc as ffi::destructor as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as ffi::traverseproc as *mut c_void),
        slot(ffi::Py_tp_clear, clear as ffi::inquiry as *mut c_void),
        slot(ffi::Py_tp_iter, itself as ffi::getiterfunc as *mut c_void),
        slot(ffi::Py_tp_iternext, next as ffi::iternextfunc as *mut c_void),
        slot(ffi::Py_am_await, itself as ffi::unaryfunc as *mut c_void),
        slot(ffi::Py_am_send, receive as Receive as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(0, null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"l1d._l1d.Ready".as_ptr(),
        basicsize: c_int::try_from(size_of::<Ready>()).unwrap_or(0),
        itemsize: 0,
        flags: FLAGS,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots have functions of the types that they are for, and end with 0; the
    // interpreter copies them, but for the methods and the text, which live for ever. A new
    // reference, or null with Python's error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec)) }
        .map(Bound::unbind)
}

#[expect(clippy::cast_possible_truncation, reason = "bits below 2^32")]
const FLAGS: c_uint = (ffi::Py_TPFLAGS_DEFAULT
    | ffi::Py_TPFLAGS_HAVE_GC
    | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as c_uint;

const fn method(name: &CStr, function: ffi::PyMethodDefPointer, flags: c_int) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: std::ptr::null(),
    }
}

/// # Safety
/// Called by the interpreter with an object.
unsafe extern "C" fn make(_: *mut ffi::PyObject, value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter is attached, and the type was made before this function was. A new
    // object of it is a zeroed `Ready` behind its head, which takes a reference to the value.
    unsafe {
        let Some(class) = TYPE.get(Python::assume_attached()) else { return null_mut() };
        let ready = ffi::PyType_GenericAlloc(class.as_ptr().cast(), 0);
        if !ready.is_null() {
            ffi::Py_INCREF(value);
            *(*ready.cast::<Ready>()).value.get_mut() = value;
        }
        ready
    }
}

/// Takes the result; null if it was taken before.
///
/// # Safety
/// `ready` is an object of [`TYPE`].
unsafe fn take(ready: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's. AcqRel: whoever takes the value is the only one, and sees it whole.
    unsafe { (*ready.cast::<Ready>()).value.swap(null_mut(), Ordering::AcqRel) }
}

/// [`take`], with Python's error set where there is nothing.
///
/// # Safety
/// As there, and the interpreter is attached.
unsafe fn take_or_raise(ready: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    let (value, py) = unsafe { (take(ready), Python::assume_attached()) };
    if value.is_null() {
        PyRuntimeError::new_err("cannot reuse already awaited coroutine").restore(py);
    }
    value
}

/// # Safety
/// Called by the interpreter with an object of [`TYPE`].
unsafe extern "C" fn receive(
    ready: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the caller's; `result` is for the reference that is handed over.
    unsafe {
        *result = take_or_raise(ready);
        if (*result).is_null() {
            ffi::PySendResult::PYGEN_ERROR
        } else {
            ffi::PySendResult::PYGEN_RETURN
        }
    }
}

/// Ends as a generator does: with `StopIteration` of the result. From 3.12 on, the interpreter
/// awaits in this way.
///
/// # Safety
/// Called by the interpreter with an object of [`TYPE`].
unsafe extern "C" fn next(ready: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's; a reference that is taken over.
    unsafe {
        let value = take_or_raise(ready);
        if value.is_null() {
            return null_mut();
        }
        let py = Python::assume_attached();
        let value = Bound::from_owned_ptr(py, value);
        if ffi::PyTuple_Check(value.as_ptr()) == 0
            && ffi::PyExceptionInstance_Check(value.as_ptr()) == 0
        {
            ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr());
            return null_mut();
        }
        // As its one argument: a tuple or an exception would be taken apart.
        match PyStopIteration::type_object(py).call1((value,)) {
            Ok(end) => PyErr::from_value(end).restore(py),
            Err(error) => error.restore(py),
        }
        null_mut()
    }
}

/// # Safety
/// Called by the interpreter as a method of an object of [`TYPE`].
unsafe extern "C" fn send(ready: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe { next(ready) }
}

/// # Safety
/// Called by the interpreter as a method of an object of [`TYPE`].
unsafe extern "C" fn close(ready: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe {
        clear(ready);
        Python::assume_attached().None().into_ptr()
    }
}

/// Raises the exception: an instance, or a class and what it is made of, as coroutines take them.
///
/// # Safety
/// Called by the interpreter as a method of an object of [`TYPE`].
unsafe extern "C" fn throw(
    ready: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's; the interpreter passes as many objects as it says.
    unsafe {
        clear(ready);
        let py = Python::assume_attached();
        let argument = |index: ffi::Py_ssize_t| {
            (index < count)
                .then(|| Bound::from_borrowed_ptr(py, *arguments.offset(index)))
                .filter(|object| !object.is_none())
        };
        match (argument(0), argument(1)) {
            (Some(class), Some(value)) if class.is_instance_of::<pyo3::types::PyType>() => {
                ffi::PyErr_SetObject(class.as_ptr(), value.as_ptr());
            }
            (Some(exception), _) => PyErr::from_value(exception).restore(py),
            (None, _) => {
                pyo3::exceptions::PyTypeError::new_err("an exception is expected").restore(py);
            }
        }
        null_mut()
    }
}

/// # Safety
/// Called by the interpreter with an object of [`TYPE`].
unsafe extern "C" fn itself(ready: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's; a new reference.
    unsafe {
        ffi::Py_INCREF(ready);
        ready
    }
}

/// # Safety
/// Called by the collector with an object of [`TYPE`].
unsafe extern "C" fn traverse(
    ready: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the caller's; objects of types from a specification refer to their type, too.
    unsafe {
        let value = (*ready.cast::<Ready>()).value.load(Ordering::Acquire);
        let visited = visit(ffi::Py_TYPE(ready).cast(), argument);
        if visited != 0 || value.is_null() { visited } else { visit(value, argument) }
    }
}

/// # Safety
/// Called by the interpreter with an object of [`TYPE`].
unsafe extern "C" fn clear(ready: *mut ffi::PyObject) -> c_int {
    // SAFETY: the caller's; a reference that is given up, or null.
    unsafe { ffi::Py_XDECREF(take(ready)) };
    0
}

/// # Safety
/// Called by the interpreter with an object of [`TYPE`] that nobody refers to any more.
unsafe extern "C" fn dealloc(ready: *mut ffi::PyObject) {
    // SAFETY: the caller's. The object belongs to the collector, and refers to its type.
    unsafe {
        let class = ffi::Py_TYPE(ready);
        ffi::PyObject_GC_UnTrack(ready.cast());
        clear(ready);
        ffi::PyObject_GC_Del(ready.cast());
        ffi::Py_DECREF(class.cast());
    }
}
