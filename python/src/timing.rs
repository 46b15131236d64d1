//! The time that the client itself takes, without Python: the yardstick of `python/bench`.

use crate::client::Client;
use crate::errors::OrRaise;
use crate::key;
use pyo3::prelude::*;
use std::hint::black_box;
use std::time::Instant;

#[pymethods]
impl Client {
    /// Nanoseconds of one read of a key into memory that is used again: the mean of `count`.
    fn _time_peeks(&self, key: &Bound<'_, PyAny>, count: u32) -> PyResult<f64> {
        let key = key::owned(&self.prefix, key)?;
        let mut value = Vec::new();
        let begin = Instant::now();
        for _ in 0..count {
            black_box(self.inner.peek_into(black_box(&key), &mut value));
        }
        Ok(begin.elapsed().as_secs_f64() * 1e9 / f64::from(count))
    }

    /// Nanoseconds of one acknowledged set: the mean of `count`.
    fn _time_sets(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &[u8],
        count: u32,
    ) -> PyResult<f64> {
        let key = key::owned(&self.prefix, key)?;
        let begin = Instant::now();
        for _ in 0..count {
            self.inner.set(&key, value).or_raise(py)?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e9 / f64::from(count))
    }
}
