//! Types and ranges of single values.

use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::DeValue;

use super::section::{Wrong, nearest};
use super::units::{parse_duration, parse_mode, parse_share, parse_size, show_duration, show_size};

/// A non-empty text.
pub(super) fn text<'a>(value: &'a DeValue<'_>, example: &str) -> Result<&'a str, Wrong> {
    match value.as_str() {
        Some("") => Err(Wrong::new("is empty", quoted(example))),
        Some(text) => Ok(text),
        None => Err(Wrong::new(format!("{} is not a text", show(value)), quoted(example))),
    }
}

/// A duration in `range`.
pub(super) fn duration(
    value: &DeValue<'_>,
    range: RangeInclusive<Duration>,
    example: &str,
) -> Result<Duration, Wrong> {
    let duration = value
        .as_str()
        .and_then(parse_duration)
        .ok_or_else(|| Wrong::new(format!("{} is not a duration", show(value)), quoted(example)))?;
    bounded(value, duration, range, show_duration)
}

/// A size in `range`: a text with a unit or a number of bytes.
pub(super) fn size(
    value: &DeValue<'_>,
    range: RangeInclusive<u64>,
    example: &str,
) -> Result<u64, Wrong> {
    let size = match value {
        DeValue::String(text) => parse_size(text),
        DeValue::Integer(_) => integer(value),
        _ => None,
    };
    let size =
        size.ok_or_else(|| Wrong::new(format!("{} is not a size", show(value)), quoted(example)))?;
    bounded(value, size, range, show_size)
}

/// A share of the table in thousandths: a percentage from 0.1% to 100%.
pub(super) fn share(value: &DeValue<'_>, example: &str) -> Result<u16, Wrong> {
    let wrong = |what: &str| Wrong::new(format!("{} {what}", show(value)), quoted(example));
    let permille = value.as_str().and_then(parse_share);
    match permille.ok_or_else(|| wrong("is not a share in percent, to one decimal"))? {
        0 => Err(wrong("is a share of nothing; a share is at least 0.1%")),
        permille => u16::try_from(permille)
            .ok()
            .filter(|&permille| permille <= 1000)
            .ok_or_else(|| wrong("is more than the whole table; a share is at most 100%")),
    }
}

/// A whole number in `range`.
pub(super) fn count(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
    let count = integer(value).ok_or_else(|| {
        let example = range.start().max(&100).min(range.end());
        Wrong::new(format!("{} is not a whole number", show(value)), example.to_string())
    })?;
    let (least, most) = range.into_inner();
    match count {
        _ if count < least => Err(Wrong::new(format!("{count} is too few"), least.to_string())),
        _ if count > most => Err(Wrong::new(format!("{count} is too many"), most.to_string())),
        _ => Ok(count),
    }
}

/// A number that was read in a range that fits.
pub(super) fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A number that was read in a range that fits.
pub(super) fn as_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Permission bits: all of `least`, none beyond `most`.
pub(super) fn mode(
    value: &DeValue<'_>,
    least: u32,
    most: u32,
    example: &str,
) -> Result<u32, Wrong> {
    let wrong = |what: &str| Err(Wrong::new(format!("{} {what}", show(value)), quoted(example)));
    let mode = match value {
        DeValue::String(text) => parse_mode(text),
        // A decimal 640 is probably a mistake, so it is refused.
        DeValue::Integer(number) if number.radix() == 8 => {
            u32::from_str_radix(number.as_str(), 8).ok()
        }
        _ => None,
    };
    match mode {
        None => wrong("is not a mode in octal digits"),
        Some(mode) if mode & 0o002 != 0 => wrong("lets every user write"),
        Some(mode) if mode & !most != 0 => wrong(&format!("allows more than {most:04o}")),
        Some(mode) if mode & least != least => wrong(&format!("allows less than {least:04o}")),
        Some(mode) => Ok(mode),
    }
}

/// `true` or `false`.
pub(super) fn truth(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value
        .as_bool()
        .ok_or_else(|| Wrong::new(format!("{} is neither true nor false", show(value)), "true"))
}

/// One of several words.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let chosen = value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
    chosen.map(|(_, choice)| *choice).ok_or_else(|| {
        let all = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
        let near = value.as_str().and_then(|text| nearest(text, &words)).map(|(word, _)| word);
        let instead = near.or(words.first().copied()).map(quoted).unwrap_or_default();
        Wrong::new(format!("{} is none of {all}", show(value)), instead)
    })
}

/// A value as it is written in the text, shortened if it is long.
pub(super) fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() > 80 => {
            format!("{:?}...", text.chars().take(80).collect::<String>())
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "[...]".to_owned(),
        DeValue::Table(_) => "{...}".to_owned(),
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// `quantity`, unless it is more than `most`, which is that of another setting.
pub(super) fn within<T: PartialOrd + Copy>(
    value: &DeValue<'_>,
    quantity: T,
    (most, setting): (T, &str),
    show_quantity: impl Fn(T) -> String,
) -> Result<T, Wrong> {
    if quantity <= most {
        return Ok(quantity);
    }
    let bound = show_quantity(most);
    let what = format!("{} is more than {bound}, which is the {setting}", show(value));
    Err(Wrong::new(what, quoted(&bound)))
}

fn bounded<T: PartialOrd + Copy>(
    value: &DeValue<'_>,
    quantity: T,
    range: RangeInclusive<T>,
    show_quantity: impl Fn(T) -> String,
) -> Result<T, Wrong> {
    let wrong = |relation: &str, bound: T| {
        let bound = show_quantity(bound);
        Err(Wrong::new(format!("{} is {relation} {bound}", show(value)), quoted(&bound)))
    };
    let (least, most) = range.into_inner();
    match quantity {
        _ if quantity < least => wrong("less than", least),
        _ if quantity > most => wrong("more than", most),
        _ => Ok(quantity),
    }
}
