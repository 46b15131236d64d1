//! The line that begins a response.

use memcache::exp::{Error, MetaResponse, ReturnCode, parse_meta_result};

/// What a response says besides its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub rc: ReturnCode,
    /// Bytes of the data block that follows, without its line end.
    pub data_bytes: Option<usize>,
    /// Token of the command that is answered.
    pub opaque: Option<u32>,
    /// Remaining life in seconds; -1: without end.
    pub ttl: Option<i64>,
    pub client_flags: u32,
    /// The server's number for this value.
    pub unique: Option<u64>,
    /// The value was marked invalid.
    pub is_stale: bool,
    /// A client has been given the right to compute the value.
    pub is_leased: bool,
}

impl Header {
    /// Reads a response line without its line end.
    ///
    /// # Errors
    /// An error response, or a line that is no response.
    pub fn parse(line: &[u8]) -> Result<Header, Error> {
        match Header::parse_plain(line) {
            Some(header) => Ok(header),
            None => Header::parse_any(line),
        }
    }

    /// Nearly every response: nothing but the code, the length, and flags `O`, `t` and `f`. The
    /// crate's way takes a copy of each token: half of what a value found in L2 cost.
    fn parse_plain(line: &[u8]) -> Option<Header> {
        let mut tokens = line.split(|&byte| byte == b' ');
        let code = tokens.next().filter(|code| code.len() == 2)?;
        let rc = ReturnCode::from_wire(code).ok()?;
        if rc == ReturnCode::Me {
            return None;
        }
        let mut header = Header::of(rc);
        if rc == ReturnCode::Va {
            // A length over the server's own limit is for the crate to refuse.
            let bytes = number(tokens.next()?).filter(|bytes| *bytes <= VALUE_BYTES_MAX)?;
            header.data_bytes = Some(usize::try_from(bytes).ok()?);
        }
        for token in tokens {
            match token.split_first()? {
                (b'O', digits) => header.opaque = Some(number(digits)?),
                (b't', b"-1") => header.ttl = Some(-1),
                (b't', digits) => header.ttl = Some(number(digits)?.into()),
                (b'f', digits) => header.client_flags = number(digits)?,
                _ => return None,
            }
        }
        Some(header)
    }

    fn parse_any(line: &[u8]) -> Result<Header, Error> {
        let response = MetaResponse::parse_header(line)?;
        let rc = response.rc();
        // The crate has accepted the line, and keeps the length to itself.
        let length = || {
            let mut tokens = line.split(|&byte| byte == b' ').filter(|token| !token.is_empty());
            std::str::from_utf8(tokens.nth(1)?).ok()?.parse().ok()
        };
        let data_bytes = (rc == ReturnCode::Va).then(length).flatten();
        let result = parse_meta_result(response)?;
        let unique = line.split(|&byte| byte == b' ').skip(1);
        let unique = unique.filter_map(|token| token.strip_prefix(b"c")).next();
        let opaque = result.opaque.as_deref();
        Ok(Header {
            data_bytes,
            opaque: opaque.and_then(|opaque| std::str::from_utf8(opaque).ok()?.parse().ok()),
            ttl: result.ttl,
            client_flags: result.client_flags.unwrap_or(0),
            unique: unique.and_then(|unique| std::str::from_utf8(unique).ok()?.parse().ok()),
            is_stale: result.stale,
            is_leased: result.won || result.busy,
            ..Header::of(rc)
        })
    }

    fn of(rc: ReturnCode) -> Header {
        Header {
            rc,
            data_bytes: None,
            opaque: None,
            ttl: None,
            client_flags: 0,
            unique: None,
            is_stale: false,
            is_leased: false,
        }
    }
}

/// As the crate has it.
const VALUE_BYTES_MAX: u32 = 1 << 30;

/// A decimal number without a sign.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The hazard: the short way reads a line otherwise than the crate does.
    #[test]
    fn lines_mean_what_the_crate_says() {
        for line in [
            &b"VA 200 t30 f7 O12"[..],
            b"VA 0 t-1 f0 O4294967295",
            b"VA 5",
            b"EN",
            b"EN O3",
            b"HD O3",
            b"NS O3",
            b"NF O3",
            b"EX O3",
            b"MN",
        ] {
            let plain = Header::parse_plain(line).expect("the short way");
            assert_eq!(plain, Header::parse_any(line).unwrap());
        }
        for line in [
            &b"VA 3 t5 f0 O1 W"[..],
            b"VA 3 O1 X Z t5 f0",
            b"VA  3 O1",
            b"VA 3 s9 O1",
            b"VA 1073741825 O1",
            b"VA -3 O1",
            b"VA",
            b"VA x",
            b"VA 3 O",
            b"VA 3 Oabc",
            b"VA 3 f4294967296",
            b"SERVER_ERROR out of memory",
            b"ME key size=1",
            b"XX",
            b"",
        ] {
            assert_eq!(Header::parse_plain(line), None, "{}", String::from_utf8_lossy(line));
        }
        assert!(Header::parse(b"VA 3 t5 f0 O1 X").unwrap().is_stale);
        assert!(Header::parse(b"VA 0 t5 f0 O1 W").unwrap().is_leased);
        assert!(Header::parse(b"VA 1073741825 O1").is_err());
    }

    proptest! {
        #[test]
        fn any_line_means_what_the_crate_says(
            line in "(VA|EN|HD|MN|ME|XX) ?[0-9]{0,3}( (O|t|f|s|W|X)-?[0-9]{0,11}){0,4}"
        ) {
            if let Some(plain) = Header::parse_plain(line.as_bytes()) {
                prop_assert_eq!(plain, Header::parse_any(line.as_bytes()).unwrap());
            }
        }
    }
}
