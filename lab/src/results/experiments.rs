//! The list of experiments.

/// An experiment of the lab.
#[derive(Debug)]
pub struct Experiment {
    /// Its name in the document and in the names of its files.
    pub name: &'static str,
    /// Its subject.
    pub title: &'static str,
    /// The command line.
    full: &'static str,
    /// The command line of a quick run.
    quick: &'static str,
    /// The traces that it gets.
    pub traces: Traces,
    /// The plot that it draws itself.
    pub plot: Option<&'static str>,
}

/// The subset of the traces given to `results` that an experiment gets.
#[derive(Debug, Clone, Copy)]
pub enum Traces {
    /// None of them.
    None,
    /// All of them.
    All,
    /// The one whose file name contains this; without it the experiment is not run.
    Named(&'static str),
}

impl Experiment {
    /// The command line.
    pub fn arguments(&self, quick: bool) -> impl Iterator<Item = &'static str> {
        let line = if quick { self.quick } else { self.full };
        line.split(' ')
    }

    const fn new(
        name: &'static str,
        title: &'static str,
        full: &'static str,
        quick: &'static str,
    ) -> Experiment {
        Experiment { name, title, full, quick, traces: Traces::None, plot: None }
    }
}

/// All experiments, in the document's order.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment::new(
        "limit",
        "The physical limit of a read",
        "limit --workload 10k-zipf,1M-uniform,5M-uniform",
        "limit --workload 1k-zipf,1k-uniform --rounds 2 --round-ms 1 --warm-up-ms 1",
    ),
    Experiment::new(
        "read",
        "Hits, beside the limit and all rivals",
        "read --workload 10k-zipf,1M-uniform --processes 2",
        "read --workload 1k-zipf --rounds 2 --round-ms 1 --warm-up-ms 1 --rivals quick_cache,lmdb",
    ),
    Experiment::new(
        "read-5M",
        "Hits in five million keys",
        "read --workload 5M-uniform --rivals quick_cache,papaya,rwlock-hashmap,lmdb",
        "read --workload 2k-uniform --rounds 2 --round-ms 1 --warm-up-ms 1 --rivals lmdb",
    ),
    Experiment::new(
        "costs",
        "The cost of each part of a hit",
        "costs",
        "costs --workload 1k-zipf --rounds 2 --round-ms 1 --warm-up-ms 1",
    ),
    Experiment::new(
        "cases",
        "Misses, batches, large values, values in place, decoded objects",
        "read --case miss,batch,copy,in-place,decoded",
        "read --case batch --workload 1k-uniform --rounds 2 --round-ms 1 --warm-up-ms 1 --rivals \
         none",
    ),
    Experiment::new(
        "hot-key",
        "One key, readers, and a writer at 100,000 sets a second",
        "hot-key --readers 1,2",
        "hot-key --readers 1 --rounds 2 --round-ms 5",
    ),
    Experiment::new(
        "written-keys",
        "A reader alone on its core while the owner writes the same keys",
        "hot-key --readers 1 --keys 10000",
        "hot-key --readers 1 --keys 100 --rounds 2 --round-ms 5",
    ),
    Experiment::new(
        "write",
        "Sets, with daemon and client on cores of their own",
        "write",
        "write --rounds 1 --requests 1000 --rivals quick_cache,lmdb",
    ),
    Experiment::new(
        "write-one-core",
        "Sets, with daemon and client on one core",
        "write --placement one-core",
        "write --placement one-core --rounds 1 --requests 1000 --rivals none",
    ),
    Experiment::new(
        "visibility",
        "Time until a set value is visible",
        "visibility",
        "visibility --rounds 2 --requests 100 --keys 10 --rivals lmdb",
    ),
    Experiment::new(
        "misses",
        "Misses and writes through the tiers",
        "misses --seconds 0.5",
        "misses --processes 1 --rounds 1 --seconds 0.1",
    ),
    Experiment::new(
        "misses-away",
        "Misses and writes, tiers 0.5 ms away",
        "misses --distance 0.5ms --seconds 0.5",
        "misses --distance 0.5ms --processes 1 --rounds 1 --seconds 0.1",
    ),
    Experiment::new(
        "misses-syscalls",
        "The daemon's system calls for misses and writes",
        "misses --syscalls",
        "misses --syscalls --processes 1 --steps 10",
    ),
    Experiment {
        traces: Traces::Named("web07"),
        ..Experiment::new(
            "replay",
            "A shop's requests, replayed by four processes",
            "compare --workload trace --readers 4 --rounds 7",
            "compare --workload trace --readers 4",
        )
    },
    Experiment {
        traces: Traces::Named("web07"),
        ..Experiment::new(
            "replay-away",
            "The same, tiers 0.5 ms away",
            "compare --workload trace --readers 4 --rounds 3 --distance 0.5ms",
            "compare --workload trace --readers 4 --distance 0.5ms",
        )
    },
    Experiment::new(
        "zipf",
        "Single keys by zipf, two readers and a writer",
        "compare --workload zipf --seconds 20 --warm-up-seconds 10",
        "compare --workload zipf --seconds 1 --warm-up-seconds 0",
    ),
    Experiment::new(
        "zipf-away",
        "The same, tiers 0.5 ms away",
        "compare --workload zipf --seconds 20 --warm-up-seconds 20 --distance 0.5ms",
        "compare --workload zipf --seconds 1 --warm-up-seconds 0 --distance 0.5ms",
    ),
    Experiment::new(
        "dashboard",
        "Pages over market data, two readers and a writer",
        "compare --seconds 35",
        "compare --seconds 1 --warm-up-seconds 0",
    ),
    Experiment::new(
        "dashboard-away",
        "The same, tiers 0.5 ms away",
        "compare --seconds 35 --distance 0.5ms",
        "compare --seconds 1 --warm-up-seconds 0 --distance 0.5ms",
    ),
    Experiment::new(
        "attach",
        "A process that attaches, reads a hundred keys and ends",
        "attach",
        "attach --entries 2000 --rounds 2 --without-servers",
    ),
    Experiment::new("idle", "An idle daemon", "idle", "idle --seconds 1"),
    Experiment::new("bytes", "Bytes beyond keys and values", "bytes", "bytes --entries 1000"),
    Experiment::new(
        "turns",
        "The owner's longest turns",
        "turns",
        "turns --rounds 1 --moved-mib 64",
    ),
    Experiment {
        plot: Some("copied.svg"),
        ..Experiment::new(
            "copied",
            "The cost of overwriting",
            "copied",
            "copied --table-mib 16 --times 2",
        )
    },
    Experiment {
        traces: Traces::All,
        plot: Some("hit-ratio.svg"),
        ..Experiment::new(
            "hit-ratio",
            "Hit ratios",
            "hit-ratio --synthetic",
            "hit-ratio --synthetic --sizes 5%",
        )
    },
    Experiment {
        traces: Traces::All,
        ..Experiment::new(
            "advise",
            "Estimates of other sizes, beside replays",
            "hit-ratio --advise --sizes 5%,10%,20% --synthetic",
            "hit-ratio --advise --sizes 5% --synthetic",
        )
    },
];
