//! Requests that an event loop waits for.

use crate::client::Client;
use crate::convert::{self, lifetime, set_options};
use crate::errors::raised;
use crate::key::{Keys, bytes_of, with_prefix};
use crate::load::{Reservation, load_options};
use crate::operations::{counter_options, operation_options, token};
use crate::results::{Deleted, Stored, Value, absent, unknown};
use l1d_client::{Count, LoadWait, Lookup, Outcome, Pending, ReserveStep};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A daemon that is awake answers within this time. The event loop stands still meanwhile, for less
/// than it takes to register anything with it.
const SPIN: Duration = Duration::from_micros(5);

/// A request under way. `poll` gives its result once, when `fileno` has become readable.
#[pyclass(frozen, module = "l1d._l1d")]
pub(crate) struct Request {
    asked: Mutex<Box<dyn Asked>>,
}

/// A request whose result can be turned into Python's.
trait Asked: Send {
    fn poll<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>>;
    fn look<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>>;
    fn spin<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>>;
    fn descriptor(&self) -> Option<i32>;
    fn is_queued(&self) -> bool;
    fn remaining(&self) -> f64;
}

struct Of<T, F> {
    pending: Pending<T>,
    /// Turns the answer into Python's result.
    turn: F,
}

impl<T, F> Asked for Of<T, F>
where
    T: Send,
    F: for<'py> Fn(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send,
{
    fn poll<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let answer = self.pending.poll()?;
        Some(self.result(py, answer))
    }

    fn look<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let answer = self.pending.look()?;
        Some(self.result(py, answer))
    }

    fn spin<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let begin = Instant::now();
        loop {
            if let Some(answer) = self.pending.look() {
                return Some(self.result(py, answer));
            }
            if begin.elapsed() > SPIN {
                return None;
            }
            std::hint::spin_loop();
        }
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

impl<T, F> Of<T, F>
where
    F: for<'py> Fn(Python<'py>, T) -> PyResult<Bound<'py, PyAny>>,
{
    fn result<'py>(
        &self,
        py: Python<'py>,
        answer: Result<T, l1d_client::Error>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match answer {
            Ok(answer) => (self.turn)(py, answer),
            Err(error) => Err(raised(py, &error)),
        }
    }
}

impl Request {
    fn new<T: Send + 'static>(
        pending: Pending<T>,
        turn: impl for<'py> Fn(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    ) -> Request {
        Request { asked: Mutex::new(Box::new(Of { pending, turn })) }
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

    /// `poll` that leaves the descriptor as it is. Of several requests one is to be polled first,
    /// and the others looked at: to poll them all could take the event of an answer that comes in
    /// between.
    fn look<'py>(
        &self,
        py: Python<'py>,
        pending: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.with(|asked| asked.look(py)).unwrap_or(Ok(pending))
    }

    /// `poll` that looks for a few microseconds, in which a daemon that is awake answers.
    fn spin<'py>(
        &self,
        py: Python<'py>,
        pending: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.with(|asked| asked.spin(py)).unwrap_or(Ok(pending))
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

type Any<'a, 'py> = &'a Bound<'py, PyAny>;

/// The requests of each method of `Client`; their results are the methods'.
#[pymethods]
impl Client {
    fn _request_lookup(&self, py: Python<'_>, key: Any<'_, '_>) -> PyResult<Request> {
        self.begin(py, key, |client, key| client.request(key), found)
    }

    /// A list with the results of one or more of the first keys; an error takes a value's place.
    fn _request_many(&self, py: Python<'_>, keys: Any<'_, '_>) -> PyResult<Request> {
        let keys = Keys::of(&self.prefix, keys)?;
        let slices = keys.slices()?;
        let pending = py.detach(|| self.inner.request_many(&slices));
        Ok(Request::new(pending, |py, answers| {
            let answers = answers.into_iter().map(|answer| match answer {
                Ok(answer) => found(py, answer),
                Err(error) => Ok(raised(py, &error).into_value(py).into_bound(py).into_any()),
            });
            Ok(PyList::new(py, answers.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }))
    }

    #[pyo3(signature = (key, value, ttl=None, *, flags=0, write=None))]
    fn _request_set(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        value: Any<'_, '_>,
        ttl: Option<Any<'_, '_>>,
        flags: u32,
        write: Option<&str>,
    ) -> PyResult<Request> {
        let (value, options) = (convert::value(value)?, set_options(ttl, flags, write, true)?);
        let value = value.as_bytes();
        self.begin(py, key, |client, key| client.request_set(key, value, &options), stored)
    }

    fn _request_delete(&self, py: Python<'_>, key: Any<'_, '_>) -> PyResult<Request> {
        self.begin(
            py,
            key,
            |client, key| client.request_delete(key),
            |py, deleted| Ok(Bound::new(py, Deleted::from(deleted))?.into_any()),
        )
    }

    #[pyo3(signature = (key, value, ttl=None, *, flags=0))]
    fn _request_add(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        value: Any<'_, '_>,
        ttl: Option<Any<'_, '_>>,
        flags: u32,
    ) -> PyResult<Request> {
        let (value, options) = (convert::value(value)?, operation_options(ttl, flags)?);
        let value = value.as_bytes();
        self.begin(py, key, |client, key| client.request_add(key, value, &options), done)
    }

    #[pyo3(signature = (key, value, ttl=None, *, flags=0))]
    fn _request_replace(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        value: Any<'_, '_>,
        ttl: Option<Any<'_, '_>>,
        flags: u32,
    ) -> PyResult<Request> {
        let (value, options) = (convert::value(value)?, operation_options(ttl, flags)?);
        let value = value.as_bytes();
        self.begin(py, key, |client, key| client.request_replace(key, value, &options), done)
    }

    #[pyo3(signature = (key, token, value, ttl=None, *, flags=0))]
    fn _request_cas(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        token: u64,
        value: Any<'_, '_>,
        ttl: Option<Any<'_, '_>>,
        flags: u32,
    ) -> PyResult<Request> {
        let (value, options) = (convert::value(value)?, operation_options(ttl, flags)?);
        let (value, token) = (value.as_bytes(), self::token(token)?);
        let ask = |client: &l1d_client::Client, key: &[u8]| {
            client.request_compare_and_set(key, token, value, &options)
        };
        self.begin(py, key, ask, done)
    }

    fn _request_delete_if(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        token: u64,
    ) -> PyResult<Request> {
        let token = self::token(token)?;
        self.begin(py, key, |client, key| client.request_delete_if(key, token), is_done)
    }

    fn _request_append(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        data: Any<'_, '_>,
    ) -> PyResult<Request> {
        let data = convert::value(data)?;
        let data = data.as_bytes();
        self.begin(py, key, |client, key| client.request_append(key, data), done)
    }

    fn _request_prepend(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        data: Any<'_, '_>,
    ) -> PyResult<Request> {
        let data = convert::value(data)?;
        let data = data.as_bytes();
        self.begin(py, key, |client, key| client.request_prepend(key, data), done)
    }

    #[pyo3(signature = (key, by=1, *, initial=None, ttl=None))]
    fn _request_incr(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        by: i64,
        initial: Option<i64>,
        ttl: Option<Any<'_, '_>>,
    ) -> PyResult<Request> {
        let options = counter_options(initial, ttl)?;
        self.begin(py, key, |client, key| client.request_increment(key, by, &options), counted)
    }

    #[pyo3(signature = (key, by=1, *, initial=None, ttl=None))]
    fn _request_decr(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        by: i64,
        initial: Option<i64>,
        ttl: Option<Any<'_, '_>>,
    ) -> PyResult<Request> {
        let options = counter_options(initial, ttl)?;
        self.begin(py, key, |client, key| client.request_decrement(key, by, &options), counted)
    }

    fn _request_touch(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        ttl: Any<'_, '_>,
    ) -> PyResult<Request> {
        let lifetime = lifetime(Some(ttl))?;
        self.begin(py, key, |client, key| client.request_touch(key, lifetime), is_done)
    }

    fn _request_get_and_touch(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        ttl: Any<'_, '_>,
    ) -> PyResult<Request> {
        let lifetime = lifetime(Some(ttl))?;
        let ask =
            |client: &l1d_client::Client, key: &[u8]| client.request_get_and_touch(key, lifetime);
        self.begin(py, key, ask, |py, value| match value {
            Some(value) => Ok(PyBytes::new(py, &value).into_any()),
            None => Ok(py.None().into_bound(py)),
        })
    }

    /// A `Value`, a `Reservation`, or a `LoadWait` that asks again.
    fn _request_reserve(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        lease: f64,
        wait: f64,
    ) -> PyResult<Request> {
        let options = load_options(lease, wait)?;
        let ask = |client: &l1d_client::Client, key: &[u8]| client.request_reserve(key, &options);
        self.begin(py, key, ask, stepped(self.inner.clone()))
    }
}

#[pymethods]
impl Reservation {
    #[pyo3(signature = (value, ttl=None, *, flags=0))]
    fn _request_fill(
        &self,
        py: Python<'_>,
        value: Any<'_, '_>,
        ttl: Option<Any<'_, '_>>,
        flags: u32,
    ) -> PyResult<Request> {
        let (value, options) = (convert::value(value)?, set_options(ttl, flags, None, true)?);
        let (value, token) = (value.as_bytes(), self.take(py)?);
        Ok(Request::new(py.detach(|| self.client().request_fill(token, value, &options)), stored))
    }

    #[pyo3(signature = (error=None))]
    fn _request_abandon(&self, py: Python<'_>, error: Option<&str>) -> PyResult<Request> {
        let token = self.take(py)?;
        let pending = py.detach(|| self.client().request_abandon(token, error));
        Ok(Request::new(pending, |py, ()| Ok(py.None().into_bound(py))))
    }
}

/// Another process loads the key: `look` each millisecond for `pause` seconds, then ask again.
#[pyclass(frozen, module = "l1d._l1d")]
pub(crate) struct Loading {
    client: l1d_client::Client,
    wait: LoadWait,
}

#[pymethods]
impl Loading {
    #[getter]
    fn pause(&self) -> f64 {
        self.wait.pause().as_secs_f64()
    }

    /// The value, if it has come.
    fn look(&self, py: Python<'_>) -> Option<Value> {
        self.wait.look().map(|value| Value::copied(py, &value))
    }

    fn _request_again(&self, py: Python<'_>) -> Request {
        let pending = py.detach(|| self.wait.clone().ask_again());
        Request::new(pending, stepped(self.client.clone()))
    }
}

impl Client {
    fn begin<T: Send + 'static>(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        ask: impl FnOnce(&l1d_client::Client, &[u8]) -> Pending<T> + Send,
        turn: impl for<'py> Fn(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    ) -> PyResult<Request> {
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            // Where the daemon gives no mailbox, beginning a request waits for its answer.
            Ok(Request::new(py.detach(|| ask(&self.inner, key)), turn))
        })
    }
}

fn found(py: Python<'_>, found: Lookup) -> PyResult<Bound<'_, PyAny>> {
    match found {
        Lookup::Found(value) => Ok(Bound::new(py, Value::copied(py, &value))?.into_any()),
        Lookup::Absent => absent(py),
        Lookup::Unknown => unknown(py),
    }
}

fn stored(py: Python<'_>, stored: l1d_client::Stored) -> PyResult<Bound<'_, PyAny>> {
    Ok(Bound::new(py, Stored::from(stored))?.into_any())
}

fn done(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyAny>> {
    match outcome.done() {
        Some(done) => stored(py, done),
        None => Ok(py.None().into_bound(py)),
    }
}

fn is_done(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyAny>> {
    Ok(outcome.is_done().into_pyobject(py)?.to_owned().into_any())
}

fn counted(py: Python<'_>, count: Outcome<Count>) -> PyResult<Bound<'_, PyAny>> {
    Ok(count.done().map(|count| count.value).into_pyobject(py)?)
}

fn stepped(
    client: l1d_client::Client,
) -> impl for<'py> Fn(Python<'py>, ReserveStep) -> PyResult<Bound<'py, PyAny>> + Send + 'static {
    move |py, step| {
        Ok(match step {
            ReserveStep::Done(l1d_client::Reservation::Found(value)) => {
                Bound::new(py, Value::copied(py, &value))?.into_any()
            }
            ReserveStep::Done(l1d_client::Reservation::Reserved(token)) => {
                Bound::new(py, Reservation::new(&client, token))?.into_any()
            }
            ReserveStep::AskAgain(wait) => {
                Bound::new(py, Loading { client: client.clone(), wait })?.into_any()
            }
        })
    }
}
