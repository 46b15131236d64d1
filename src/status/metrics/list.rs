//! The metrics: names, and the figures of the snapshot that they show.

use super::text::Kind;

/// A figure as a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    /// Without the `_total` of a counter.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The figure's path in the snapshot, with dots; from the tier, rule or client on for those.
    pub(super) path: &'static str,
    /// The metric is the figure times this: base units.
    pub(super) scale: f64,
}

const fn counter(name: &'static str, path: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, path, scale: 1.0 }
}

const fn gauge(name: &'static str, path: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, path, scale: 1.0 }
}

const fn scaled(name: &'static str, path: &'static str, scale: f64) -> Metric {
    Metric { name, kind: Kind::Gauge, path, scale }
}

const MICROSECONDS: f64 = 1e-6;
const MILLISECONDS: f64 = 1e-3;
const PERCENT: f64 = 1e-2;

/// Of the daemon as a whole.
pub(super) const WHOLE: &[Metric] = &[
    gauge("l1d_uptime_seconds", "daemon.uptime_seconds"),
    scaled("l1d_longest_turn_seconds", "recent.longest_turn_us", MICROSECONDS),
    counter("l1d_log_lines_dropped", "daemon.log_lines_dropped"),
    counter("l1d_hits", "hits.hits"),
    counter("l1d_misses", "hits.misses"),
    gauge("l1d_connections", "clients.connections"),
    gauge("l1d_mailboxes", "clients.mailboxes"),
    counter("l1d_hit_reports_lost", "clients.hit_reports_lost"),
    gauge("l1d_table_bytes", "table.table_bytes"),
    gauge("l1d_table_usable_bytes", "table.usable_bytes"),
    gauge("l1d_table_index_bytes", "table.index_bytes"),
    gauge("l1d_table_entries", "table.entries"),
    gauge("l1d_table_live_bytes", "table.live_bytes"),
    gauge("l1d_table_dead_bytes", "table.dead_bytes"),
    gauge("l1d_table_free_bytes", "table.free_bytes"),
    gauge("l1d_table_absent_bytes", "table.absent_bytes"),
    gauge("l1d_table_oldest_entry_seconds", "table.oldest_entry_seconds"),
    scaled("l1d_table_index_load_ratio", "table.index_load_percent", PERCENT),
    counter("l1d_table_puts", "table.puts"),
    counter("l1d_table_put_bytes", "table.put_bytes"),
    counter("l1d_table_evicted", "table.evicted"),
    counter("l1d_table_evicted_bytes", "table.evicted_bytes"),
    counter("l1d_table_evicted_over_share", "table.evicted_over_share"),
    counter("l1d_table_displaced", "table.displaced"),
    counter("l1d_table_expired", "table.expired"),
    counter("l1d_table_ghost_hits", "table.ghost_hits"),
    counter("l1d_table_copied_forward_bytes", "table.copied_forward_bytes"),
    counter("l1d_table_torn", "table.torn"),
    counter("l1d_moves", "moves.moves"),
    gauge("l1d_processes_in_former_tables", "moves.processes_in_former_tables"),
    gauge("l1d_former_tables_bytes", "moves.bytes_of_these_tables"),
    counter("l1d_attaches", "requests.attaches"),
    counter("l1d_gets", "requests.gets"),
    counter("l1d_gets_found_in_table", "requests.gets_found_in_table"),
    counter("l1d_sets", "requests.sets"),
    counter("l1d_deletes", "requests.deletes"),
    counter("l1d_operations", "requests.operations"),
    counter("l1d_writes_degraded", "requests.degraded"),
    counter("l1d_writes_refused", "requests.refused"),
    counter("l1d_writes_of_unknown_outcome", "requests.unknown_outcomes"),
    counter("l1d_fills", "requests.fills"),
    counter("l1d_fills_prevented", "requests.fills_prevented"),
    counter("l1d_requests_denied", "requests.denied"),
    counter("l1d_quotas_reached", "requests.over_quota"),
    gauge("l1d_fetches_under_way", "flights.under_way"),
    counter("l1d_fetches_begun", "flights.begun"),
    counter("l1d_fetches_joined", "flights.joined"),
    counter("l1d_fetches_killed", "flights.killed"),
    gauge("l1d_writes_under_way", "writes_under_way"),
    gauge("l1d_tier_jobs_waiting", "tiers.jobs_waiting"),
    gauge("l1d_l2_debts", "tiers.l2_debts"),
];

/// Of each tier.
pub(super) const TIER: &[Metric] = &[
    counter("l1d_tier_requests", "requests"),
    counter("l1d_tier_hits", "hits"),
    counter("l1d_tier_misses", "misses"),
    counter("l1d_tier_errors", "errors"),
    counter("l1d_tier_timeouts", "timeouts"),
    counter("l1d_tier_batches", "batches"),
    scaled("l1d_tier_latency_seconds", "latency_us", MICROSECONDS),
    gauge("l1d_tier_state_seconds", "breaker_since_seconds"),
];

/// Of each rule.
pub(super) const POLICY: &[Metric] = &[
    counter("l1d_policy_hits", "hits"),
    counter("l1d_policy_misses", "misses"),
    gauge("l1d_policy_live_bytes", "live_bytes"),
    counter("l1d_policy_refused_as_full", "refused_as_full"),
    scaled("l1d_policy_share_max_ratio", "share_max_percent", PERCENT),
    scaled("l1d_policy_ttl_seconds", "ttl_ms", MILLISECONDS),
];

/// Of all clients of a user that run the same program.
pub(super) const PROGRAM: &[Metric] = &[
    counter("l1d_program_hits", "client_reported.hits"),
    counter("l1d_program_requests", "requests"),
    counter("l1d_program_reads", "reads"),
    counter("l1d_program_writes", "writes"),
];
