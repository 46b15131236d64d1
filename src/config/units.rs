//! Parses and formats durations, sizes, shares and modes.

use std::time::Duration;

/// Most digits of a number in a duration.
const DIGITS_MAX: u32 = 10;

/// `"30s"`, `"1h 30m"`. `None` for anything else, and for more than 10 digits of a unit, which no
/// cache needs.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    // The parser panics if its sum reaches 2^64 s; a few numbers of ten digits cannot.
    let mut figures = text.split(|c: char| !c.is_ascii_digit());
    if text.len() > 64 || figures.any(|figure| figure.len() > DIGITS_MAX as usize) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// `"256MiB"`, `"1.5GiB"`, `"4096"`; also decimal units (`"1MB"` is 10^6 bytes).
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64())
}

/// `"0640"`: permission bits in octal.
#[must_use]
pub fn parse_mode(text: &str) -> Option<u32> {
    let octal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    octal.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

/// `"20%"`, `"0.5%"`: a percentage with at most one decimal, in thousandths.
#[must_use]
pub fn parse_share(text: &str) -> Option<u64> {
    let figure = text.trim().strip_suffix('%')?.trim_end();
    let (whole, tenth) = figure.split_once('.').unwrap_or((figure, "0"));
    let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() > 9 || tenth.len() != 1 || !is_plain(whole) || !is_plain(tenth) {
        return None;
    }
    Some(whole.parse::<u64>().ok()? * 10 + tenth.parse::<u64>().ok()?)
}

/// The share in the syntax of [`parse_share`].
#[must_use]
pub fn show_share(permille: u16) -> String {
    match (permille / 10, permille % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, tenth) => format!("{whole}.{tenth}%"),
    }
}

/// The duration in the syntax of [`parse_duration`], in the largest unit that divides it.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let ns = duration.as_nanos();
    let unit = units.into_iter().map(|(ms, name)| (ms * 1_000_000_u128, name)).find(|(unit, _)| {
        ns >= *unit && ns.is_multiple_of(*unit) && ns / unit < 10_u128.pow(DIGITS_MAX)
    });
    match unit {
        Some((unit, name)) => format!("{}{name}", ns / unit),
        None => humantime::format_duration(duration).to_string(),
    }
}

/// The exact size in the syntax of [`parse_size`], in the largest unit that divides it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or(format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("1h 30m"), Some(Duration::from_secs(5400)));
        for wrong in ["", "2 parsecs", "30", "-1s", "s", "18446744073709551615s 1000ms"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_shown_as_people_write_them() {
        for text in ["365d", "24h", "90s", "5m", "1500ms"] {
            let duration = parse_duration(text).unwrap();
            let shown = show_duration(duration);
            assert_eq!(if text == "24h" { "1d" } else { text }, shown);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("256MiB"), Some(256 << 20));
        assert_eq!(parse_size("1.5 GiB"), Some(3 << 29));
        assert_eq!(parse_size("4096"), Some(4096));
        for wrong in ["", "MiB", "12 parsecs", "-1", "1e6"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
        assert_eq!(show_size(0), "0B");
    }

    #[test]
    fn shares() {
        for (text, permille) in [("20%", 200), ("0.5%", 5), ("100%", 1000), ("101 %", 1010)] {
            assert_eq!(parse_share(text), Some(permille), "{text}");
        }
        for wrong in ["", "%", "20", ".5%", "1.25%", "-1%", "1e1%", "a.b%", "9999999999%"] {
            assert_eq!(parse_share(wrong), None, "{wrong}");
        }
        for permille in [1, 10, 15, 1000] {
            assert_eq!(parse_share(&show_share(permille)), Some(permille.into()));
        }
    }

    #[test]
    fn modes() {
        assert_eq!(parse_mode("0640"), Some(0o640));
        for wrong in ["", "+640", "0o640", "rw-r-----", "0890", "-1", "77777777777777"] {
            assert_eq!(parse_mode(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(
            bytes in any::<u64>(),
            shift in 0..64_u32,
            ms in 0..1_u64 << 45,
        ) {
            let bytes = bytes >> shift << (shift / 2);
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }

        #[test]
        fn any_text_is_safe(text in "[0-9a-zµ.% ]{0,80}") {
            let _ = (parse_duration(&text), parse_size(&text));
            let _ = (parse_mode(&text), parse_share(&text));
        }
    }
}
