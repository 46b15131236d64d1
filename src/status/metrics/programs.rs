//! Sums over the clients of a user that run the same program.

use super::list::PROGRAM;
use crate::ctl;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Users with their programs that are told apart. Every local user can add some by giving a
/// process another name, so their number is bounded: clients of any others count as `other`.
const PROGRAMS_MAX: usize = 50;
/// One user's part of that.
const PROGRAMS_PER_USER_MAX: usize = 20;

/// A user's number, and a program's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Program {
    pub(super) uid: String,
    pub(super) name: String,
}

/// Counts in the order of [`PROGRAM`].
type Counts = [u64; PROGRAM.len()];

/// Sums by program. They only rise: a client that has gone leaves its part.
#[derive(Debug, Default)]
pub(super) struct Programs {
    sums: BTreeMap<Program, Counts>,
    /// What each process had counted when it was last seen.
    processes: HashMap<(i64, String), (Program, Counts)>,
}

impl Programs {
    /// Takes the clients of now into account, and returns their number by program.
    pub(super) fn follow(&mut self, clients: &[Value]) -> BTreeMap<Program, u64> {
        let mut now: HashMap<(i64, String), Counts> = HashMap::new();
        let mut connections: HashMap<(i64, String), u64> = HashMap::new();
        for client in clients {
            let pid = client["pid"].as_i64().unwrap_or(0);
            let process = (pid, client["uid"].to_string());
            let counts = now.entry(process.clone()).or_default();
            for (count, metric) in counts.iter_mut().zip(PROGRAM) {
                let pointer = format!("/{}", metric.path.replace('.', "/"));
                let value = client.pointer(&pointer).and_then(Value::as_u64).unwrap_or(0);
                *count = count.saturating_add(value);
            }
            *connections.entry(process).or_default() += 1;
        }
        let mut order: Vec<_> = now.into_iter().collect();
        // The busiest come first, in case that not all find room.
        order.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().max().copied()));
        let before = std::mem::take(&mut self.processes);
        let mut numbers = BTreeMap::new();
        for (process, counts) in order {
            let (program, last) = match before.get(&process) {
                Some((program, last)) => (program.clone(), *last),
                None => (self.program(&process), Counts::default()),
            };
            let sums = self.sums.entry(program.clone()).or_default();
            for ((sum, now), last) in sums.iter_mut().zip(counts).zip(last) {
                // Less than before: one of its connections has ended.
                *sum = sum.saturating_add(now.saturating_sub(last));
            }
            *numbers.entry(program.clone()).or_default() += connections[&process];
            self.processes.insert(process, (program, counts));
        }
        numbers
    }

    /// Each program that was ever seen.
    pub(super) fn sums(&self) -> impl Iterator<Item = (&Program, &Counts)> {
        self.sums.iter()
    }

    fn program(&self, (pid, uid): &(i64, String)) -> Program {
        let program = Program { uid: uid.clone(), name: name(*pid) };
        let of_user = self.sums.keys().filter(|known| known.uid == *uid).count();
        let has_room = self.sums.len() < PROGRAMS_MAX && of_user < PROGRAMS_PER_USER_MAX;
        match self.sums.contains_key(&program) || has_room {
            true => program,
            false => Program { uid: "other".to_owned(), name: "other".to_owned() },
        }
    }
}

/// The name of a process's program. A daemon whose unit hides other users' processes from it does
/// not know it.
fn name(pid: i64) -> String {
    ctl::program(pid).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn client(pid: u32, uid: u32, requests: u64) -> Value {
        json!({ "pid": pid, "uid": uid, "requests": requests, "client_reported": { "hits": 5 } })
    }

    fn requests(programs: &Programs) -> u64 {
        programs.sums().map(|(_, counts)| counts[1]).sum()
    }

    /// The hazard: a sum that falls when a client leaves, or counts it twice when it stays.
    #[test]
    fn what_a_client_has_counted_stays_when_it_goes() {
        let mut programs = Programs::default();
        let own = std::process::id();
        for (clients, sum) in [
            (vec![client(own, 7, 10)], 10),
            (vec![client(own, 7, 12)], 12),
            (vec![client(own, 7, 12), client(own, 7, 3)], 15),
            (vec![client(own, 7, 13)], 15),
            (vec![], 15),
            (vec![client(own, 7, 4)], 19),
        ] {
            let numbers = programs.follow(&clients);
            assert_eq!(numbers.values().sum::<u64>(), clients.len() as u64);
            assert_eq!(requests(&programs), sum, "{clients:?}");
        }
        let (program, _) = programs.sums().next().unwrap();
        assert_eq!(program.name, name(own.into()));
        assert_eq!(programs.sums().count(), 1);
    }

    /// The hazard: labels without bound.
    #[test]
    fn programs_beyond_the_bound_count_together() {
        let mut programs = Programs::default();
        let clients: Vec<_> = (1..200).map(|uid| client(0, uid, 1)).collect();
        for _ in 0..3 {
            programs.follow(&clients);
        }
        assert_eq!((programs.sums().count(), requests(&programs)), (PROGRAMS_MAX + 1, 199));
    }
}
