//! Flights: one fetch from the tiers for everyone on the host who misses a key (P1 to P3, P10).

use super::response::Waiter;
use crate::doors::Origin;
use rapidhash::RapidHashMap;
use slab::Slab;
use std::sync::Arc;

/// The most concurrent flights; one more is refused, and its requester gets an error.
pub(super) const FLIGHTS_MAX: usize = 8192;
/// The most waiters of one flight; one more is refused.
const WAITERS_MAX: usize = 10_000;
/// The most that one user's processes may have begun, where nothing else is configured: some are
/// left for others.
pub(super) const FETCHES_OF_USER_MAX: usize = FLIGHTS_MAX / 4 * 3;

/// A fetch in progress.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) key: Arc<[u8]>,
    /// Id of the key's rule.
    pub(super) rule: u8,
    /// The first requester, then those that joined. Most flights have one waiter.
    first: Waiter,
    others: Vec<Waiter>,
    /// The key had no set, delete or invalidation since the fetch began, so its value may be kept.
    pub(super) alive: bool,
    id: u64,
    /// The client that began it.
    client: Option<Client>,
}

/// A client, and how many fetches its user may have under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    /// Its connection.
    pub(super) origin: Origin,
    pub(super) uid: u32,
    pub(super) fetches_max: usize,
}

impl Flight {
    /// Everyone who waits.
    pub(super) fn waiters(&self) -> impl Iterator<Item = Waiter> {
        [self.first].into_iter().chain(self.others.iter().copied())
    }
}

/// All flights. The lower bits of a flight's number are its place, the others tell it from those
/// that had the place before.
#[derive(Debug, Default)]
pub(super) struct Flights {
    places: Slab<Flight>,
    /// The flights that new waiters join. Excludes killed ones.
    joinable: RapidHashMap<Arc<[u8]>, u64>,
    /// How many flights each connection has begun that have not ended.
    held: RapidHashMap<Origin, usize>,
    /// The same of each user.
    held_by_user: RapidHashMap<u32, usize>,
    pub(super) begun: u64,
    pub(super) joined: u64,
    pub(super) killed: u64,
}

/// The result of a miss.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Boarding {
    /// The waiter joined a flight in progress.
    Joined,
    /// A flight with this number was registered; fetch the key now.
    Begun(u64, Arc<[u8]>),
    /// Too many are waiting already, or this client has its share.
    Full,
    /// The client's user has as many as it may.
    OverQuota,
}

impl Flights {
    /// Makes `waiter`, of the connection `client`, wait for `key`, whose rule has the id `rule`. A
    /// flight is registered before its fetch is sent (P1).
    ///
    /// A client may hold as many flights as are free, so that one alone gets half of them, and
    /// however greedy the others are, there are some left for the next (dynamic thresholds,
    /// Choudhury and Hahne, 1998).
    pub(super) fn board(
        &mut self,
        key: &[u8],
        rule: u8,
        waiter: Waiter,
        client: Option<Client>,
    ) -> Boarding {
        if let Some(&id) = self.joinable.get(key)
            && let Some(flight) = self.get_mut(id)
        {
            if flight.others.len() + 1 >= WAITERS_MAX {
                return Boarding::Full;
            }
            flight.others.push(waiter);
            self.joined += 1;
            return Boarding::Joined;
        }
        let free = FLIGHTS_MAX.saturating_sub(self.count());
        let held = client.and_then(|client| self.held.get(&client.origin)).copied().unwrap_or(0);
        if held >= free {
            return Boarding::Full;
        }
        if let Some(client) = client {
            let held_by_user = self.held_by_user.entry(client.uid).or_default();
            if *held_by_user >= client.fetches_max {
                return Boarding::OverQuota;
            }
            *held_by_user += 1;
            self.held.insert(client.origin, held + 1);
        }
        let place = self.places.vacant_entry();
        let id = self.begun * FLIGHTS_MAX as u64 + place.key() as u64;
        let key: Arc<[u8]> = key.into();
        let (first, others) = (waiter, Vec::new());
        place.insert(Flight { key: key.clone(), rule, first, others, alive: true, id, client });
        self.joinable.insert(key.clone(), id);
        self.begun += 1;
        Boarding::Begun(id, key)
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Flight> {
        self.places.get_mut(place_of(id)).filter(|flight| flight.id == id)
    }

    /// Kills the flight of `key` (P2): its waiters still get its value, but the value is not kept,
    /// and later requests begin a new flight.
    pub(super) fn kill(&mut self, key: &[u8]) {
        // Every write comes here, and usually nothing is in flight.
        if self.joinable.is_empty() {
            return;
        }
        if let Some(id) = self.joinable.remove(key)
            && let Some(flight) = self.get_mut(id)
        {
            flight.alive = false;
            self.killed += 1;
        }
    }

    /// Kills the flights of all keys with this prefix.
    pub(super) fn kill_prefix(&mut self, prefix: &[u8]) {
        let before = self.joinable.len();
        self.joinable.retain(|key, _| !key.starts_with(prefix));
        self.killed += (before - self.joinable.len()) as u64;
        for (_, flight) in &mut self.places {
            flight.alive &= !flight.key.starts_with(prefix);
        }
    }

    /// Looks every key's rule up again: another policy is in force.
    pub(super) fn renumber(&mut self, rule: impl Fn(&[u8]) -> u8) {
        for (_, flight) in &mut self.places {
            flight.rule = rule(&flight.key);
        }
    }

    /// Ends a flight. Removes only its own record (P3).
    pub(super) fn land(&mut self, id: u64) -> Option<Flight> {
        self.get_mut(id)?;
        let flight = self.places.try_remove(place_of(id))?;
        if self.joinable.get(&flight.key) == Some(&id) {
            self.joinable.remove(&flight.key);
        }
        if let Some(client) = flight.client {
            release(&mut self.held, client.origin);
            release(&mut self.held_by_user, client.uid);
        }
        Some(flight)
    }

    /// The number of waiters in the joinable flight of `key`.
    pub(super) fn waiters(&self, key: &[u8]) -> usize {
        let flight = self.joinable.get(key).and_then(|&id| self.places.get(place_of(id)));
        flight.map_or(0, |flight| flight.waiters().count())
    }

    /// Number of flights in progress.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }
}

/// One less of those that `who` holds.
fn release<K: std::hash::Hash + Eq>(held: &mut RapidHashMap<K, usize>, who: K) {
    if let Some(count) = held.get_mut(&who) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            held.remove(&who);
        }
    }
}

fn place_of(id: u64) -> usize {
    usize::try_from(id % FLIGHTS_MAX as u64).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(connection: u64) -> Client {
        Client { origin: Origin(connection), uid: 7, fetches_max: usize::MAX }
    }

    fn begun(boarding: Boarding) -> u64 {
        match boarding {
            Boarding::Begun(id, _) => id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_who_miss_a_key_share_one_flight() {
        let mut flights = Flights::default();
        let id = begun(flights.board(b"k", 0, Waiter::Nobody, None));
        for _ in 0..99 {
            assert_eq!(flights.board(b"k", 0, Waiter::Nobody, None), Boarding::Joined);
        }
        assert_eq!(flights.land(id).unwrap().waiters().count(), 100);
        assert_eq!(flights.count(), 0);
    }

    #[test]
    fn a_killed_flight_is_not_joined_and_does_not_end_its_successor() {
        let mut flights = Flights::default();
        let old = begun(flights.board(b"k", 0, Waiter::Nobody, None));
        flights.kill(b"k");
        let new = begun(flights.board(b"k", 0, Waiter::Nobody, None));
        assert!(!flights.land(old).unwrap().alive);
        assert_eq!(flights.board(b"k", 0, Waiter::Nobody, None), Boarding::Joined);
        assert!(flights.land(new).unwrap().alive);
    }

    #[test]
    fn waiters_of_one_flight_are_bounded() {
        let mut flights = Flights::default();
        begun(flights.board(b"k", 0, Waiter::Nobody, None));
        for _ in 1..WAITERS_MAX {
            assert_eq!(flights.board(b"k", 0, Waiter::Nobody, None), Boarding::Joined);
        }
        assert_eq!(flights.board(b"k", 0, Waiter::Nobody, None), Boarding::Full);
    }

    #[test]
    fn greedy_clients_leave_flights_for_the_next_and_get_their_share_back() {
        let mut flights = Flights::default();
        let mut board = |client: u64, key: u64| {
            let client = Some(of(client));
            flights.board(&key.to_le_bytes(), 0, Waiter::Nobody, client) != Boarding::Full
        };
        let mut keys = 0..;
        let mut shares = Vec::new();
        for client in 1..=8 {
            let begun = keys.by_ref().take(FLIGHTS_MAX).take_while(|&key| board(client, key));
            shares.push(begun.count());
        }
        assert_eq!(shares[..4], [4096, 2048, 1024, 512]);
        assert!(shares.iter().all(|&share| share > 0), "{shares:?}");
        // Its own flights end, and it may begin others.
        let first = flights.board(b"other", 0, Waiter::Nobody, Some(of(1)));
        assert_eq!(first, Boarding::Full);
        let ids: Vec<u64> = flights.places.iter().map(|(_, flight)| flight.id).collect();
        for id in ids {
            flights.land(id);
        }
        assert!(flights.held.is_empty());
        begun(flights.board(b"other", 0, Waiter::Nobody, Some(of(1))));
    }

    /// The hazard: with enough connections, one user takes every place.
    #[test]
    fn the_connections_of_one_user_together_get_no_more_than_it_may() {
        let mut flights = Flights::default();
        let mut board = |connection: u64, uid: u32, key: u64| {
            let client = Client { origin: Origin(connection), uid, fetches_max: 10 };
            flights.board(&key.to_le_bytes(), 0, Waiter::Nobody, Some(client))
        };
        let boarded: Vec<_> = (0..20).map(|n| board(n, 7, n)).collect();
        assert_eq!(boarded.iter().filter(|it| matches!(it, Boarding::Begun(..))).count(), 10);
        assert_eq!(boarded[10], Boarding::OverQuota);
        assert!(matches!(board(99, 8, 99), Boarding::Begun(..)), "another user");
        assert_eq!(board(98, 7, 99), Boarding::Joined, "what others fetch costs nothing");
        let ids: Vec<u64> = flights.places.iter().map(|(_, flight)| flight.id).collect();
        for id in ids {
            flights.land(id);
        }
        assert!(flights.held_by_user.is_empty() && flights.held.is_empty());
    }
}
