//! Atomic operations without holding up a thread.

use crate::async_client::{AsyncClient, answer};
use crate::error::Error;
use crate::failure::Intent;
use crate::operations;
use crate::outcome::{Count, CounterOptions, OperationOptions, Outcome};
use crate::pending::Pending;
use crate::requests::Forgotten;
use crate::value::{Lifetime, Token, Value};
use l1d_wire::protocol::{Operate, Request, Response};

/// Atomic operations, which are those of [`Client`](crate::Client).
impl AsyncClient {
    /// Like [`Client::add`](crate::Client::add).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::add`](crate::Client::add).
    pub async fn add(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Result<Outcome, Error> {
        let operate = operations::add(key.as_ref(), value.as_ref(), options);
        answer(self.submit(&operate, operations::stored)).await
    }

    /// Like [`Client::replace`](crate::Client::replace).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::replace`](crate::Client::replace).
    pub async fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Result<Outcome, Error> {
        let operate = operations::replace(key.as_ref(), value.as_ref(), options);
        answer(self.submit(&operate, operations::stored)).await
    }

    /// Like [`Client::compare_and_set`](crate::Client::compare_and_set).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::compare_and_set`](crate::Client::compare_and_set).
    pub async fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        token: Token,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Result<Outcome, Error> {
        let operate = operations::compare_and_set(key.as_ref(), token, value.as_ref(), options);
        answer(self.submit(&operate, operations::stored)).await
    }

    /// Like [`Client::delete_if`](crate::Client::delete_if).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::delete_if`](crate::Client::delete_if).
    pub async fn delete_if(&self, key: impl AsRef<[u8]>, token: Token) -> Result<Outcome, Error> {
        let operate = operations::delete_if(key.as_ref(), token);
        answer(self.submit(&operate, operations::stored)).await
    }

    /// Like [`Client::append`](crate::Client::append).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::append`](crate::Client::append).
    pub async fn append(
        &self,
        key: impl AsRef<[u8]>,
        bytes: impl AsRef<[u8]>,
    ) -> Result<Outcome, Error> {
        let operate = operations::append(key.as_ref(), bytes.as_ref());
        answer(self.submit(&operate, operations::stored)).await
    }

    /// Like [`Client::prepend`](crate::Client::prepend).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::prepend`](crate::Client::prepend).
    pub async fn prepend(
        &self,
        key: impl AsRef<[u8]>,
        bytes: impl AsRef<[u8]>,
    ) -> Result<Outcome, Error> {
        let operate = operations::prepend(key.as_ref(), bytes.as_ref());
        answer(self.submit(&operate, operations::stored)).await
    }

    /// Like [`Client::increment`](crate::Client::increment).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::increment`](crate::Client::increment).
    pub async fn increment(
        &self,
        key: impl AsRef<[u8]>,
        by: i64,
        options: &CounterOptions,
    ) -> Result<Outcome<Count>, Error> {
        let operate = operations::count(key.as_ref(), by, options);
        answer(self.submit(&operate, operations::counted)).await
    }

    /// Like [`Client::decrement`](crate::Client::decrement).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::decrement`](crate::Client::decrement).
    pub async fn decrement(
        &self,
        key: impl AsRef<[u8]>,
        by: i64,
        options: &CounterOptions,
    ) -> Result<Outcome<Count>, Error> {
        let operate = operations::count(key.as_ref(), operations::negative(by)?, options);
        answer(self.submit(&operate, operations::counted)).await
    }

    /// Like [`Client::touch`](crate::Client::touch).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::touch`](crate::Client::touch).
    pub async fn touch(&self, key: impl AsRef<[u8]>, lifetime: Lifetime) -> Result<Outcome, Error> {
        let operate = operations::touch(key.as_ref(), lifetime);
        answer(self.submit(&operate, operations::stored)).await
    }

    /// Like [`Client::get_and_touch`](crate::Client::get_and_touch).
    ///
    /// # Errors
    ///
    /// The same as for [`Client::get_and_touch`](crate::Client::get_and_touch).
    pub async fn get_and_touch(
        &self,
        key: impl AsRef<[u8]>,
        lifetime: Lifetime,
    ) -> Result<Option<Value>, Error> {
        let operate = operations::get_and_touch(key.as_ref(), lifetime);
        answer(self.submit(&operate, operations::touched)).await
    }

    fn submit<T: 'static>(
        &self,
        operate: &Operate<'_>,
        take: fn(&Response<'_>) -> Result<T, Error>,
    ) -> Pending<T> {
        let client = self.client();
        if let Err(error) = client.check_operate(operate) {
            return Pending::answered(client, Err(error));
        }
        let mut changed = Forgotten { client: client.clone(), key: operate.key.into() };
        changed.forget();
        let finish = move |response: Response<'_>| {
            changed.forget();
            take(&response)
        };
        let request = Request::Operate(operate.clone());
        Pending::begin(client, &request, Intent::Write, Box::new(finish))
    }
}
