//! Values of the configuration: durations, sizes, modes.

use serde::{Deserialize, Deserializer, de};
use std::time::Duration;

/// A duration as people write it: "30s", "2m", "500ms".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Span).map_err(|_| {
            de::Error::custom(format!("{text:?} is not a duration; write for example \"30s\""))
        })
    }
}

/// A duration, or "forever".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(pub Option<Duration>);

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lifetime, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "forever" {
            return Ok(Lifetime(None));
        }
        humantime::parse_duration(&text).map(|span| Lifetime(Some(span))).map_err(|_| {
            de::Error::custom(format!(
                "{text:?} is not a duration; write for example \"1h\", or \"forever\""
            ))
        })
    }
}

/// A size as people write it: "256MiB", "1GiB", or plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Size(size.as_u64())),
            _ => Err(format!("{text:?} is not a size; write for example \"256MiB\"")),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A file mode in octal digits: "0640".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        let text = String::deserialize(deserializer)?;
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Mode(mode)),
            _ => Err(de::Error::custom(format!(
                "{text:?} is not a file mode; write for example \"0640\""
            ))),
        }
    }
}
