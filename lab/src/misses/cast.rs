//! Everything that runs while one number of client processes is measured: servers, daemon,
//! forwarder, and the client processes of every contestant. Only one contestant's clients work at a
//! time.

use super::contestant::Contestant;
use super::options::MissesOptions;
use crate::compare::Servers;
use crate::daemon::{Daemon, TableShape};
use crate::process::Process;
use crate::scratch;
use crate::threads::process_cpu_ns;
use anyhow::{Context, Result};
use std::path::PathBuf;
use tempfile::TempDir;

/// Smaller than the data of a run, so that the table evicts, as it does in use.
const SHAPE: TableShape =
    TableShape { table_bytes: 64 << 20, value_bytes_max: 128 << 10, entry_bytes: 256 };

/// Everything that runs. Ends when dropped, clients first.
pub struct Cast {
    teams: Vec<Team>,
    forwarder: Option<(Process, TempDir)>,
    daemon: Option<Daemon>,
    /// memcached and Redis.
    pub servers: Servers,
}

/// The client processes of a contestant.
pub struct Team {
    /// The contestant.
    pub contestant: Contestant,
    /// Each with a connection that stays open.
    pub processes: Vec<Process>,
}

impl Cast {
    /// Starts everything and waits until all are connected.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(options: &MissesOptions, processes: u32) -> Result<Cast> {
        let takes_part = |contestant| options.contestants.contains(&contestant);
        let servers = Servers::start(options.distance)?;
        let daemon = takes_part(Contestant::L1d).then(|| start_daemon(options, &servers));
        let forwarder = takes_part(Contestant::Forwarder).then(|| start_forwarder(&servers));
        let mut cast = Cast {
            teams: Vec::new(),
            forwarder: forwarder.transpose()?,
            daemon: daemon.transpose()?,
            servers,
        };
        for &contestant in &options.contestants {
            let socket = cast.socket(contestant);
            let start = |number| start_worker(options, &cast.servers, contestant, &socket, number);
            let processes = (0..processes).map(start).collect::<Result<Vec<_>>>()?;
            cast.teams.push(Team { contestant, processes });
        }
        for process in cast.teams.iter_mut().flat_map(|team| &mut team.processes) {
            process.ready()?;
        }
        Ok(cast)
    }

    /// The client processes of a contestant.
    ///
    /// # Errors
    /// It does not take part.
    pub fn team(&mut self, contestant: Contestant) -> Result<&mut Team> {
        let team = self.teams.iter_mut().find(|team| team.contestant == contestant);
        team.context("a contestant without processes")
    }

    /// Processor time so far, in ns, of all processes that take part in a contestant's operations.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn cpu_ns(&self, contestant: Contestant) -> Result<u64> {
        let team = self.teams.iter().find(|team| team.contestant == contestant);
        let clients = team.iter().flat_map(|team| &team.processes).map(Process::pid);
        let between = match contestant {
            Contestant::Direct => None,
            Contestant::L1d => self.daemon.as_ref().map(Daemon::pid),
            Contestant::Forwarder => self.forwarder.as_ref().map(|(process, _)| process.pid()),
        };
        clients.chain(between).chain(self.servers.pids()).map(process_cpu_ns).sum()
    }

    /// The daemon's process id.
    ///
    /// # Errors
    /// l1d does not take part.
    pub fn daemon_pid(&self) -> Result<u32> {
        self.daemon.as_ref().map(Daemon::pid).context("no daemon takes part")
    }

    fn socket(&self, contestant: Contestant) -> Option<PathBuf> {
        match contestant {
            Contestant::Direct => None,
            Contestant::L1d => self.daemon.as_ref().map(Daemon::socket),
            Contestant::Forwarder => {
                self.forwarder.as_ref().map(|(_, home)| home.path().join("socket"))
            }
        }
    }
}

fn start_daemon(options: &MissesOptions, servers: &Servers) -> Result<Daemon> {
    // Redis keeps a value for an hour, so its TTL has to be asked for, as in production use of
    // TTLs.
    let rules = format!(
        "[l2]\naddress = \"{}\"\n\n[l3]\nurl = \"redis://{}\"\n\n[defaults]\nl3_ttl = \"1h\"\n",
        servers.memcached(),
        servers.redis()
    );
    Daemon::start(options.l1d.as_deref(), SHAPE, &rules)
}

fn start_forwarder(servers: &Servers) -> Result<(Process, TempDir)> {
    let home = scratch::directory()?;
    let mut process = Process::start(|command| {
        command.arg("forwarder").arg("--socket").arg(home.path().join("socket"));
        command.args(["--memcached", &servers.memcached(), "--redis", &servers.redis()]);
    })?;
    process.ready()?;
    Ok((process, home))
}

fn start_worker(
    options: &MissesOptions,
    servers: &Servers,
    contestant: Contestant,
    socket: &Option<PathBuf>,
    number: u32,
) -> Result<Process> {
    Process::start(|command| {
        command.args(["miss-worker", "--contestant", contestant.name()]);
        command.args(["--memcached", &servers.memcached(), "--redis", &servers.redis()]);
        command.args(["--value-bytes", &options.value_bytes.to_string()]);
        command.args(["--number", &number.to_string()]);
        if let Some(socket) = socket {
            command.arg("--socket").arg(socket);
        }
    })
}
