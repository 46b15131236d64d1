//! Atomic operations without holding up a thread.

use crate::async_client::{AsyncClient, answer};
use crate::error::Error;
use crate::outcome::{Count, CounterOptions, OperationOptions, Outcome};
use crate::value::{Lifetime, Token, Value};

/// A method for each operation, which awaits the answer to the [`Client`](crate::Client)'s request.
macro_rules! operations {
    ($($name:ident = $request:ident($($argument:ident: $of:ty),*) -> $given:ty;)*) => {
        /// Atomic operations, which are those of [`Client`](crate::Client).
        impl AsyncClient {$(
            #[doc = concat!("Like [`Client::", stringify!($name), "`](crate::Client::",
                stringify!($name), ").\n\n# Errors\n\nThe same as there.")]
            pub async fn $name(
                &self,
                key: impl AsRef<[u8]>,
                $($argument: $of),*
            ) -> Result<$given, Error> {
                answer(self.client().$request(key, $($argument),*)).await
            }
        )*}
    };
}

operations! {
    add = request_add(value: impl AsRef<[u8]>, options: &OperationOptions) -> Outcome;
    replace = request_replace(value: impl AsRef<[u8]>, options: &OperationOptions) -> Outcome;
    compare_and_set = request_compare_and_set(
        token: Token, value: impl AsRef<[u8]>, options: &OperationOptions
    ) -> Outcome;
    delete_if = request_delete_if(token: Token) -> Outcome;
    append = request_append(bytes: impl AsRef<[u8]>) -> Outcome;
    prepend = request_prepend(bytes: impl AsRef<[u8]>) -> Outcome;
    increment = request_increment(by: i64, options: &CounterOptions) -> Outcome<Count>;
    decrement = request_decrement(by: i64, options: &CounterOptions) -> Outcome<Count>;
    touch = request_touch(lifetime: Lifetime) -> Outcome;
    get_and_touch = request_get_and_touch(lifetime: Lifetime) -> Option<Value>;
}
