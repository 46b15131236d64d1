//! `get_or_load`, and its two halves.

use crate::client::Client;
use crate::convert::{self, seconds, set_options};
use crate::errors::{OrRaise, named};
use crate::key;
use crate::results::{Stored, Value};
use l1d_client::{LoadOptions, LoadToken, SetOptions};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Mutex, PoisonError};

/// The right to fill a key, from `reserve`: end it with `fill` or `abandon`. Others wait for the
/// value meanwhile, until the lease ends.
#[pyclass(frozen, module = "l1d")]
pub(crate) struct Reservation {
    client: l1d_client::Client,
    token: Mutex<Option<LoadToken>>,
    /// The process that it was given to. A forked child has no part in it.
    process: u32,
}

#[pymethods]
impl Client {
    /// The value of a key, or what `loader()` returns for it, as bytes: one process of the host
    /// calls its loader, and the others wait for its value or its error.
    ///
    /// If that process dies or takes longer than `lease` seconds, the next one loads. `wait` is how
    /// many seconds to wait for others. The value is returned even if it could not be stored.
    ///
    /// Raises what `loader` raises, LoadFailed with another process's error, and Busy if another
    /// process takes longer than `wait`.
    #[pyo3(signature = (key, loader, ttl=None, *, flags=0, lease=30.0, wait=30.0))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn get_or_load<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        loader: &Bound<'py, PyAny>,
        ttl: Option<&Bound<'py, PyAny>>,
        flags: u32,
        lease: f64,
        wait: f64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let set = set_options(ttl, flags, None, true)?;
        let reservation = match self.reserved(py, key, lease, wait)? {
            Reserved::Found(value) => return Ok(value.into_bytes(py)),
            Reserved::Reserved(reservation) => reservation,
        };
        match loader.call0().and_then(|value| convert::value(&value)) {
            Ok(value) => {
                match reservation.end_with(py, value.as_bytes(), &set) {
                    // What a signal's handler raises is none of the cache's errors.
                    Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
                    // A refusal concerns only those who ask later.
                    _ => Ok(value),
                }
            }
            Err(error) => {
                // What stops the program is no answer for others.
                let is_told = error.is_instance_of::<PyException>(py);
                let told = is_told.then(|| error.to_string());
                match reservation.give_up(py, told.as_deref()) {
                    // What a signal's handler raises meanwhile is none of the cache's errors.
                    Err(raised) if !raised.is_instance_of::<PyException>(py) => {
                        raised.set_cause(py, Some(error));
                        Err(raised)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// The value of a key, or a `Reservation`: then this process is to compute the value. Waits
    /// while another process does.
    #[pyo3(signature = (key, *, lease=30.0, wait=30.0))]
    fn reserve<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        lease: f64,
        wait: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.reserved(py, key, lease, wait)? {
            Reserved::Found(value) => Bound::new(py, value)?.into_any(),
            Reserved::Reserved(reservation) => Bound::new(py, reservation)?.into_any(),
        })
    }
}

enum Reserved {
    Found(Value),
    Reserved(Reservation),
}

impl Client {
    fn reserved(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        lease: f64,
        wait: f64,
    ) -> PyResult<Reserved> {
        let key = key::owned(&self.prefix, key)?;
        let options = load_options(lease, wait)?;
        Ok(match py.detach(|| self.inner.reserve(&key, &options)).or_raise(py)? {
            l1d_client::Reservation::Found(value) => Reserved::Found(Value::copied(py, &value)),
            l1d_client::Reservation::Reserved(token) => {
                Reserved::Reserved(Reservation::new(&self.inner, token))
            }
        })
    }
}

pub(crate) fn load_options(lease: f64, wait: f64) -> PyResult<LoadOptions> {
    let (lease, wait) = (seconds("lease", lease)?, seconds("wait", wait)?);
    Ok(LoadOptions { lease, wait, ..LoadOptions::default() })
}

#[pymethods]
impl Reservation {
    /// Stores the value, and gives it to all who wait.
    ///
    /// Raises Refused if the reservation has ended.
    #[pyo3(signature = (value, ttl=None, *, flags=0))]
    fn fill(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        flags: u32,
    ) -> PyResult<Stored> {
        let options = set_options(ttl, flags, None, true)?;
        self.end_with(py, convert::value(value)?.as_bytes(), &options)
    }

    /// Gives the key up. With an error, all who wait raise LoadFailed with it; without one, the
    /// next of them loads the key.
    #[pyo3(signature = (error=None))]
    fn abandon(&self, py: Python<'_>, error: Option<&str>) -> PyResult<()> {
        self.give_up(py, error)
    }
}

impl Reservation {
    pub(crate) fn new(client: &l1d_client::Client, token: LoadToken) -> Reservation {
        let token = Mutex::new(Some(token));
        Reservation { client: client.clone(), token, process: std::process::id() }
    }

    pub(crate) fn client(&self) -> &l1d_client::Client {
        &self.client
    }

    /// The token, whose holder ends the reservation.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<LoadToken> {
        if self.process != std::process::id() {
            let text = "the reservation is the parent process's: reserve the key in this one";
            return Err(named(py, "Refused", text));
        }
        let text = "the reservation was already filled or abandoned: reserve the key again";
        self.taken().ok_or_else(|| named(py, "Refused", text))
    }

    fn taken(&self) -> Option<LoadToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn end_with(&self, py: Python<'_>, value: &[u8], options: &SetOptions) -> PyResult<Stored> {
        let token = self.take(py)?;
        py.detach(|| self.client.fill(token, value, options)).or_raise(py).map(Stored::from)
    }

    fn give_up(&self, py: Python<'_>, error: Option<&str>) -> PyResult<()> {
        let token = self.take(py)?;
        py.detach(|| self.client.abandon(token, error)).or_raise(py)
    }
}

/// Nobody can fill it any more, so the next one may load the key.
impl Drop for Reservation {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return;
        }
        let Some(token) = self.taken() else { return };
        let pending = self.client.request_abandon(token.clone(), None);
        if pending.is_queued() {
            // It was not sent, for example because every lane is taken.
            Python::attach(|py| py.detach(|| self.client.abandon(token, None)).ok());
        }
    }
}
