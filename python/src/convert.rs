//! Arguments: lifetimes, values, and how to store them.

use l1d_client::{Lifetime, SetOptions, WriteMode};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDelta, PyFloat, PyInt};
use std::time::Duration;

/// The singleton `l1d.FOREVER`.
static FOREVER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A lifetime: seconds as int or float, a timedelta, `None` for the rule's, or `FOREVER`.
///
/// # Errors
/// `TypeError` for another type, `ValueError` for what is negative, not a number or too long.
pub(crate) fn lifetime(ttl: Option<&Bound<'_, PyAny>>) -> PyResult<Lifetime> {
    let Some(ttl) = ttl.filter(|ttl| !ttl.is_none()) else { return Ok(Lifetime::Rule) };
    let py = ttl.py();
    if ttl.is(FOREVER.import(py, "l1d.types", "FOREVER")?) {
        return Ok(Lifetime::Forever);
    }
    let seconds = if ttl.is_instance_of::<PyBool>() {
        None
    } else if ttl.is_instance_of::<PyInt>() || ttl.is_instance_of::<PyFloat>() {
        Some(ttl.extract::<f64>().map_err(|error| {
            let is_too_long = error.is_instance_of::<PyOverflowError>(py);
            if is_too_long { too_long(ttl) } else { error }
        })?)
    } else if ttl.is_instance_of::<PyDelta>() {
        Some(ttl.call_method0("total_seconds")?.extract::<f64>()?)
    } else {
        None
    };
    let Some(seconds) = seconds else {
        let kind = ttl.get_type().name()?.to_string();
        let text =
            format!("a ttl is seconds as int or float, a timedelta, None or FOREVER, not {kind}");
        return Err(PyTypeError::new_err(text));
    };
    if seconds < 0.0 {
        let text =
            format!("a ttl is not negative: {ttl}; 0 deletes the key, None leaves it to the rule");
        return Err(PyValueError::new_err(text));
    }
    if seconds == 0.0 {
        return Ok(Lifetime::DoNotKeep);
    }
    let life = Duration::try_from_secs_f64(seconds).map_err(|_| too_long(ttl))?;
    // Shorter than a clock can tell, but not "do not keep".
    Ok(Lifetime::For(life.max(Duration::from_nanos(1))))
}

fn too_long(ttl: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("no ttl in seconds: {ttl}; for a value without end use FOREVER"))
}

/// Raises what a call with this ttl would raise.
#[pyfunction]
#[pyo3(name = "_check_ttl")]
pub(crate) fn check_ttl(ttl: &Bound<'_, PyAny>) -> PyResult<()> {
    lifetime(Some(ttl)).map(drop)
}

/// A duration in seconds.
///
/// # Errors
/// `ValueError` for what is negative, not a number or too long.
pub(crate) fn seconds(what: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        let text = format!("{what} is no duration in seconds: {seconds}; give for example 2.5");
        PyValueError::new_err(text)
    })
}

/// How to store a value.
///
/// # Errors
/// As [`lifetime`], and `ValueError` for an unknown write mode.
pub(crate) fn set_options(
    ttl: Option<&Bound<'_, PyAny>>,
    flags: u32,
    write: Option<&str>,
    wait: bool,
) -> PyResult<SetOptions> {
    let write = match write {
        None => None,
        Some(name) => Some(write_mode(name)?),
    };
    Ok(SetOptions { lifetime: lifetime(ttl)?, flags, write, no_wait: !wait })
}

fn write_mode(name: &str) -> PyResult<WriteMode> {
    match name {
        "through" => Ok(WriteMode::Through),
        "l1-only" => Ok(WriteMode::L1Only),
        _ => {
            let text = format!("no write mode: {name:?}; use \"through\" or \"l1-only\"");
            Err(PyValueError::new_err(text))
        }
    }
}

/// The bytes of a value. Only bytes are taken as they are: a writable buffer might change while it
/// is sent without the interpreter's lock, so it is copied.
///
/// # Errors
/// `TypeError` for what is not bytes-like.
#[inline]
pub(crate) fn value<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.clone()),
        Err(_) => copied(value),
    }
}

#[cold]
fn copied<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    // SAFETY: the interpreter is attached; each call returns a new reference or null with an error.
    let bytes = unsafe {
        let view = Bound::from_owned_ptr_or_err(py, ffi::PyMemoryView_FromObject(value.as_ptr()));
        let view = view.map_err(|_| {
            let kind = value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            let text = format!(
                "a value is bytes-like, not {kind}; encode it, or use l1d.Cache, which stores objects"
            );
            PyTypeError::new_err(text)
        })?;
        Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromObject(view.as_ptr()))?
    };
    Ok(bytes.cast_into::<PyBytes>()?)
}
