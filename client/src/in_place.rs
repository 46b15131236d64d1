//! Reading a value in place.

use shm_layout::{InPlace, Mapped};

/// A value that [`Client::read_with`](crate::Client::read_with) passes to its closure: in the
/// shared table, where it may change during the call, or as the bytes that the daemon sent.
///
/// The closure's result is returned only after the table has confirmed that nothing changed; until
/// then the value may be torn, so the closure must not trust lengths or offsets in the value beyond
/// the checks of these methods.
///
/// Copies may leave the closure:
///
/// ```no_run
/// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
/// let mut kept = None;
/// cache.read_with(b"market:book", |book| kept = book.array::<8>(0))?;
/// # Ok::<(), l1d_client::Error>(())
/// ```
///
/// The view itself may not, neither through a variable nor as the result: the memory behind it may
/// belong to another key at any time.
///
/// ```compile_fail,E0521
/// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
/// let mut kept = None;
/// cache.read_with(b"market:book", |book| kept = Some(book))?;
/// # Ok::<(), l1d_client::Error>(())
/// ```
///
/// ```compile_fail
/// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
/// let kept = cache.read_with(b"market:book", |book| book)?;
/// # Ok::<(), l1d_client::Error>(())
/// ```
#[derive(Debug)]
pub struct ValueView<'a>(Place<'a>);

#[derive(Debug)]
enum Place<'a> {
    Table(InPlace<'a, Mapped>),
    Bytes(&'a [u8]),
}

impl<'a> ValueView<'a> {
    pub(crate) fn in_table(value: InPlace<'a, Mapped>) -> ValueView<'a> {
        ValueView(Place::Table(value))
    }

    pub(crate) fn of_bytes(bytes: &'a [u8]) -> ValueView<'a> {
        ValueView(Place::Bytes(bytes))
    }

    /// Its bytes.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let bytes = cache.read_with("market:book", |book| book.len())?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Table(value) => value.len(),
            Place::Bytes(bytes) => bytes.len(),
        }
    }

    /// The value is empty.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let is_empty = cache.read_with("market:book", |book| book.is_empty())?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies as many bytes as `into` has, from byte `offset` on. Whether the value has them; if
    /// not, `into` is as it was.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut header = [0; 16];
    /// let has_header = cache.read_with("market:book", |book| book.copy_to(0, &mut header))?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn copy_to(&self, offset: usize, into: &mut [u8]) -> bool {
        match &self.0 {
            Place::Table(value) => value.copy_to(offset, into),
            Place::Bytes(bytes) => {
                part(bytes, offset, into.len()).map(|from| into.copy_from_slice(from)).is_some()
            }
        }
    }

    /// The `N` bytes at byte `offset`, if the value has them.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let sequence = cache.read_with("market:book", |book| {
    ///     book.array(8).map(u64::from_le_bytes)
    /// })?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut array = [0; N];
        self.copy_to(offset, &mut array).then_some(array)
    }

    /// The value has `bytes` at byte `offset`.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let is_json = cache.read_with("market:book", |book| book.has_at(0, b"{"))?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn has_at(&self, offset: usize, bytes: &[u8]) -> bool {
        match &self.0 {
            Place::Table(value) => value.has_at(offset, bytes),
            Place::Bytes(own) => part(own, offset, bytes.len()) == Some(bytes),
        }
    }
}

fn part(bytes: &[u8], offset: usize, count: usize) -> Option<&[u8]> {
    bytes.get(offset..offset.checked_add(count)?)
}
