//! Methods of `Client` that read, besides those in `fast`.

use crate::client::Client;
use crate::errors::OrRaise;
use crate::key::{self, Keys, bytes_of, with_prefix};
use crate::many;
use crate::object::{Filled, NewBytes, bytes};
use crate::results::{self, Value};
use crate::view::View;
use l1d_client::{Lookup, Meta, NoRoom};
use pyo3::exceptions::{PyKeyError, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

/// A value, and its flags.
type WithFlags<'py> = (Bound<'py, PyAny>, u32);

#[pymethods]
impl Client {
    /// The value of a key with its metadata, or which kind of absence: `ABSENT` is known, `UNKNOWN`
    /// says that none of the levels asked knows the key. Both are false.
    fn lookup<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.find(py, key)? {
            Lookup::Found(value) => Ok(Bound::new(py, value)?.into_any()),
            Lookup::Absent => results::absent(py),
            Lookup::Unknown => results::unknown(py),
        }
    }

    /// The value of a key with its metadata; None without one.
    fn get_meta(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
        self.find(py, key).map(Lookup::found)
    }

    /// The values of keys, in their order; `default` for those without one.
    #[pyo3(signature = (keys, default=None))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        many::list_of_values(self, &many::key_list(keys)?, &default)
    }

    /// The values of those of the keys that have one, by key as it was given.
    fn get_dict<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        let keys = Keys::of(&self.prefix, keys)?;
        let values = self.find_many(py, &keys, |value, _| value)?;
        for (key, value) in keys.objects.iter().zip(values) {
            if let Some(value) = value {
                found.set_item(key, value)?;
            }
        }
        Ok(found)
    }

    /// Bytes and flags of a value that L1 holds, without waiting.
    fn _peek_value<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<WithFlags<'py>>> {
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            let mut object = NewBytes::new(py);
            match self.inner.peek_now_to(key, &mut object) {
                Ok(Lookup::Found(meta)) => Ok(Some((object.into_bound()?, meta.flags))),
                Ok(_) => Ok(None),
                Err(no_room) => Err(no_memory(py, no_room)),
            }
        })
    }

    /// Bytes and flags of each key's value.
    fn _get_many_values<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Option<WithFlags<'py>>>> {
        self.find_many(py, &Keys::of(&self.prefix, keys)?, |value, meta| (value, meta.flags))
    }

    /// What `look` makes of a key's value, seen where it lies: `look` is called with a `View`, of
    /// which only the parts that it reads are copied. Its result is returned only after the table
    /// has confirmed that the value did not change meanwhile; it may be called more than once.
    /// None without a value.
    fn read_with<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        look: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (key, look) = (key::owned(&self.prefix, key)?, look.clone().unbind());
        let looked = py.detach(|| {
            self.inner.read_with(&key, |view| {
                Python::attach(|py| View::show(py, view, look.bind(py)).map(Bound::unbind))
            })
        });
        Ok(looked.or_raise(py)?.transpose()?.map(|result| result.into_bound(py)))
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.find(py, key)? {
            Lookup::Found(value) => Ok(value.into_bytes(py).into_any()),
            Lookup::Absent | Lookup::Unknown => Err(PyKeyError::new_err(key.clone().unbind())),
        }
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.find(py, key).map(|found| found.found().is_some())
    }
}

impl Client {
    fn find(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Lookup<Value>> {
        with_prefix(&self.prefix, bytes_of(key)?, |key| {
            let mut object = NewBytes::new(py);
            match self.inner.peek_now_to(key, &mut object) {
                Ok(Lookup::Found(meta)) => {
                    let value = object.into_bound()?.cast_into::<PyBytes>()?.unbind();
                    Ok(Lookup::Found(Value::new(value, meta)))
                }
                Ok(Lookup::Absent) => Ok(Lookup::Absent),
                Ok(Lookup::Unknown) => {
                    let found = py.detach(|| self.inner.fetch(key)).or_raise(py)?;
                    Ok(found.map(|value| Value::copied(py, &value)))
                }
                Err(no_room) => Err(no_memory(py, no_room)),
            }
        })
    }

    /// The values of keys, in their order.
    #[inline]
    fn find_many<'py, T>(
        &self,
        py: Python<'py>,
        keys: &Keys<'py>,
        make: impl Fn(Bound<'py, PyAny>, Meta) -> T,
    ) -> PyResult<Vec<Option<T>>> {
        let slices = keys.slices()?;
        let mut values: Vec<Filled<'py>> = slices.iter().map(|_| Filled::new(py)).collect();
        let unknown = self.inner.peek_many_to(&slices, &mut values);
        let found = values.into_iter().map(Filled::found);
        let mut found: Vec<_> =
            found.map(|found| found.map(|(value, meta)| make(value, meta))).collect();
        if !unknown.is_empty() {
            let asked: Vec<&[u8]> =
                unknown.iter().filter_map(|&at| slices.get(at).copied()).collect();
            let answers = py.detach(|| self.inner.lookup_many(&asked));
            for (at, answer) in unknown.into_iter().zip(answers) {
                if let Some(place) = found.get_mut(at) {
                    let value = answer.or_raise(py)?.found();
                    *place = value.map(|value| make(bytes(py, &value), value.meta()));
                }
            }
        }
        Ok(found)
    }
}

#[cold]
pub(crate) fn no_memory(py: Python<'_>, no_room: NoRoom) -> PyErr {
    PyErr::take(py).unwrap_or_else(|| PyMemoryError::new_err(no_room.to_string()))
}
