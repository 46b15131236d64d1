//! Atomic operations without holding up a thread.

use crate::async_client::{AsyncClient, answer};
use crate::error::Error;
use crate::outcome::{Count, CounterOptions, OperationOptions, Outcome};
use crate::value::{Lifetime, Token, Value};

/// A method for each operation, which awaits the answer to the [`Client`](crate::Client)'s request.
macro_rules! operations {
    ($($name:ident = $request:ident($($argument:ident: $of:ty),*) -> $given:ty,
        $example:literal;)*) => {
        /// Atomic operations, which are those of [`Client`](crate::Client).
        impl AsyncClient {$(
            #[doc = concat!("Like [`Client::", stringify!($name), "`](crate::Client::",
                stringify!($name), ").\n\n```no_run\n\
                # async fn run() -> Result<(), l1d_client::Error> {\n\
                # let client = l1d_client::Client::connect(\"/run/l1d/l1d.sock\")?;\n\
                # let cache = l1d_client::AsyncClient::from(client);\n",
                $example, "\n# Ok(())\n# }\n```\n\n# Errors\n\nThe same as there.")]
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
    add = request_add(value: impl AsRef<[u8]>, options: &OperationOptions) -> Outcome,
        r#"let outcome = cache.add("lock", "me", &Default::default()).await?;"#;
    replace = request_replace(value: impl AsRef<[u8]>, options: &OperationOptions) -> Outcome,
        r#"let outcome = cache.replace("market:BTC", "64000", &Default::default()).await?;"#;
    compare_and_set = request_compare_and_set(
        token: Token, value: impl AsRef<[u8]>, options: &OperationOptions
    ) -> Outcome,
        r#"# let token = l1d_client::Token::of_version(17).unwrap();
let options = Default::default();
let outcome = cache.compare_and_set("lock", token, "mine", &options).await?;"#;
    delete_if = request_delete_if(token: Token) -> Outcome,
        r#"# let token = l1d_client::Token::of_version(17).unwrap();
let outcome = cache.delete_if("lock", token).await?;"#;
    append = request_append(bytes: impl AsRef<[u8]>) -> Outcome,
        r#"let outcome = cache.append("log:today", "last line").await?;"#;
    prepend = request_prepend(bytes: impl AsRef<[u8]>) -> Outcome,
        r#"let outcome = cache.prepend("log:today", "first line").await?;"#;
    increment = request_increment(by: i64, options: &CounterOptions) -> Outcome<Count>,
        r#"let outcome = cache.increment("visits", 1, &Default::default()).await?;"#;
    decrement = request_decrement(by: i64, options: &CounterOptions) -> Outcome<Count>,
        r#"let outcome = cache.decrement("stock:17", 1, &Default::default()).await?;"#;
    touch = request_touch(lifetime: Lifetime) -> Outcome,
        r#"let outcome = cache.touch("session:7", l1d_client::Lifetime::Rule).await?;"#;
    get_and_touch = request_get_and_touch(lifetime: Lifetime) -> Option<Value>,
        r#"let session = cache.get_and_touch("session:7", l1d_client::Lifetime::Rule).await?;"#;
}
