//! The class `Client`: how it is made, and what it can tell of the daemon.

use crate::convert::seconds;
use crate::errors::{OrRaise, is_interrupted};
use crate::key;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::path::PathBuf;

/// A process's access to the host's cache.
///
/// One is enough for a whole process: it may be used from any thread, and before and after a fork.
/// Pickling keeps its settings; a copy connects when it is first used.
#[pyclass(frozen, subclass, weakref, module = "l1d")]
pub(crate) struct Client {
    pub(crate) inner: l1d_client::Client,
    pub(crate) prefix: Vec<u8>,
    settings: Settings,
}

/// How a client was made, for those who make another.
#[derive(Clone)]
struct Settings {
    /// `None`: looked up when the client is made.
    socket: Option<PathBuf>,
    deadline: f64,
    attach_deadline: f64,
    owner_uid: Option<u32>,
    spin: f64,
    process_cache_bytes: u64,
}

impl Settings {
    fn builder(&self) -> PyResult<l1d_client::ClientBuilder> {
        let mut builder = l1d_client::Client::builder()
            .deadline(seconds("deadline", self.deadline)?)
            .attach_deadline(seconds("attach_deadline", self.attach_deadline)?)
            .spin(seconds("spin", self.spin)?)
            .process_cache_bytes(self.process_cache_bytes)
            .on_interrupt(is_interrupted);
        if let Some(socket) = &self.socket {
            builder = builder.socket(socket);
        }
        if let Some(uid) = self.owner_uid {
            builder = builder.owner_uid(uid);
        }
        Ok(builder)
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (socket=None, *, prefix=None, deadline=1.0, attach_deadline=0.25, lazy=false,
        owner_uid=None, spin=50e-6, process_cache_bytes=16_777_216))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        py: Python<'_>,
        socket: Option<PathBuf>,
        prefix: Option<&Bound<'_, PyAny>>,
        deadline: f64,
        attach_deadline: f64,
        lazy: bool,
        owner_uid: Option<u32>,
        spin: f64,
        process_cache_bytes: u64,
    ) -> PyResult<Client> {
        let settings =
            Settings { socket, deadline, attach_deadline, owner_uid, spin, process_cache_bytes };
        let prefix = prefix.map(key::bytes_of).transpose()?.unwrap_or_default().to_vec();
        let builder = settings.builder()?;
        let connect = || if lazy { builder.connect_later() } else { builder.connect() };
        let inner = py.detach(connect).or_raise(py)?;
        Ok(Client { inner, prefix, settings })
    }

    /// The daemon's socket.
    #[getter]
    fn socket(&self) -> PathBuf {
        self.inner.socket().to_path_buf()
    }

    /// What every key of this client begins with.
    #[getter]
    fn prefix<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.prefix)
    }

    /// Whether hits are read from the table; without one they ask the daemon.
    #[getter]
    fn has_table(&self) -> bool {
        self.inner.has_table()
    }

    /// A client of the same daemon, whose keys have a further prefix after this one's. It shares
    /// this one's table and connections.
    fn with_prefix(&self, prefix: &Bound<'_, PyAny>) -> PyResult<Client> {
        let prefix = key::owned(&self.prefix, prefix)?;
        Ok(Client { inner: self.inner.clone(), prefix, settings: self.settings.clone() })
    }

    /// Drops all keys that begin with the client's prefix and this one from L1. Tiers keep theirs.
    #[pyo3(signature = (prefix=None))]
    fn flush(&self, py: Python<'_>, prefix: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let prefix = match prefix {
            Some(prefix) => key::owned(&self.prefix, prefix)?,
            None => self.prefix.clone(),
        };
        py.detach(|| self.inner.admin().flush(&prefix)).or_raise(py)
    }

    /// Where a key stands: the rule that holds for it, and what L1 and the tiers have of it.
    fn explain<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let key = key::owned(&self.prefix, key)?;
        parsed(py, &py.detach(|| self.inner.admin().explain_json(&key)).or_raise(py)?)
    }

    /// The daemon's figures.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        parsed(py, &py.detach(|| self.inner.admin().stats_json()).or_raise(py)?)
    }

    /// The daemon's rules.
    fn policy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        parsed(py, &py.detach(|| self.inner.admin().policy_json()).or_raise(py)?)
    }

    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<((Option<PathBuf>,), Bound<'py, PyDict>)> {
        let settings = &self.settings;
        let named = PyDict::new(py);
        named.set_item("prefix", PyBytes::new(py, &self.prefix))?;
        named.set_item("deadline", settings.deadline)?;
        named.set_item("attach_deadline", settings.attach_deadline)?;
        named.set_item("owner_uid", settings.owner_uid)?;
        named.set_item("spin", settings.spin)?;
        named.set_item("process_cache_bytes", settings.process_cache_bytes)?;
        named.set_item("lazy", true)?;
        Ok(((settings.socket.clone(),), named))
    }

    fn __repr__(&self) -> String {
        let prefix = String::from_utf8_lossy(&self.prefix);
        format!("<l1d.Client of {}, prefix {prefix:?}>", self.inner.socket().display())
    }
}

fn parsed<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (json,))
}
