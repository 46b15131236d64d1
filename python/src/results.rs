//! What methods return.

use l1d_client::{Meta, Source};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use std::time::Duration;

/// A value and its metadata.
#[pyclass(frozen, module = "l1d", eq)]
pub(crate) struct Value {
    /// Its bytes.
    #[pyo3(get)]
    value: Py<PyBytes>,
    meta: Meta,
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.meta == other.meta
            && Python::attach(|py| self.value.as_bytes(py) == other.value.as_bytes(py))
    }
}

impl Value {
    pub(crate) fn new(value: Py<PyBytes>, meta: Meta) -> Value {
        Value { value, meta }
    }

    pub(crate) fn into_bytes(self, py: Python<'_>) -> Bound<'_, PyBytes> {
        self.value.into_bound(py)
    }

    pub(crate) fn copied(py: Python<'_>, value: &l1d_client::Value) -> Value {
        Value { value: PyBytes::new(py, value).unbind(), meta: value.meta() }
    }
}

#[pymethods]
impl Value {
    /// Client flags, as they were stored.
    #[getter]
    fn flags(&self) -> u32 {
        self.meta.flags
    }

    /// Version of the table's entry, ever rising over all keys; 0 if the table has none.
    #[getter]
    fn version(&self) -> u64 {
        self.meta.version
    }

    /// Identifies exactly this value, for `cas` and `delete_if`; None if the table has no entry.
    #[getter]
    fn token(&self) -> Option<u64> {
        self.meta.token().map(|_| self.meta.version)
    }

    /// Where it was read: "table", "process" or "daemon".
    #[getter]
    fn source(&self) -> &'static str {
        match self.meta.source {
            Source::Table => "table",
            Source::Process => "process",
            _ => "daemon",
        }
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let (bytes, meta) = (self.value.as_bytes(py).len(), self.meta);
        format!("<l1d.Value of {bytes} bytes, version {}, flags {}>", meta.version, meta.flags)
    }
}

/// The outcome of a write, which is true.
#[pyclass(frozen, module = "l1d", eq)]
#[derive(PartialEq)]
pub(crate) struct Stored {
    /// Version of the table's entry; 0 if the table has none, or if the call did not wait.
    #[pyo3(get)]
    version: u64,
    /// Not every tier has taken it.
    #[pyo3(get)]
    degraded: bool,
    shortened_to: Option<Duration>,
}

impl From<l1d_client::Stored> for Stored {
    fn from(stored: l1d_client::Stored) -> Stored {
        let l1d_client::Stored { version, degraded, shortened_to, .. } = stored;
        Stored { version, degraded, shortened_to }
    }
}

#[pymethods]
impl Stored {
    /// Identifies the value that was stored, for `cas` and `delete_if`.
    #[getter]
    fn token(&self) -> Option<u64> {
        (self.version != 0).then_some(self.version)
    }

    /// The value's life in seconds, if that is shorter than the ttl that the call asked for.
    #[getter]
    fn shortened_to(&self) -> Option<f64> {
        self.shortened_to.map(|life| life.as_secs_f64())
    }

    fn __repr__(&self) -> String {
        let degraded = if self.degraded { ", degraded" } else { "" };
        format!("<l1d.Stored version {}{degraded}>", self.version)
    }
}

/// The outcome of a delete: true if the key existed.
#[pyclass(frozen, module = "l1d", eq)]
#[derive(PartialEq)]
pub(crate) struct Deleted {
    /// Whether L1 or a tier had the key.
    #[pyo3(get)]
    existed: bool,
    /// Not every tier has deleted it.
    #[pyo3(get)]
    degraded: bool,
}

impl From<l1d_client::Deleted> for Deleted {
    fn from(deleted: l1d_client::Deleted) -> Deleted {
        Deleted { existed: deleted.existed, degraded: deleted.degraded }
    }
}

#[pymethods]
impl Deleted {
    fn __bool__(&self) -> bool {
        self.existed
    }

    fn __repr__(&self) -> String {
        let existed = if self.existed { "existed" } else { "did not exist" };
        let degraded = if self.degraded { ", degraded" } else { "" };
        format!("<l1d.Deleted: {existed}{degraded}>")
    }
}

/// A known absence.
pub(crate) fn absent(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static ABSENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ABSENT.import(py, "l1d.types", "ABSENT").cloned()
}

/// Not knowing.
pub(crate) fn unknown(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static UNKNOWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    UNKNOWN.import(py, "l1d.types", "UNKNOWN").cloned()
}
