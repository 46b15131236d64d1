//! The modes of torture: what is there, and how often what happens to it.

use crate::daemon::TableShape;
use serde::Serialize;

/// Largest value, which travels in pieces.
pub const VALUE_BYTES_MAX: u64 = 32 << 10;

/// One mode, a run of its own with its own daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Both tiers, which fail in every way; a table that evicts; every process is killed
    All,
    /// The same, but the daemon is only stopped: its memory and descriptors are counted
    Clients,
    /// A table without tiers and with room for all: nothing acknowledged may be missing
    Presence,
    /// The same, with bits flipped in the table's file and in mailboxes
    Flips,
}

/// How often each kind of action is drawn, among the sum of all.
#[derive(Debug, Clone, Copy)]
pub struct Weights {
    pub kill_writer: usize,
    pub kill_reader: usize,
    pub stop_client: usize,
    pub visit: usize,
    pub kill_daemon: usize,
    pub stop_daemon: usize,
    pub terminate_daemon: usize,
    pub tier: usize,
    pub resize: usize,
    pub reload: usize,
    pub flip: usize,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 4] = [Mode::All, Mode::Clients, Mode::Presence, Mode::Flips];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mode::All => "all",
            Mode::Clients => "clients",
            Mode::Presence => "presence",
            Mode::Flips => "flips",
        }
    }

    /// Its part of the time, in percent.
    pub fn percent(self) -> u32 {
        match self {
            Mode::All => 45,
            Mode::Clients => 20,
            Mode::Presence => 20,
            Mode::Flips => 15,
        }
    }

    /// memcached and Redis are below.
    pub fn has_tiers(self) -> bool {
        matches!(self, Mode::All | Mode::Clients)
    }

    /// How often what happens.
    pub fn weights(self) -> Weights {
        let all = Weights {
            kill_writer: 30,
            kill_reader: 40,
            stop_client: 8,
            visit: 6,
            kill_daemon: 6,
            stop_daemon: 2,
            terminate_daemon: 1,
            tier: 14,
            resize: 2,
            reload: 2,
            flip: 0,
        };
        match self {
            Mode::All => all,
            Mode::Clients => Weights { kill_daemon: 0, terminate_daemon: 0, ..all },
            Mode::Presence => Weights { kill_daemon: 12, tier: 0, ..all },
            Mode::Flips => Weights { kill_daemon: 3, tier: 0, resize: 0, flip: 14, ..all },
        }
    }

    /// Keys of each writer.
    pub fn keys_per_writer(self) -> usize {
        if self.has_tiers() { 2000 } else { 400 }
    }

    /// Sizes of the table between which it is moved.
    pub fn table_bytes(self) -> [u64; 2] {
        if self.has_tiers() { [8 << 20, 10 << 20] } else { [48 << 20, 64 << 20] }
    }

    /// The table at its start.
    pub fn shape(self) -> TableShape {
        let [table_bytes, _] = self.table_bytes();
        TableShape { table_bytes, value_bytes_max: VALUE_BYTES_MAX, entry_bytes: 1024 }
    }

    /// The configuration after the `[table]` section: its variant `variant`, before tiers at these
    /// addresses, if any.
    pub fn rules(self, variant: usize, tiers: Option<&[String; 2]>) -> String {
        let Some([l2, l3]) = tiers else {
            // Another rule for keys that nobody has: what is present must stay so.
            let other = format!("[[policy]]\nprefix = \"other:{variant}:\"\nttl = \"1h\"\n");
            return format!("[defaults]\nttl = \"2h\"\n{}", if variant == 0 { "" } else { &other });
        };
        let ttl = ["300ms", "30s", "100ms", "1s"][variant % 4];
        format!(
            "[l2]\naddress = \"{l2}\"\ndeadline = \"50ms\"\n[l3]\nurl = \"redis://{l3}\"\n\
             deadline = \"50ms\"\n[defaults]\nttl = \"{ttl}\"\nnegative_ttl = \"100ms\"\n\
             l2_ttl = \"10s\"\n[[policy]]\nprefix = \"key:{}\"\nttl = \"30s\"\nnegative_ttl = \
             \"100ms\"\nl2_ttl = \"10s\"\nshare_max = \"20%\"\n",
            variant % 10
        )
    }
}
