//! Several keys at once without blocking: for programs with their own event loop.

use crate::client::{Client, check_key};
use crate::collect::{Collect, Each};
use crate::error::Error;
use crate::failure::Intent;
use crate::many::fitting;
use crate::pending::Pending;
use crate::reply::unexpected;
use crate::shared::Patience;
use crate::value::{Lookup, Value};
use l1d_wire::protocol::{Request, Response, frame};

/// A result for each key.
pub(crate) type Results = Vec<Result<Lookup, Error>>;

impl Client {
    /// [`lookup_many`](Self::lookup_many) without waiting for the daemon's answer, for as many of
    /// the first keys as one request carries: the answer has at least one result, if there are
    /// keys, and the caller asks again for the keys after these.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let keys = ["market:BTC", "market:ETH"];
    /// let mut results = Vec::new();
    /// while results.len() < keys.len() {
    ///     let mut pending = cache.request_many(&keys[results.len()..]);
    ///     // An event loop does other work meanwhile.
    ///     let answer = loop {
    ///         if let Some(answer) = pending.poll() {
    ///             break answer?;
    ///         }
    ///         std::thread::sleep(std::time::Duration::from_millis(1));
    ///     };
    ///     results.extend(answer);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Pending<Vec<Result<Lookup, Error>>> {
        // A request carries no more, and what the table has is not read twice.
        let keys = keys.get(..frame::MANY_KEYS).unwrap_or(keys);
        let (mut results, missing) = self.known_of(keys);
        if missing.is_empty() {
            return Pending::answered(self, Ok(results));
        }
        let indices: Vec<usize> = missing.iter().map(|&(index, _)| index).collect();
        self.request_missing(&missing, move |answers| {
            let mut results = std::mem::take(&mut results);
            let end = indices.get(answers.len()).copied().unwrap_or(results.len());
            results.truncate(end);
            put(&mut results, indices.iter().copied(), answers);
            results
        })
    }

    /// What L1 knows of the keys, and those to ask the daemon for, with their indices.
    pub(crate) fn known_of<'k, K: AsRef<[u8]>>(
        &self,
        keys: &'k [K],
    ) -> (Results, Vec<(usize, &'k [u8])>) {
        let mut known = Each::with_room_for(keys.len());
        let mut missing = self.collect_known(keys, || Patience::None, &mut known);
        missing.retain(|&(index, key)| match check_key(key) {
            Ok(()) => true,
            // It ends no call: each key has its own.
            Err(error) => known.answer((index, None), &[], Err(error)).is_err(),
        });
        (known.results, missing)
    }

    /// Asks for as many of the first of these keys as one request carries. Their results, at least
    /// one, go through `give`.
    pub(crate) fn request_missing<T: 'static>(
        &self,
        keys: &[(usize, &[u8])],
        mut give: impl FnMut(Results) -> T + Send + 'static,
    ) -> Pending<T> {
        let keys = fitting(keys);
        let process = self.shared.process();
        let asked: Vec<(Box<[u8]>, _)> =
            keys.iter().map(|&(_, key)| (key.into(), process.begin_read(key))).collect();
        let client = self.clone();
        let finish = move |response: Response<'_>| {
            let answers = match response {
                Response::Many(answers) => answers,
                other => return Err(unexpected(&other)),
            };
            if answers.is_empty() || answers.len() > asked.len() {
                let reason = format!("{} answers to {} keys", answers.len(), asked.len());
                return Err(Error::internal(reason));
            }
            let take = |((key, ticket), answer): (&(Box<[u8]>, Option<_>), &Response<'_>)| {
                let mut value = Vec::new();
                let found = client.take_answer(ticket.as_ref(), key, answer, &mut value)?;
                Ok(found.map(|meta| Value::new(value, meta)))
            };
            Ok(give(asked.iter().zip(&answers).map(take).collect()))
        };
        let request = Request::GetMany { keys: keys.iter().map(|&(_, key)| key).collect() };
        Pending::begin(self, &request, Intent::Read, Box::new(finish))
    }
}

/// Puts the answers at these indices of `results`.
pub(crate) fn put(results: &mut Results, indices: impl Iterator<Item = usize>, answers: Results) {
    for (index, answer) in indices.zip(answers) {
        if let Some(place) = results.get_mut(index) {
            *place = answer;
        }
    }
}
