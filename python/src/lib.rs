//! The extension module behind the Python package `l1d`: a client of the host's shared cache.
//!
//! | file | noun |
//! |---|---|
//! | `client` | the class `Client`, its settings, and administration |
//! | `fast` | methods that read: hits without pyo3's conversions |
//! | `key` | keys of bytes or str, behind the client's prefix |
//! | `object` | bytes objects that the table's values are copied into |
//! | `reads`, `writes`, `operations` | the other methods of `Client` |
//! | `many` | `get_many` |
//! | `load` | `get_or_load` and its halves |
//! | `view` | values seen in place |
//! | `memo` | decoded objects that are compared with the table at every use |
//! | `request` | requests that an event loop waits for |
//! | `convert` | lifetimes, options, values that Python passes |
//! | `results` | what methods return |
//! | `timing` | what the client takes without Python |
//! | `errors` | the client's errors as Python's exceptions |
//!
//! A hit keeps the interpreter's lock, because it takes less time than to release it. Whatever may
//! wait for the daemon releases it.

mod client;
mod convert;
mod errors;
mod fast;
mod key;
mod load;
mod many;
mod memo;
mod object;
mod operations;
mod reads;
mod ready;
mod request;
mod results;
mod timing;
mod view;
mod writes;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};

/// The interpreter whose objects the statics of this module hold; -1 before it is known.
static INTERPRETER: AtomicI64 = AtomicI64::new(-1);

/// # Errors
/// `ImportError` in any interpreter of the process but the first that imports this module: pyo3
/// itself refuses others only from Python 3.12 on.
fn check_interpreter() -> PyResult<()> {
    // SAFETY: the interpreter is attached while it imports a module.
    let own = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    // Relaxed: nothing but the number itself is passed on.
    let first = INTERPRETER.compare_exchange(-1, own, Ordering::Relaxed, Ordering::Relaxed);
    match first {
        Err(first) if first != own => Err(PyImportError::new_err(
            "l1d does not support subinterpreters: import it in one interpreter of a process",
        )),
        _ => Ok(()),
    }
}

#[pymodule(gil_used = false)]
fn _l1d(module: &Bound<'_, PyModule>) -> PyResult<()> {
    check_interpreter()?;
    module.add_class::<client::Client>()?;
    module.add_class::<results::Value>()?;
    module.add_class::<results::Stored>()?;
    module.add_class::<results::Deleted>()?;
    module.add_class::<load::Reservation>()?;
    module.add_class::<memo::Memo>()?;
    module.add_class::<request::Request>()?;
    module.add_class::<request::Loading>()?;
    module.add_class::<view::View>()?;
    module.add_function(wrap_pyfunction!(convert::check_ttl, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    ready::add_to(module)?;
    fast::add_methods(module.py())
}
