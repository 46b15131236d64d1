//! `get`, `set`, `delete`.

use super::{Failure, NOT_FOUND};
use crate::cli::{print, print_error};
use l1d_client::{Client, Deleted, Lifetime, SetOptions, WriteMode};
use l1d_wire::words;
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

/// The bytes of a key given on the command line.
pub(super) fn bytes(text: &str, hex: bool) -> Result<Vec<u8>, Failure> {
    if !hex {
        return Ok(text.as_bytes().to_vec());
    }
    let wrong = || {
        Failure::Usage(format!(
            "the key {text:?} is not an even number of hex digits; leave --hex out for text"
        ))
    };
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(wrong());
    }
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair.unwrap_or("?"), 16).map_err(|_| wrong())).collect()
}

pub(super) fn get(client: &Client, key: &[u8], json: bool) -> Result<ExitCode, Failure> {
    let Some(value) = client.get(key)? else {
        if json {
            print(line(&json!({ "found": false })))?;
        } else {
            print_error("not found: the key has no value, in L1 or in the tiers");
        }
        return Ok(ExitCode::from(NOT_FOUND));
    };
    if json {
        let meta = value.meta();
        print(line(&json!({ "found": true, "value": text_or_hex(&value), "flags": meta.flags,
            "version": meta.version })))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&*value)?;
    if std::io::stdout().is_terminal() {
        print("\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn set(
    client: &Client,
    key: &[u8],
    value: &str,
    (ttl, flags, l1_only): (Option<Lifetime>, u32, bool),
    json: bool,
) -> Result<ExitCode, Failure> {
    let bytes = content(value)?;
    let write = l1_only.then_some(WriteMode::L1Only);
    let lifetime = ttl.unwrap_or_default();
    let options = SetOptions { lifetime, flags, write, ..SetOptions::default() };
    let stored = client.set_with(key, &bytes, &options)?;
    if json {
        let mut answer = json!({ "version": stored.version, "degraded": stored.degraded });
        add_life(&mut answer, stored.shortened_to);
        print(line(&answer))?;
    } else {
        warn(stored.degraded, stored.shortened_to);
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells a person what a write did not get.
pub(super) fn warn(is_degraded: bool, shortened_to: Option<Duration>) {
    if is_degraded {
        print_error(
            "degraded: the value is stored, but not in every tier; `l1ctl tiers` shows which is \
             down",
        );
    }
    if let Some(life) = shortened_to {
        let life = humantime::format_duration(life);
        print_error(format_args!(
            "the value lives for {life} only, which is shorter than asked for: ttl_max or the \
             rule's ttl is the limit"
        ));
    }
}

/// Tells a program for how long a value lives, if that is shorter than was asked for.
pub(super) fn add_life(answer: &mut Value, shortened_to: Option<Duration>) {
    if let Some(life) = shortened_to {
        answer["shortened_to_seconds"] = json!(life.as_secs_f64());
    }
}

pub(super) fn delete(client: &Client, key: &[u8], json: bool) -> Result<ExitCode, Failure> {
    let Deleted { existed, degraded, .. } = client.delete(key)?;
    if json {
        print(line(&json!({ "existed": existed, "degraded": degraded })))?;
    } else {
        if degraded {
            print_error(
                "degraded: the key is deleted, but not in every tier; `l1ctl tiers` shows which is \
                 down",
            );
        }
        if !existed {
            print_error("not found: there was no value to delete, in L1 or in the tiers");
        }
    }
    Ok(if existed { ExitCode::SUCCESS } else { ExitCode::from(NOT_FOUND) })
}

/// A value given on the command line; "-" stands for standard input.
pub(super) fn content(value: &str) -> Result<Vec<u8>, Failure> {
    if value != "-" {
        return Ok(value.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|error| {
        let why = words::of(&error);
        let advice = "send the value there, or give it instead of \"-\"";
        Failure::Usage(format!("cannot read the value from standard input: {why}; {advice}"))
    })?;
    Ok(bytes)
}

/// A life as a person writes it.
pub(super) fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "forever" {
        return Ok(Lifetime::Forever);
    }
    let seconds = text.parse().ok().map(Duration::from_secs);
    let life = seconds.or_else(|| humantime::parse_duration(text).ok());
    life.map(Lifetime::For).ok_or_else(|| {
        "not a time; write for example 5s, \"1h 30m\", 30 (seconds) or forever".to_owned()
    })
}

pub(super) fn line(answer: &Value) -> String {
    format!("{answer}\n")
}

fn text_or_hex(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => json!({ "text": text }),
        Err(_) => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": hex })
        }
    }
}
