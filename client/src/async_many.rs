//! Several keys at once, for tokio.

use crate::async_client::{AsyncClient, answer};
use crate::error::Error;
use crate::many_requests::{Results, put};
use crate::value::{Lookup, Value};
use std::convert::identity;

impl AsyncClient {
    /// Like [`Client::get_many`](crate::Client::get_many); where the keys take several requests,
    /// each has the client's deadline.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// let prices = cache.get_many(&["market:BTC", "market:ETH"]).await?;
    /// println!("{} of 2", prices.iter().flatten().count());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::get_many`](crate::Client::get_many).
    pub async fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>, Error> {
        let (results, failure) = self.look_up(keys).await;
        let named = |(result, key): (Result<Lookup, Error>, &K)| {
            // One that concerns all keys is none's own.
            let key = failure.is_none().then_some(key.as_ref());
            result.map(Lookup::found).map_err(|error| error.of_key(key))
        };
        results.into_iter().zip(keys).map(named).collect()
    }

    /// Like [`Client::lookup_many`](crate::Client::lookup_many); where the keys take several
    /// requests, each has the client's deadline.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// for price in cache.lookup_many(&["market:BTC", "market:ETH"]).await {
    ///     match price {
    ///         Ok(price) => println!("{:?}", price.found()),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lookup_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Lookup, Error>> {
        self.look_up(keys).await.0
    }

    /// A result for each key, and the error that keys have which could not be asked for.
    async fn look_up<K: AsRef<[u8]>>(&self, keys: &[K]) -> (Results, Option<Error>) {
        let (mut results, missing) = self.client().known_of(keys);
        let mut rest = missing.as_slice();
        while !rest.is_empty() {
            let indices = rest.iter().map(|&(index, _)| index);
            match answer(self.client().request_missing(rest, identity)).await {
                Ok(answers) => {
                    let answered = answers.len();
                    put(&mut results, indices, answers);
                    rest = rest.get(answered..).unwrap_or_default();
                }
                Err(error) => {
                    put(&mut results, indices, vec![Err(error.clone()); rest.len()]);
                    return (results, Some(error));
                }
            }
        }
        (results, None)
    }
}
