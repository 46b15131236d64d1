//! The client's errors as exceptions of `l1d.errors`.

use l1d_client::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule};
use std::cell::Cell;

static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let errors =
        ERRORS.get_or_try_init(py, || PyModule::import(py, "l1d.errors").map(Bound::unbind))?;
    errors.bind(py).getattr(name)
}

thread_local! {
    /// What a signal's handler has raised while this thread waited.
    static RAISED: Cell<Option<PyErr>> = const { Cell::new(None) };
}

/// A wait was interrupted by a signal: whether its handler raises, which ends the wait.
pub(crate) fn is_interrupted() -> bool {
    match Python::attach(|py| py.check_signals()) {
        Ok(()) => false,
        Err(raised) => {
            RAISED.set(Some(raised));
            true
        }
    }
}

/// Whether a signal's handler has raised while this thread waited, and nobody has raised that yet.
pub(crate) fn has_raised() -> bool {
    let raised = RAISED.take();
    let has_raised = raised.is_some();
    RAISED.set(raised);
    has_raised
}

/// What a signal's handler has raised while this thread waited.
pub(crate) fn take_raised() -> Option<PyErr> {
    RAISED.take()
}

/// The exception of `error`. What a signal's handler has raised comes first, with a write's unknown
/// outcome as its cause.
#[cold]
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let own = own_exception(py, error);
    match RAISED.take() {
        Some(raised) => {
            raised.set_cause(py, Some(own));
            raised
        }
        None => own,
    }
}

/// The exception of `error`, whatever a signal's handler has raised.
pub(crate) fn own_exception(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        Error::Unavailable { .. } => "Unavailable",
        Error::Deadline { .. } => "DeadlineExceeded",
        Error::UnknownOutcome { .. } => "UnknownOutcome",
        Error::TooLarge { .. } => "TooLarge",
        Error::Refused { .. } => "Refused",
        Error::Denied { .. } => "Denied",
        Error::Full { .. } => "Full",
        Error::TierFailed { .. } => "TierFailed",
        Error::Busy { .. } => "Busy",
        Error::LoadFailed { .. } => "LoadFailed",
        Error::WrongProtocol { .. } => "WrongProtocol",
        Error::Untrusted { .. } => "Untrusted",
        Error::Interrupted => "Interrupted",
        Error::System { .. } => "SystemFailure",
        Error::Internal { .. } => "InternalError",
        _ => "Error",
    };
    named(py, name, &error.to_string())
}

/// The exception `l1d.errors.NAME` with this text.
pub(crate) fn named(py: Python<'_>, name: &str, text: &str) -> PyErr {
    match class(py, name).and_then(|class| class.call1((text,))) {
        Ok(exception) => PyErr::from_value(exception),
        // The package is broken, which is another error.
        Err(broken) => {
            let told = PyRuntimeError::new_err(text.to_owned());
            told.set_cause(py, Some(broken));
            told
        }
    }
}

/// `SomeFailed`, with the exception of each key that failed.
pub(crate) fn some_failed(py: Python<'_>, failed: &Bound<'_, PyDict>, of: usize) -> PyErr {
    match class(py, "SomeFailed").and_then(|class| class.call1((failed, of))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(broken) => broken,
    }
}

/// Results of the client as results of Python.
pub(crate) trait OrRaise<T> {
    /// # Errors
    /// The client's error as an exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    #[inline]
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}
