//! Atomic operations of `Client`.

use crate::client::Client;
use crate::convert::{self, lifetime};
use crate::errors::OrRaise;
use crate::key::{bytes_of, with_prefix};
use crate::results::Stored;
use l1d_client::{CounterOptions, OperationOptions, Outcome, Token};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;

#[pymethods]
impl Client {
    /// Stores a value unless the key has one: None if it has. Of several processes that try at the
    /// same time one succeeds.
    #[pyo3(signature = (key, value, ttl=None, *, flags=0))]
    fn add(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        value: Any<'_, '_>,
        ttl: Option<Any<'_, '_>>,
        flags: u32,
    ) -> PyResult<Option<Stored>> {
        let (value, options) = (convert::value(value)?, operation_options(ttl, flags)?);
        let value = value.as_bytes();
        self.operate(py, key, |client, key| client.add(key, value, &options))
    }

    /// Stores a value if the key has one: None if it has not.
    #[pyo3(signature = (key, value, ttl=None, *, flags=0))]
    fn replace(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        value: Any<'_, '_>,
        ttl: Option<Any<'_, '_>>,
        flags: u32,
    ) -> PyResult<Option<Stored>> {
        let (value, options) = (convert::value(value)?, operation_options(ttl, flags)?);
        let value = value.as_bytes();
        self.operate(py, key, |client, key| client.replace(key, value, &options))
    }

    /// Stores a value if the key still has the one of `token`: None if it has another, or none.
    #[pyo3(signature = (key, token, value, ttl=None, *, flags=0))]
    fn cas(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        token: u64,
        value: Any<'_, '_>,
        ttl: Option<Any<'_, '_>>,
        flags: u32,
    ) -> PyResult<Option<Stored>> {
        let (value, options) = (convert::value(value)?, operation_options(ttl, flags)?);
        let (value, token) = (value.as_bytes(), self::token(token)?);
        self.operate(py, key, |client, key| client.compare_and_set(key, token, value, &options))
    }

    /// Deletes a key if it still has the value of `token`. Returns whether it had.
    fn delete_if(&self, py: Python<'_>, key: Any<'_, '_>, token: u64) -> PyResult<bool> {
        let token = self::token(token)?;
        let deleted = self.operate(py, key, |client, key| client.delete_if(key, token))?;
        Ok(deleted.is_some())
    }

    /// Puts bytes after the value of a key: None without a value.
    fn append(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        data: Any<'_, '_>,
    ) -> PyResult<Option<Stored>> {
        let data = convert::value(data)?;
        let data = data.as_bytes();
        self.operate(py, key, |client, key| client.append(key, data))
    }

    /// Puts bytes before the value of a key: None without a value.
    fn prepend(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        data: Any<'_, '_>,
    ) -> PyResult<Option<Stored>> {
        let data = convert::value(data)?;
        let data = data.as_bytes();
        self.operate(py, key, |client, key| client.prepend(key, data))
    }

    /// Adds to a counter, a signed 64-bit number in decimal digits, and returns its new value. A
    /// key without a value is given `initial`, and lives for `ttl`; without `initial`: None.
    #[pyo3(signature = (key, by=1, *, initial=None, ttl=None))]
    fn incr(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        by: i64,
        initial: Option<i64>,
        ttl: Option<Any<'_, '_>>,
    ) -> PyResult<Option<i64>> {
        let options = counter_options(initial, ttl)?;
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            py.detach(|| self.inner.increment(key, by, &options)).or_raise(py)
        })
        .map(|count| count.done().map(|count| count.value))
    }

    /// Takes from a counter; see `incr`.
    #[pyo3(signature = (key, by=1, *, initial=None, ttl=None))]
    fn decr(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        by: i64,
        initial: Option<i64>,
        ttl: Option<Any<'_, '_>>,
    ) -> PyResult<Option<i64>> {
        let options = counter_options(initial, ttl)?;
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            py.detach(|| self.inner.decrement(key, by, &options)).or_raise(py)
        })
        .map(|count| count.done().map(|count| count.value))
    }

    /// Gives the value of a key another life. Returns whether it has one.
    fn touch(&self, py: Python<'_>, key: Any<'_, '_>, ttl: Any<'_, '_>) -> PyResult<bool> {
        let lifetime = lifetime(Some(ttl))?;
        let touched = self.operate(py, key, |client, key| client.touch(key, lifetime))?;
        Ok(touched.is_some())
    }

    /// The value of a key, which is given another life; None without one.
    fn get_and_touch<'py>(
        &self,
        py: Python<'py>,
        key: Any<'_, 'py>,
        ttl: Any<'_, 'py>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let lifetime = lifetime(Some(ttl))?;
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            py.detach(|| self.inner.get_and_touch(key, lifetime)).or_raise(py)
        })
        .map(|value| value.map(|value| PyBytes::new(py, &value)))
    }
}

impl Client {
    fn operate(
        &self,
        py: Python<'_>,
        key: Any<'_, '_>,
        operation: impl FnOnce(&l1d_client::Client, &[u8]) -> Result<Outcome, l1d_client::Error> + Send,
    ) -> PyResult<Option<Stored>> {
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            py.detach(|| operation(&self.inner, key)).or_raise(py)
        })
        .map(|outcome| outcome.done().map(Stored::from))
    }
}

pub(crate) fn operation_options(
    ttl: Option<&Bound<'_, PyAny>>,
    flags: u32,
) -> PyResult<OperationOptions> {
    Ok(OperationOptions { lifetime: lifetime(ttl)?, flags })
}

pub(crate) fn counter_options(
    initial: Option<i64>,
    ttl: Option<&Bound<'_, PyAny>>,
) -> PyResult<CounterOptions> {
    Ok(CounterOptions { initial, lifetime: lifetime(ttl)? })
}

pub(crate) fn token(token: u64) -> PyResult<Token> {
    Token::of_version(token).ok_or_else(|| {
        PyValueError::new_err("0 is no token; `lookup` gives the token of a value in its `token`")
    })
}
