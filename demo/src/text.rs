//! Numbers formatted for people.

/// 1234567 as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds in a suitable unit.
pub fn duration_ns(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", three_digits(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", three_digits(value / 1e6)),
        _ => format!("{} s", three_digits(value / 1e9)),
    }
}

/// Microseconds in a suitable unit.
pub fn duration_us(us: u64) -> String {
    duration_ns(us.saturating_mul(1000))
}

/// A share of 0 to 1 in percent. Only exactly 1 becomes 100 %.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 99.9 && share < 1.0 {
        return ">99.9 %".to_owned();
    }
    format!("{percent:.1} %")
}

/// Bytes in a suitable unit.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn three_digits(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_read_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [400, 1_500, 23_400, 5_000_000, 30_040_000_000].map(duration_ns),
            ["400 ns", "1.5 µs", "23 µs", "5.0 ms", "30 s"]
        );
        assert_eq!([1.0, 0.999_99, 0.5].map(percent), ["100.0 %", ">99.9 %", "50.0 %"]);
        assert_eq!([10, 2048, 3 << 20].map(bytes), ["10 B", "2 KiB", "3.0 MiB"]);
    }
}
