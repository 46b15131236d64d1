//! A trace in the form that a replay needs: objects and their weights.

use crate::trace::Trace;

/// Requests for numbered objects.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// Its name in the report.
    pub name: String,
    /// Objects by number, in order.
    pub requests: Vec<u32>,
    /// Bytes of each object; `None`: each counts as 1.
    pub sizes: Option<Vec<u32>>,
    /// A table for this stream takes no larger object; `None`: the table decides.
    pub largest: Option<u32>,
    objects: usize,
}

impl Stream {
    /// A stream of objects `0..` of equal weight.
    pub fn new(name: &str, requests: Vec<u32>) -> Stream {
        let objects = requests.iter().max().map_or(0, |greatest| *greatest as usize + 1);
        Stream { name: name.into(), requests, sizes: None, largest: None, objects }
    }

    /// The requests of a trace.
    pub fn of(name: &str, trace: Trace) -> Stream {
        let objects = trace.keys.len();
        let Trace { requests, sizes, .. } = trace;
        Stream { name: name.into(), requests, sizes, largest: None, objects }
    }

    /// The number of objects.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// The share of a capacity that object `id` takes.
    pub fn weight(&self, id: u32) -> u32 {
        self.sizes.as_ref().map_or(1, |sizes| sizes.get(id as usize).copied().unwrap_or(1))
    }

    /// Weight of all objects together.
    pub fn footprint(&self) -> u64 {
        match &self.sizes {
            Some(sizes) => sizes.iter().map(|size| u64::from(*size)).sum(),
            None => self.objects as u64,
        }
    }
}
