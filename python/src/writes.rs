//! Methods of `Client` that write.

use crate::client::Client;
use crate::convert::{self, set_options};
use crate::errors::{OrRaise, has_raised, own_exception, some_failed, take_raised};
use crate::key::{Keys, bytes_of, with_prefix};
use crate::results::{Deleted, Stored};
use l1d_client::{Error, Lifetime};
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[pymethods]
impl Client {
    /// Stores bytes for every process of the host, and in the tiers as the key's rule says. When
    /// this returns, every process that reads the key sees this value or a later one.
    ///
    /// `wait=False` returns as soon as the value is in this process's ring, without an answer.
    #[pyo3(signature = (key, value, ttl=None, *, flags=0, write=None, wait=true))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn set(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        flags: u32,
        write: Option<&str>,
        wait: bool,
    ) -> PyResult<Stored> {
        let options = set_options(ttl, flags, write, wait)?;
        let value = convert::value(value)?;
        let value = value.as_bytes();
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            py.detach(|| self.inner.set_with(key, value, &options)).or_raise(py)
        })
        .map(Stored::from)
    }

    /// Stores many values at once: a mapping, or pairs of key and value. All are tried.
    ///
    /// Raises SomeFailed, whose `errors` has those that were not stored.
    #[pyo3(signature = (items, ttl=None, *, flags=0))]
    fn set_many(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        flags: u32,
    ) -> PyResult<()> {
        let options = set_options(ttl, flags, None, true)?;
        let items =
            if items.hasattr("items")? { items.call_method0("items")? } else { items.clone() };
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for item in items.try_iter()? {
            let (key, value) = item?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            values.push(convert::value(&value)?);
            keys.push(key);
        }
        let keys = Keys::of_objects(&self.prefix, keys)?;
        let entries: Vec<(&[u8], &[u8])> =
            keys.slices()?.into_iter().zip(values.iter().map(|value| value.as_bytes())).collect();
        let stored = py.detach(|| match options.lifetime {
            // As one value that is not kept is a delete, so are many.
            Lifetime::DoNotKeep => {
                Ok(self.delete_each(entries.iter().map(|(key, _)| *key), |_| ()))
            }
            _ => self
                .inner
                .set_many_with(&entries, &options)
                .map(|stored| stored.into_iter().map(|stored| stored.map(drop)).collect()),
        });
        let stored: Vec<Result<(), Error>> = match stored {
            Ok(stored) => stored,
            Err(error) => vec![Err(error); keys.objects.len()],
        };
        raise_some(py, &keys, stored.into_iter().map(Result::err))
    }

    /// Removes a key, also in the tiers as its rule says.
    fn delete(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Deleted> {
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            py.detach(|| self.inner.delete(key)).or_raise(py)
        })
        .map(Deleted::from)
    }

    /// Removes many keys. All are tried. Returns how many existed.
    ///
    /// Raises SomeFailed, whose `errors` has those that may still be there.
    fn delete_many(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        let keys = Keys::of(&self.prefix, keys)?;
        let slices = keys.slices()?;
        let deleted = py.detach(|| self.delete_each(slices.iter().copied(), |deleted| deleted));
        let existed = deleted.iter().flatten().filter(|deleted| deleted.existed).count();
        raise_some(py, &keys, deleted.into_iter().map(Result::err))?;
        Ok(existed)
    }
}

impl Client {
    /// Deletes keys one after the other. A signal whose handler raises ends that, and the results.
    fn delete_each<'k, T>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        result: impl Fn(l1d_client::Deleted) -> T,
    ) -> Vec<Result<T, Error>> {
        let mut results = Vec::new();
        for key in keys {
            results.push(self.inner.delete(key).map(&result));
            if has_raised() {
                break;
            }
        }
        results
    }
}

/// Raises `SomeFailed` if there are errors, which come in the order of the keys. What a signal's
/// handler has raised comes first.
fn raise_some(
    py: Python<'_>,
    keys: &Keys<'_>,
    errors: impl Iterator<Item = Option<Error>>,
) -> PyResult<()> {
    let failed = PyDict::new(py);
    for (key, error) in keys.objects.iter().zip(errors) {
        if let Some(error) = error {
            failed.set_item(key, own_exception(py, &error).into_value(py))?;
        }
    }
    let told = (!failed.is_empty()).then(|| some_failed(py, &failed, keys.objects.len()));
    match (take_raised(), told) {
        (Some(raised), told) => {
            raised.set_cause(py, told);
            Err(raised)
        }
        (None, Some(told)) => Err(told),
        (None, None) => Ok(()),
    }
}
