//! What is served at which path.

use super::aggregates::aggregates;
use super::audience::Audience;
use super::figures::{Failure, Figures};
use super::history::Samples;
use super::metrics::{Format, Metrics};
use super::page::PAGE;
use super::query;
use super::reply::{HTML, JSON, Reply, TEXT, failed, found, wrong_method};
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use l1d_client::Identity;
use serde_json::Value;

/// Everything that answers are made from.
pub(super) struct Routes {
    pub(super) figures: Figures,
    pub(super) samples: Samples,
    pub(super) metrics: Metrics,
}

impl Routes {
    /// Answers a request, whose body is not read.
    /// `asker` is the process that asks, if the listener can tell.
    pub(super) async fn answer<B>(
        &self,
        request: &Request<B>,
        audience: Audience,
        asker: Option<&Identity>,
    ) -> Reply {
        if !is_meant(request, audience) {
            return failed(
                StatusCode::FORBIDDEN,
                "the Host header does not name this host and port; ask for http://127.0.0.1:PORT/",
            );
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return wrong_method();
        }
        self.get(request, audience, asker).await.unwrap_or_else(Reply::from)
    }

    async fn get<B>(
        &self,
        request: &Request<B>,
        audience: Audience,
        asker: Option<&Identity>,
    ) -> Result<Reply, Failure> {
        let figures = &self.figures;
        let path = request.uri().path();
        let is_for_readers = ["/api/clients", "/api/explain", "/api/advise"].contains(&path);
        if is_for_readers && !audience.sees_keys() {
            return Ok(only_for_readers(path));
        }
        let query = request.uri().query().unwrap_or_default();
        if is_for_readers && let Some(refusal) = self.refusal(path, query, asker).await? {
            return Ok(failed(StatusCode::FORBIDDEN, &refusal));
        }
        Ok(match path {
            "/" => found(HTML, PAGE),
            "/healthz" => match figures.stats().await {
                Err(failure @ Failure::NoAnswer(_)) => return Err(failure),
                // A refusal takes a turn of the owner's, too.
                _ => found(TEXT, "ok\n"),
            },
            "/readyz" => {
                figures.attach().await.map_err(|failure| Failure::NoAnswer(failure.to_string()))?;
                found(TEXT, "ok\n")
            }
            "/metrics" => {
                let format = Format::wanted(request.headers());
                let (snapshot, clients) = (figures.stats().await?, figures.clients().await?);
                let text = self.metrics.text(&snapshot, &clients, format);
                found(format.kind(), text.map_err(|error| Failure::NoAnswer(error.to_string()))?)
            }
            "/api/snapshot" => {
                let text = figures.stats().await?;
                let text = match audience.sees_keys() {
                    true => text.to_string(),
                    false => aggregates(&text)?,
                };
                found(JSON, text)
            }
            "/api/history" => {
                let history = serde_json::to_string(&self.samples.history());
                found(JSON, history.map_err(|error| Failure::NoAnswer(error.to_string()))?)
            }
            "/api/clients" => found(JSON, figures.named_clients().await?.to_string()),
            "/api/advise" => found(JSON, figures.advice().await?.to_string()),
            "/api/explain" => match query::key(query) {
                Ok(key) => found(JSON, figures.explain(key).await?.to_string()),
                Err(error) => error.into(),
            },
            _ => failed(
                StatusCode::NOT_FOUND,
                "nothing is here; there is /, /metrics, /healthz, /readyz, /api/snapshot, \
                 /api/history, and for readers /api/clients, /api/advise, /api/explain?key=",
            ),
        })
    }
}

impl Routes {
    /// Why the access rules do not let `asker` see this, if so.
    async fn refusal(
        &self,
        path: &str,
        query: &str,
        asker: Option<&Identity>,
    ) -> Result<Option<String>, Failure> {
        let Some(asker) = asker else {
            return Ok(Some("the system does not tell who asks".to_owned()));
        };
        let access = self.figures.access(asker.clone()).await?;
        let (uid, rule) = (asker.uid, access["rule"].as_str().unwrap_or_default());
        if access["attach"] != true || access["observe"] != true {
            return Ok(Some(format!(
                "user {uid} may not look at clients and keys ({rule}): have observe = true added to \
                 that rule, then run l1ctl policy reload"
            )));
        }
        let fetches = |key: &[u8]| match &access["fetch"] {
            Value::Array(prefixes) => prefixes.iter().any(|prefix| {
                prefix.as_str().is_some_and(|prefix| key.starts_with(prefix.as_bytes()))
            }),
            all => *all == true,
        };
        let asks_tiers = path == "/api/explain" && access["explain_asks_tiers"] == true;
        if asks_tiers && query::key(query).is_ok_and(|key| !fetches(&key)) {
            return Ok(Some(format!(
                "user {uid} may not have this key looked up in the tiers ({rule}): have its prefix \
                 added to fetch of that rule, then run l1ctl policy reload"
            )));
        }
        Ok(None)
    }
}

/// Whether the request names this listener, in its target and in its headers.
fn is_meant<B>(request: &Request<B>, audience: Audience) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let target = request.uri().authority().map(|authority| authority.as_str());
    hosts.next().is_none()
        && audience.is_meant(host)
        && target.is_none_or(|target| audience.is_meant(Some(target)))
}

fn only_for_readers(path: &str) -> Reply {
    let message = format!(
        "{path} is served on the status socket only, because any local user can ask here; \
         \"l1ctl page\" shows it in a browser"
    );
    failed(StatusCode::FORBIDDEN, &message)
}
