//! Several keys at once.

use crate::client::{Client, check_key};
use crate::collect::{Collect, CollectKnown, Each, Owned};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::Intent;
use crate::reply::unexpected;
use crate::reports;
use crate::shared::Patience;
use crate::table::BATCH_KEYS;
use crate::value::{Lookup, Value};
use crate::values::Values;
use l1d_wire::protocol::{Request, Response, frame};
use shm_layout::NoHit;
use std::cell::{Cell, OnceCell};

impl Client {
    /// The values of many keys, in the order of the keys. Those that the table does not hold are
    /// requested from the daemon together. [`get_many_into`](Self::get_many_into) is faster: it
    /// allocates nothing.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let prices = cache.get_many(&["market:BTC", "market:ETH"])?;
    /// println!("{} of 2", prices.iter().flatten().count());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`get`](Self::get); one key that cannot be answered fails the call, and the
    /// error names it. [`lookup_many`](Self::lookup_many) answers the other keys all the same.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>, Error> {
        let mut owned = Owned::with_room_for(keys.len());
        self.collect(keys, &mut owned)?;
        Ok(owned.values)
    }

    /// [`lookup`](Self::lookup) for many keys at once, in the order asked: each has a result of its
    /// own, and one that fails does not keep the others from being answered.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// for price in cache.lookup_many(&["market:BTC", "market:ETH"]) {
    ///     match price {
    ///         Ok(price) => println!("{:?}", price.found()),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn lookup_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Lookup, Error>> {
        let mut each = Each::with_room_for(keys.len());
        // Each key has its own error, so the call as a whole has none.
        let _ = self.collect(keys, &mut each);
        each.results
    }

    /// [`get_many`](Self::get_many) into the caller's `values`, whose content is replaced and whose
    /// memory is used again.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut values = l1d_client::Values::new();
    /// let keys = ["market:BTC", "market:ETH"];
    /// cache.get_many_into(&keys, &mut values)?;
    /// for (key, value) in keys.iter().zip(values.iter()) {
    ///     println!("{key}: {} bytes", value.map_or(0, <[u8]>::len));
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`get_many`](Self::get_many); `values` then holds those of some keys.
    #[inline]
    pub fn get_many_into<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        values: &mut Values,
    ) -> Result<(), Error> {
        values.clear();
        self.collect(keys, values)
    }

    #[inline]
    fn collect<K: AsRef<[u8]>>(&self, keys: &[K], values: &mut impl Collect) -> Result<(), Error> {
        let deadline = OnceCell::new();
        let deadline = || deadline.get_or_init(|| self.shared.deadline());
        let missing = self.collect_known(keys, || Patience::Until(deadline()), values);
        if missing.is_empty() { Ok(()) } else { self.ask_for(missing, deadline(), values) }
    }

    /// Collects what L1 knows of the keys. Returns those to ask the daemon for, with their indices.
    /// Attaches to another table if needed, within `patience`.
    #[inline(always)]
    pub(crate) fn collect_known<'k, 'd, K: AsRef<[u8]>>(
        &self,
        keys: &'k [K],
        patience: impl Fn() -> Patience<'d>,
        values: &mut impl CollectKnown,
    ) -> Vec<(usize, &'k [u8])> {
        let mut missing = Vec::new();
        for (chunk, batch) in keys.chunks(BATCH_KEYS).enumerate() {
            let mut collect_anyway = |index: usize, no_hit, values: &mut _| {
                let key = batch.get(index).map_or(&[][..], AsRef::as_ref);
                if self.collect_anyway(no_hit, key, patience(), values) {
                    missing.push((chunk * BATCH_KEYS + index, key));
                }
            };
            let Some(table) = self.shared.table() else {
                for index in 0..batch.len() {
                    collect_anyway(index, NoHit::Detached, values);
                }
                continue;
            };
            let probes = table.prefetch_batch(batch);
            // One clock reading for all of them.
            let now = Cell::new(None);
            let clock = || {
                if now.get().is_none() {
                    now.set(table.daemon_clock());
                }
                now.get()
            };
            let (counts_together, mut hits) = (reports::is_far_from_due(batch.len()), 0);
            for (index, (key, probe)) in batch.iter().zip(probes).enumerate() {
                match values.read(table, probe, key.as_ref(), clock) {
                    Ok(()) if counts_together => {
                        hits += 1;
                        self.shared.note_counted_hit(table, key.as_ref());
                    }
                    Ok(()) => self.shared.note_hit(table, key.as_ref()),
                    Err(no_hit) => collect_anyway(index, no_hit, values),
                }
            }
            if counts_together {
                reports::count(hits);
            }
        }
        missing
    }

    /// Collects what L1 knows of the next key, which the fast path has not answered. Returns
    /// whether the daemon has to be asked.
    #[inline(never)]
    fn collect_anyway(
        &self,
        no_hit: NoHit,
        key: &[u8],
        patience: Patience<'_>,
        values: &mut impl CollectKnown,
    ) -> bool {
        let mut value = Vec::new();
        let known = self.peek_anyway((no_hit, true), key, &mut value, patience);
        !values.known(known, &value)
    }

    /// Asks the daemon for keys, which come with their indices.
    #[cold]
    fn ask_for(
        &self,
        mut missing: Vec<(usize, &[u8])>,
        deadline: &Deadline,
        values: &mut impl Collect,
    ) -> Result<(), Error> {
        let mut checked = Ok(());
        missing.retain(|&(index, key)| match check_key(key) {
            Ok(()) => true,
            Err(error) => {
                if checked.is_ok() {
                    checked = values.answer((index, Some(key)), &[], Err(error));
                }
                false
            }
        });
        checked?;
        let mut rest = missing.as_slice();
        while !rest.is_empty() {
            match self.ask_many(rest, deadline, values) {
                Ok(answered) => rest = rest.get(answered..).unwrap_or_default(),
                Err(error) => {
                    let mut indices = rest.iter().map(|(index, _)| *index);
                    return indices.try_for_each(|index| {
                        values.answer((index, None), &[], Err(error.clone()))
                    });
                }
            }
        }
        Ok(())
    }

    /// Asks for as many of `keys` as one request carries. How many keys were answered, at least
    /// one.
    fn ask_many(
        &self,
        keys: &[(usize, &[u8])],
        deadline: &Deadline,
        values: &mut impl Collect,
    ) -> Result<usize, Error> {
        let asked: Vec<_> = fitting(keys)
            .iter()
            .map(|&(index, key)| (index, key, self.shared.process().begin_read(key)))
            .collect();
        let request = Request::GetMany { keys: asked.iter().map(|&(_, key, _)| key).collect() };
        self.shared.ask(&request, Intent::Read, deadline, |response| {
            let answers = match response {
                Response::Many(answers) => answers,
                other => return Err(unexpected(&other)),
            };
            if answers.is_empty() || answers.len() > asked.len() {
                let reason = format!("{} answers to {} keys", answers.len(), asked.len());
                return Err(Error::internal(reason));
            }
            let mut value = Vec::new();
            for ((index, key, ticket), answer) in asked.iter().zip(&answers) {
                let answer = self.take_answer(ticket.as_ref(), key, answer, &mut value);
                values.answer((*index, Some(key)), &value, answer)?;
            }
            Ok(answers.len())
        })
    }
}

/// As many of the first of `keys` as one request carries.
pub(crate) fn fitting<'a, 'k>(keys: &'a [(usize, &'k [u8])]) -> &'a [(usize, &'k [u8])] {
    let mut key_bytes = 0_usize;
    let fits = |(_, key): &&(usize, &[u8])| {
        key_bytes = key_bytes.saturating_add(key.len());
        key_bytes <= frame::MANY_KEY_BYTES
    };
    let count = keys.iter().take(frame::MANY_KEYS).take_while(fits).count();
    keys.get(..count).unwrap_or_default()
}
