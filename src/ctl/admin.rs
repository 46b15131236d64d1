//! `stats`, `explain`, `check`, `policy`: the daemon's JSON, or the same as text.

use super::{Failure, NOT_FOUND, other_release};
use crate::cli::print;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

pub(super) fn show(text: &str, json: bool) -> Result<ExitCode, Failure> {
    if json {
        print(format!("{text}\n"))?;
    } else {
        let mut page = String::new();
        lines(&mut page, &parse(text)?, 0);
        print(page)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The part of an explanation that concerns the rule.
pub(super) fn show_rule(text: &str, json: bool) -> Result<ExitCode, Failure> {
    let reasons = parse(text)?.get_mut("policy_reasons").map(Value::take).ok_or_else(|| {
        Failure::Usage("the daemon is too old to tell which rule holds; upgrade it".to_owned())
    })?;
    show(&reasons.to_string(), json)
}

pub(super) fn check(text: &str, json: bool) -> Result<ExitCode, Failure> {
    let violations =
        parse(text)?.get("violation_count").and_then(Value::as_u64).unwrap_or(u64::MAX);
    show(text, json)?;
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::from(NOT_FOUND) })
}

pub(super) fn parse(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|_| other_release("answer"))
}

/// Writes one name and value per line, nested ones indented.
fn lines(page: &mut String, value: &Value, indent: usize) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(fields) => {
            let width = fields.keys().map(String::len).max().unwrap_or(0);
            for (name, field) in fields {
                let name = name.replace('_', " ");
                match field {
                    Value::Object(_) | Value::Array(_) => {
                        let _ = writeln!(page, "{margin}{name}");
                        lines(page, field, indent + 2);
                    }
                    _ => {
                        let _ = writeln!(page, "{margin}{name:width$}  {}", plain(field));
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(_) | Value::Array(_) => {
                        let _ = writeln!(page, "{margin}-");
                        lines(page, item, indent + 2);
                    }
                    _ => {
                        let _ = writeln!(page, "{margin}- {}", plain(item));
                    }
                }
            }
        }
        _ => {
            let _ = writeln!(page, "{margin}{}", plain(value));
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number
            .as_f64()
            .filter(|_| number.is_f64())
            .map_or_else(|| number.to_string(), |figure| format!("{figure:.2}")),
        _ => value.to_string(),
    }
}
