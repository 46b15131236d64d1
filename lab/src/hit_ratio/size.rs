//! A capacity as a share of the objects of a trace.

use super::contestant::Room;
use super::stream::Stream;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Thousandths of a percent, in a percent.
const PARTS: u64 = 1000;

/// Percent of all objects or bytes, to three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    parts: u64,
}

impl Size {
    /// The percentage as a number, for an axis.
    pub fn percent(self) -> f64 {
        self.parts as f64 / PARTS as f64
    }

    /// The capacity for this stream; at least one object.
    pub fn of(self, stream: &Stream) -> Room {
        let part = |whole: u64| {
            let part = u128::from(whole) * u128::from(self.parts) / u128::from(100 * PARTS);
            u64::try_from(part).unwrap_or(u64::MAX).max(1)
        };
        Room { capacity: part(stream.footprint()), objects: part(stream.objects() as u64) }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let form =
            || format!("{text:?} is no size: percent of a trace's objects, such as 5% or 0.5%");
        let figure = text.trim().strip_suffix('%').ok_or_else(form)?;
        let (whole, decimals) = figure.split_once('.').unwrap_or((figure, ""));
        let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 9 || decimals.len() > 3 {
            return Err(form());
        }
        if !is_plain(whole) || !is_plain(decimals) {
            return Err(form());
        }
        let parts = format!("{whole}{decimals:0<3}").parse::<u64>().map_err(|_| form())?;
        match parts {
            0 => Err("a size of 0 holds nothing".into()),
            parts if parts > 100 * PARTS => {
                Err(format!("{text} is more than the whole trace; a size is at most 100%"))
            }
            parts => Ok(Size { parts }),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent())
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.percent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_of_what_a_trace_asks_for() {
        let mut stream = Stream::new("x", (0..20_484).collect());
        let size = |text: &str| text.parse::<Size>().unwrap();
        assert_eq!(size("1%").of(&stream), Room { capacity: 204, objects: 204 });
        assert_eq!(size("0.125%").of(&stream).capacity, 25);
        assert_eq!(size("100%").of(&stream).capacity, 20_484);
        assert_eq!(size("0.001%").of(&stream).capacity, 1);
        stream.sizes = Some(vec![10; 20_484]);
        assert_eq!(size("5%").of(&stream), Room { capacity: 10_242, objects: 1024 });
        for bad in [
            "0%",
            "0.000%",
            "100.001%",
            "101%",
            "5",
            "",
            "%",
            "-1%",
            "+1%",
            "1e1%",
            "1.2345%",
            "x%",
            ".5%",
            "99999999999%",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
