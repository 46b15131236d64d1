//! Several keys at once, for tokio.

use crate::async_client::{AsyncClient, answer};
use crate::client::{Client, check_key};
use crate::collect::Owned;
use crate::error::Error;
use crate::failure::Intent;
use crate::many::fitting;
use crate::pending::Pending;
use crate::reply::unexpected;
use crate::shared::Patience;
use crate::value::Value;
use l1d_wire::protocol::{Request, Response};

impl AsyncClient {
    /// Like [`Client::get_many`]; where the keys take several requests, each has the client's
    /// deadline.
    ///
    /// # Errors
    ///
    /// The same as for [`Client::get_many`].
    pub async fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>, Error> {
        let client = self.client();
        let mut known = Owned::with_room_for(keys.len());
        let missing = client.collect_known(keys, || Patience::None, &mut known);
        let mut values = known.values;
        for (_, key) in &missing {
            check_key(key)?;
        }
        let mut rest = missing.as_slice();
        while !rest.is_empty() {
            let answers = answer(client.request_many(fitting(rest))).await?;
            let (answered, unanswered) = rest.split_at(answers.len().min(rest.len()));
            for ((index, _), found) in answered.iter().zip(answers) {
                if let Some(place) = values.get_mut(*index) {
                    *place = found;
                }
            }
            rest = unanswered;
        }
        Ok(values)
    }
}

impl Client {
    /// Asks for these keys without waiting: the answer has the values of the first of them, at
    /// least one.
    fn request_many(&self, keys: &[(usize, &[u8])]) -> Pending<Vec<Option<Value>>> {
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
                let found = client.take_answer(ticket.as_ref(), key, answer, &mut value)?.found();
                Ok(found.map(|meta| Value::new(value, meta)))
            };
            asked.iter().zip(&answers).map(take).collect()
        };
        let request = Request::GetMany { keys: keys.iter().map(|&(_, key)| key).collect() };
        Pending::begin(self, &request, Intent::Read, Box::new(finish))
    }
}
