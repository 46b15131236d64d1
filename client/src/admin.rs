//! Requests of an administrator.

use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::Intent;
use crate::reply::unexpected;
use l1d_wire::protocol::{Identity, Request, Response};
use l1d_wire::snapshot::KeyOrder;
use std::time::Duration;

/// A move copies the whole table.
const RESIZE_DEADLINE: Duration = Duration::from_secs(600);
/// A check walks the whole table; so may a reload.
const WALK_DEADLINE: Duration = Duration::from_secs(60);

impl Client {
    /// The requests of an administrator.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().check_json()?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn admin(&self) -> Admin<'_> {
        Admin { client: self }
    }
}

/// Administrative requests, over the control socket. Answers are JSON documents, exactly as the
/// daemon wrote them.
///
/// ```no_run
/// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
/// println!("{}", cache.admin().stats_json()?);
/// # Ok::<(), l1d_client::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Admin<'a> {
    client: &'a Client,
}

impl Admin<'_> {
    /// Figures of the daemon.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().stats_json()?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::Deadline`], [`Error::Refused`], [`Error::Denied`].
    pub fn stats_json(&self) -> Result<String, Error> {
        self.json(&Request::Stats, &self.client.shared.deadline())
    }

    /// Figures of each connected client: the daemon's counts, and those that the client reports.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().clients_json()?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json).
    pub fn clients_json(&self) -> Result<String, Error> {
        self.json(&Request::Clients, &self.client.shared.deadline())
    }

    /// The policy and the entry of one key, as the daemon knows them.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().explain_json("market:BTC")?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json).
    pub fn explain_json(&self, key: impl AsRef<[u8]>) -> Result<String, Error> {
        self.json(&Request::Explain { key: key.as_ref() }, &self.client.shared.deadline())
    }

    /// Checks every invariant of the table. May take long: its deadline is a minute.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().check_json()?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json).
    pub fn check_json(&self) -> Result<String, Error> {
        self.json(&Request::Check, &self.client.shared.deadline_after(WALK_DEADLINE))
    }

    /// The policy in force.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().policy_json()?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json).
    pub fn policy_json(&self) -> Result<String, Error> {
        self.json(&Request::Policy, &self.client.shared.deadline())
    }

    /// Has the daemon read its configuration file again. Returns when the file's policy is in force
    /// for every process of the host, with what has changed, what was dropped and what needs a
    /// restart. Only for root, the daemon's
    /// own user, and whom an access rule grants `admin`.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().reload_policy()?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json). [`Error::Refused`]: the file cannot be
    /// read or has errors, which the message lists with their lines; nothing has changed.
    pub fn reload_policy(&self) -> Result<String, Error> {
        self.reload_policy_within(WALK_DEADLINE)
    }

    /// [`reload_policy`](Self::reload_policy) that waits no longer than `deadline`. The reload goes
    /// on in the daemon all the same, and its log tells how it ended.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let changes = cache.admin().reload_policy_within(Duration::from_secs(5))?;
    /// println!("{changes}");
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`reload_policy`](Self::reload_policy).
    pub fn reload_policy_within(&self, deadline: Duration) -> Result<String, Error> {
        let deadline = self.client.shared.deadline_after(deadline);
        let request = Request::ReloadPolicy;
        self.client.shared.ask_over_socket(&request, Intent::Write, &deadline, json)
    }

    /// The hit ratio that the table would have at other sizes, estimated from the reads since the
    /// daemon started.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().advise_json()?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json).
    pub fn advise_json(&self) -> Result<String, Error> {
        self.json(&Request::Advise, &self.client.shared.deadline())
    }

    /// What the daemon's access rules let a process do, and which rule holds for it; `of` is its
    /// user and groups, `None` this process.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().access_json(None)?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json). [`Error::Denied`]: this process may not
    /// ask about others.
    pub fn access_json(&self, of: Option<Identity>) -> Result<String, Error> {
        self.json(&Request::Access { of }, &self.client.shared.deadline())
    }

    /// The hottest or largest keys that begin with `prefix`, at most `top` of them, from samples that
    /// the daemon takes without holding anybody up.
    ///
    /// ```no_run
    /// use l1d_client::KeyOrder;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{}", cache.admin().keys_json("market:", 10, KeyOrder::Size)?);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json).
    pub fn keys_json(
        &self,
        prefix: impl AsRef<[u8]>,
        top: u16,
        by: KeyOrder,
    ) -> Result<String, Error> {
        let request = Request::Keys { prefix: prefix.as_ref(), top, by };
        self.json(&request, &self.client.shared.deadline())
    }

    /// Moves all entries to a table of another size, or with an index for entries of `entry_bytes`
    /// bytes (0: their current size), while reads and writes continue. `None` keeps the current
    /// size, or takes the configured entry size. Returns when the move is done; its deadline is ten
    /// minutes, after which the daemon continues the move. Only for root, the daemon's
    /// own user, and whom an access rule grants `admin`.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// // 2 GiB, and an index for entries of the configured size.
    /// let report = cache.admin().resize(Some(2 << 30), None)?;
    /// println!("{report}");
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json). [`Error::Refused`]: impossible sizes, or
    /// another move is in progress; the table is unchanged.
    pub fn resize(
        &self,
        table_bytes: Option<u64>,
        entry_bytes: Option<u32>,
    ) -> Result<String, Error> {
        let request = Request::Resize { table_bytes, entry_bytes };
        let deadline = self.client.shared.deadline_after(RESIZE_DEADLINE);
        self.client.shared.ask_over_socket(&request, Intent::Write, &deadline, json)
    }

    /// Makes every entry whose key begins with `prefix` invisible in the table and in this
    /// process's cache; an empty prefix means all entries. The tiers keep their values, and other
    /// processes' caches keep their keys of process scope.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// cache.admin().flush("market:")?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`stats_json`](Self::stats_json), and [`Error::UnknownOutcome`].
    pub fn flush(&self, prefix: impl AsRef<[u8]>) -> Result<(), Error> {
        let prefix = prefix.as_ref();
        let request = Request::Flush { prefix };
        let deadline = self.client.shared.deadline();
        let flushed =
            self.client.shared.ask_over_socket(&request, Intent::Write, &deadline, |response| {
                match response {
                    Response::Stored { .. } | Response::Deleted { .. } | Response::Json(_) => {
                        Ok(())
                    }
                    other => Err(unexpected(&other)),
                }
            });
        if let Some(process) = self.client.shared.process_if_any() {
            process.cache.forget(|key| key.starts_with(prefix));
        }
        flushed
    }

    fn json(&self, request: &Request<'_>, deadline: &Deadline) -> Result<String, Error> {
        self.client.shared.ask_over_socket(request, Intent::Read, deadline, json)
    }
}

fn json(response: Response<'_>) -> Result<String, Error> {
    match response {
        Response::Json(document) => Ok(document.to_owned()),
        other => Err(unexpected(&other)),
    }
}
