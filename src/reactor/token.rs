//! Tokens: the 64 bits that epoll hands back with an event.

/// The number that a descriptor is registered under. Doors and tiers have a range each and number
/// their own descriptors in it; the event loop's own has a token apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(u64);

/// The owner of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The descriptor of the signals to the daemon.
    Signals,
    /// The descriptor of a reading of the configuration.
    Config,
    /// A descriptor of the doors, by their number.
    Door(u64),
    /// A descriptor of the tiers, by their number.
    Tier(u64),
}

/// Bits of a number. The range is above them.
const NUMBER_BITS: u32 = 56;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

const DOORS: u64 = 0;
const TIERS: u64 = 1;
const LOOP: u64 = 2;

impl Token {
    /// For [`Source::Signals`].
    pub const SIGNALS: Token = Token::in_range(LOOP, 0);

    /// For [`Source::Config`].
    pub const CONFIG: Token = Token::in_range(LOOP, 1);

    /// For [`Source::Door`]. Numbers have 56 bits.
    #[must_use]
    pub const fn door(number: u64) -> Token {
        Token::in_range(DOORS, number)
    }

    /// For [`Source::Tier`]. Numbers have 56 bits.
    #[must_use]
    pub const fn tier(number: u64) -> Token {
        Token::in_range(TIERS, number)
    }

    /// The owner of the registration with this token.
    #[must_use]
    pub const fn source(self) -> Source {
        let number = self.0 & NUMBER_MASK;
        match self.0 >> NUMBER_BITS {
            DOORS => Source::Door(number),
            TIERS => Source::Tier(number),
            _ if self.0 == Token::CONFIG.0 => Source::Config,
            _ => Source::Signals,
        }
    }

    const fn in_range(range: u64, number: u64) -> Token {
        Token(range << NUMBER_BITS | number & NUMBER_MASK)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn from_bits(bits: u64) -> Token {
        Token(bits)
    }
}
