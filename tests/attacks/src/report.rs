//! What became of the attacks.

use crate::Options;
use crate::attack::{Attack, Found};
use crate::victim::Seen;
use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;

/// What became of one attack.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    pub attack: String,
    pub by: &'static str,
    pub defence: String,
    pub attempts: Vec<String>,
    /// What should not have happened.
    pub breaches: Vec<String>,
    pub repeats: u64,
    /// Medians of the rounds, in nanoseconds: beside the attack, beside burners, beside those
    /// that fill memory, alone; and the ratio of the first and the third.
    pub hit_p99_ns: [f64; 4],
    pub hit_p99_times: f64,
    pub request_p99_ns: [f64; 4],
    pub request_p99_times: f64,
    pub hits: u64,
    pub requests: u64,
    pub wrong_values: u64,
    pub failed_requests: u64,
    pub missing_keys: u64,
    pub resident_before_kib: u64,
    pub resident_greatest_kib: u64,
    pub descriptors_before: u64,
    pub descriptors_greatest: u64,
    pub descriptors_left: u64,
    #[serde(skip)]
    rounds: [Vec<Seen>; 4],
}

impl Outcome {
    pub fn new(attack: &str, is_member: bool, defence: &str) -> Outcome {
        let by = if is_member { "member" } else { "stranger" };
        Outcome { attack: attack.into(), by, defence: defence.into(), ..Outcome::default() }
    }

    /// That of an attack that could not be run to its end.
    pub fn failed(attack: &Attack, error: &anyhow::Error) -> Outcome {
        let outcome = Outcome::new(attack.name, attack.is_member, attack.defence);
        Outcome { breaches: vec![format!("{error:#}")], ..outcome }
    }

    /// Adds a round: beside the attack, and what is compared with it.
    pub fn add(&mut self, attacked: (Seen, u64, u64), compared: &[Seen], found: Found) {
        let (seen, resident_kib, descriptors) = attacked;
        self.resident_greatest_kib = self.resident_greatest_kib.max(resident_kib);
        self.descriptors_greatest = self.descriptors_greatest.max(descriptors);
        self.hits += seen.hits;
        self.requests += seen.requests;
        self.wrong_values += seen.wrong;
        self.failed_requests += seen.failed;
        self.missing_keys += seen.missing;
        if seen.wrong + seen.failed > 0 {
            let Seen { wrong, failed, .. } = seen;
            self.breaches.push(format!("{wrong} wrong values, {failed} failed requests"));
        }
        self.repeats += found.repeats;
        self.attempts = found.attempts;
        self.breaches.extend(found.breaches);
        for (seen, rounds) in [&[seen], compared].concat().into_iter().zip(&mut self.rounds) {
            rounds.push(seen);
        }
        let of = |figure: fn(&Seen) -> u32| {
            self.rounds
                .each_ref()
                .map(|rounds| median(rounds.iter().map(|seen| f64::from(figure(seen))).collect()))
        };
        self.hit_p99_ns = of(|seen| seen.hit_p99_ns);
        self.request_p99_ns = of(|seen| seen.request_p99_ns);
        self.hit_p99_times = self.hit_p99_ns[0] / self.hit_p99_ns[2].max(1.0);
        self.request_p99_times = self.request_p99_ns[0] / self.request_p99_ns[2].max(1.0);
    }

    /// KiB that the daemon has grown at most.
    fn growth_kib(&self) -> u64 {
        self.resident_greatest_kib.saturating_sub(self.resident_before_kib)
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

/// Prints the outcomes as a table, or as JSON.
pub fn print(outcomes: &[Outcome], options: &Options) -> Result<()> {
    if options.json {
        println!("{}", serde_json::to_string_pretty(outcomes)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        "attack",
        "by",
        "repeats",
        "hit p99, ns",
        "beside burners",
        "beside fillers",
        "alone",
        "times fillers",
        "request p99, us",
        "beside burners",
        "beside fillers",
        "alone",
        "times fillers",
        "MiB more",
        "descriptors more, left",
        "wrong",
        "missing",
        "breaches",
    ]);
    for outcome in outcomes {
        let [hit, hit_burnt, hit_filled, hit_alone] = outcome.hit_p99_ns;
        let [request, request_burnt, request_filled, request_alone] =
            outcome.request_p99_ns.map(|ns| ns / 1000.0);
        table.add_row([
            outcome.attack.clone(),
            outcome.by.to_owned(),
            outcome.repeats.to_string(),
            format!("{hit:.0}"),
            format!("{hit_burnt:.0}"),
            format!("{hit_filled:.0}"),
            format!("{hit_alone:.0}"),
            format!("{:.2}", outcome.hit_p99_times),
            format!("{request:.0}"),
            format!("{request_burnt:.0}"),
            format!("{request_filled:.0}"),
            format!("{request_alone:.0}"),
            format!("{:.2}", outcome.request_p99_times),
            format!("{:.1}", outcome.growth_kib() as f64 / 1024.0),
            format!(
                "{}, {}",
                outcome.descriptors_greatest.saturating_sub(outcome.descriptors_before),
                outcome.descriptors_left
            ),
            outcome.wrong_values.to_string(),
            outcome.missing_keys.to_string(),
            outcome.breaches.len().to_string(),
        ]);
    }
    println!("{table}\n");
    for outcome in outcomes {
        println!("{}: {}", outcome.attack, outcome.defence);
        for attempt in &outcome.attempts {
            println!("  {attempt}");
        }
        for breach in &outcome.breaches {
            println!("  BREACH: {breach}");
        }
    }
    Ok(())
}
