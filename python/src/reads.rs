//! Methods of `Client` that read, besides those in `fast`.

use crate::client::Client;
use crate::errors::OrRaise;
use crate::key::{self, Keys, bytes_of, with_prefix};
use crate::object::{NewBytes, bytes};
use crate::results::{self, Value};
use crate::view::View;
use l1d_client::{Lookup, Values};
use pyo3::exceptions::{PyKeyError, PyMemoryError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

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
        let (values, _) = self.find_many(py, keys)?;
        PyList::new(py, values.into_iter().map(|value| value.unwrap_or_else(|| default.clone())))
    }

    /// The values of those of the keys that have one, by key as it was given.
    fn get_dict<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        let (values, keys) = self.find_many(py, keys)?;
        for (key, value) in keys.iter().zip(values) {
            if let Some(value) = value {
                found.set_item(key, value)?;
            }
        }
        Ok(found)
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
                Err(no_room) => {
                    Err(PyErr::take(py)
                        .unwrap_or_else(|| PyMemoryError::new_err(no_room.to_string())))
                }
            }
        })
    }

    fn find_many<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyAny>) -> PyResult<Found<'py>> {
        let objects = key_objects(keys)?;
        let mut joined = Keys::with_capacity(objects.len());
        for key in objects.iter() {
            joined.push(&self.prefix, &key)?;
        }
        let slices = joined.slices();
        let mut values = Values::new();
        let unknown = self.inner.peek_many_into(&slices, &mut values);
        let mut found: Vec<_> =
            values.iter().map(|value| value.map(|value| bytes(py, value))).collect();
        if !unknown.is_empty() {
            let asked: Vec<&[u8]> =
                unknown.iter().filter_map(|&at| slices.get(at).copied()).collect();
            let answers = py.detach(|| self.inner.lookup_many(&asked));
            for (at, answer) in unknown.into_iter().zip(answers) {
                if let Some(place) = found.get_mut(at) {
                    *place = answer.or_raise(py)?.found().map(|value| bytes(py, &value));
                }
            }
        }
        Ok((found, objects))
    }
}

/// The values, and the keys that they belong to.
type Found<'py> = (Vec<Option<Bound<'py, PyAny>>>, Bound<'py, PyList>);

/// The keys of a call for several.
///
/// # Errors
/// `TypeError` for a single key, whose letters are meant by nobody, and for what is no iterable.
pub(crate) fn key_objects<'py>(keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    if let Ok(list) = keys.cast_exact::<PyList>() {
        // Another thread may change it.
        return Ok(list.get_slice(0, list.len()).clone());
    }
    if keys.is_instance_of::<PyString>() || keys.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err("several keys are expected, not one: put it into a list"));
    }
    let list = PyList::empty(keys.py());
    for key in keys.try_iter()? {
        list.append(key?)?;
    }
    Ok(list)
}
