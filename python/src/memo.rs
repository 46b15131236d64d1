//! Decoded objects that are compared with the table at every use.

use crate::client::Client;
use crate::errors::OrRaise;
use crate::object::{NewBytes, bytes};
use crate::reads::no_memory;
use l1d_client::{Lookup, MemoError, Meta};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A small cache of what values decode to, in one process. Every use asks the table whether the
/// object's value is still the key's.
///
/// `decode(data, flags)` returns the object and whether it may be handed out again. One that may
/// not is made each time, by `load(data, flags)`.
#[pyclass(frozen, module = "l1d._l1d")]
pub(crate) struct Memo {
    client: Py<Client>,
    decode: Py<PyAny>,
    load: Py<PyAny>,
    objects: l1d_client::Memo<Object>,
}

/// What a memo has of a key.
pub(crate) enum Held<'py> {
    Object(Bound<'py, PyAny>),
    /// Its object may not be handed out twice.
    Unshared,
    Nothing,
}

/// What is kept of a key.
enum Object {
    Shared(Py<PyAny>),
    /// Its object may not be handed out twice.
    Unshared,
}

#[pymethods]
impl Memo {
    #[new]
    fn new(
        py: Python<'_>,
        client: Py<Client>,
        capacity: usize,
        decode: Py<PyAny>,
        load: Py<PyAny>,
    ) -> PyResult<Memo> {
        let objects = l1d_client::Memo::new(&client.get().inner, capacity).or_raise(py)?;
        Ok(Memo { client, decode, load, objects })
    }
}

impl Memo {
    #[inline(always)]
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.client.get().prefix
    }

    /// What is here of `key`, and current.
    #[inline(always)]
    pub(crate) fn held<'py>(&self, py: Python<'py>, key: &[u8]) -> Held<'py> {
        match self.objects.held(key).as_deref() {
            Some(Object::Shared(object)) => Held::Object(object.bind(py).clone()),
            Some(Object::Unshared) => Held::Unshared,
            None => Held::Nothing,
        }
    }

    /// The object of `key`, which is not kept, made from what L1 or else the daemon has. The memo has
    /// counted the hit already.
    ///
    /// # Errors
    /// The client's, or what `load` raises.
    pub(crate) fn load<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        asks: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let client = &self.client.get().inner;
        let mut object = NewBytes::new(py);
        let known = client.peek_again_to(key, &mut object);
        let (value, flags) = match known {
            Ok(Lookup::Found(meta)) => (object.into_bound()?, meta.flags),
            Ok(Lookup::Absent) => return Ok(None),
            Err(no_room) => return Err(no_memory(py, no_room)),
            Ok(Lookup::Unknown) => {
                let find = || if asks { client.lookup(key) } else { Ok(client.peek_lookup(key)) };
                match py.detach(find).or_raise(py)? {
                    Lookup::Found(value) => (bytes(py, &value), value.meta().flags),
                    Lookup::Absent | Lookup::Unknown => return Ok(None),
                }
            }
        };
        Ok(Some(self.load.bind(py).call1((value, flags))?))
    }

    /// The object of `key`, decoded if need be.
    ///
    /// # Errors
    /// The client's, or what `decode` raises.
    #[cold]
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        asks: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut fresh = None;
        let decoded = py.detach(|| {
            let decode = |value: &[u8], meta| {
                Python::attach(|py| {
                    let (object, is_shared) = self.decoded(py, value, meta)?;
                    let kept = if is_shared {
                        Object::Shared(object.clone_ref(py))
                    } else {
                        Object::Unshared
                    };
                    fresh = Some(object);
                    Ok::<_, PyErr>(kept)
                })
            };
            if asks {
                self.objects.decoded_with(key, decode)
            } else {
                self.objects.peeked_with(key, decode)
            }
        });
        let kept = match decoded {
            Ok(kept) => kept,
            Err(MemoError::Cache(error)) => return Err(error).or_raise(py),
            Err(MemoError::Decode(error)) => return Err(error),
            Err(error) => return Err(crate::errors::named(py, "Error", &error.to_string())),
        };
        if let Some(fresh) = fresh {
            return Ok(Some(fresh.into_bound(py)));
        }
        match kept.as_deref() {
            None => Ok(None),
            Some(Object::Shared(object)) => Ok(Some(object.bind(py).clone())),
            Some(Object::Unshared) => self.load(py, key, asks),
        }
    }

    fn decoded(&self, py: Python<'_>, value: &[u8], meta: Meta) -> PyResult<(Py<PyAny>, bool)> {
        self.decode.bind(py).call1((PyBytes::new(py, value), meta.flags))?.extract()
    }
}
