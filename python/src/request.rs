//! Requests that an event loop waits for.

use crate::client::Client;
use crate::convert::{self, set_options};
use crate::errors::raised;
use crate::key;
use crate::results::{Deleted, Stored, Value, absent, unknown};
use l1d_client::{Lookup, Pending};
use pyo3::prelude::*;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

/// A request under way. `poll` gives its result once, when `fileno` has become readable.
#[pyclass(frozen, module = "l1d._l1d")]
pub(crate) struct Request {
    asked: Mutex<Box<dyn Asked>>,
}

/// A request whose result can be turned into Python's.
trait Asked: Send {
    fn poll<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>>;
    fn descriptor(&self) -> Option<i32>;
    fn is_queued(&self) -> bool;
    fn remaining(&self) -> f64;
}

struct Of<T> {
    pending: Pending<T>,
    result: for<'py> fn(Python<'py>, T) -> PyResult<Bound<'py, PyAny>>,
}

impl<T: Send> Asked for Of<T> {
    fn poll<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        Some(match self.pending.poll()? {
            Ok(answer) => (self.result)(py, answer),
            Err(error) => Err(raised(py, &error)),
        })
    }

    fn descriptor(&self) -> Option<i32> {
        self.pending.descriptor().map(|descriptor| descriptor.as_raw_fd())
    }

    fn is_queued(&self) -> bool {
        self.pending.is_queued()
    }

    fn remaining(&self) -> f64 {
        self.pending.remaining().as_secs_f64()
    }
}

impl Request {
    pub(crate) fn new<T: Send + 'static>(
        pending: Pending<T>,
        result: for<'py> fn(Python<'py>, T) -> PyResult<Bound<'py, PyAny>>,
    ) -> Request {
        Request { asked: Mutex::new(Box::new(Of { pending, result })) }
    }

    fn with<R>(&self, act: impl FnOnce(&mut dyn Asked) -> R) -> R {
        act(&mut **self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Request {
    /// The result, or `pending` while it has not come. Raises the request's error.
    fn poll<'py>(
        &self,
        py: Python<'py>,
        pending: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.with(|asked| asked.poll(py)).unwrap_or(Ok(pending))
    }

    /// The descriptor that becomes readable with the result; -1 while there is none.
    fn fileno(&self) -> i32 {
        self.with(|asked| asked.descriptor()).unwrap_or(-1)
    }

    /// Whether it was not sent as a whole yet: then `poll` every millisecond goes on with it.
    fn is_queued(&self) -> bool {
        self.with(|asked| asked.is_queued())
    }

    /// Seconds until its deadline, when `poll` raises.
    fn remaining(&self) -> f64 {
        self.with(|asked| asked.remaining())
    }
}

#[pymethods]
impl Client {
    fn _request_lookup(&self, key: &Bound<'_, PyAny>) -> PyResult<Request> {
        let key = key::owned(&self.prefix, key)?;
        Ok(Request::new(self.inner.request(&key), |py, found| match found {
            Lookup::Found(value) => Ok(Bound::new(py, Value::copied(py, &value))?.into_any()),
            Lookup::Absent => absent(py),
            Lookup::Unknown => unknown(py),
        }))
    }

    #[pyo3(signature = (key, value, ttl=None, *, flags=0, write=None))]
    fn _request_set(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        flags: u32,
        write: Option<&str>,
    ) -> PyResult<Request> {
        let options = set_options(ttl, flags, write, true)?;
        let (key, value) = (key::owned(&self.prefix, key)?, convert::value(value)?);
        let pending = self.inner.request_set(&key, value.as_bytes(), &options);
        Ok(Request::new(pending, |py, stored| Ok(Bound::new(py, Stored::from(stored))?.into_any())))
    }

    fn _request_delete(&self, key: &Bound<'_, PyAny>) -> PyResult<Request> {
        let key = key::owned(&self.prefix, key)?;
        Ok(Request::new(self.inner.request_delete(&key), |py, deleted| {
            Ok(Bound::new(py, Deleted::from(deleted))?.into_any())
        }))
    }
}
