//! The model as it is, and with each rule left out.

use super::{Left, Protocol, Rules};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeMap;

const LEFT: Left =
    Left { reads: 3, writes: 2, losses: 1, kills: 1, evictions: 1, errors: 0, others: 0 };

fn explore(model: Protocol) -> (usize, BTreeMap<&'static str, String>) {
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let found = checker.discoveries();
    let shown = found.into_iter().map(|(name, path)| {
        let events: Vec<String> = path.into_actions().iter().map(|e| format!("{e:?}")).collect();
        (name, events.join(", "))
    });
    (checker.unique_state_count(), shown.collect())
}

fn assert_holds(has_l2: bool, left: Left) {
    let (states, found) = explore(Protocol { rules: Rules::ALL, left, has_l2 });
    println!("{left:?}: {states} states");
    assert!(found.is_empty(), "{left:?}: {found:#?}");
}

#[test]
fn no_order_of_events_breaks_the_protocol() {
    let few = Left { reads: 2, ..LEFT };
    assert_holds(true, few);
    assert_holds(true, Left { losses: 0, kills: 2, ..LEFT });
    assert_holds(true, Left { errors: 1, evictions: 2, losses: 0, kills: 0, ..LEFT });
    assert_holds(false, Left { others: 1, errors: 1, ..few });
}

/// More of everything (`./dev faults`).
#[test]
#[ignore = "takes minutes"]
fn no_order_of_many_events_breaks_the_protocol() {
    let many = Left { writes: 3, ..LEFT };
    assert_holds(true, many);
    assert_holds(true, Left { losses: 2, kills: 0, ..many });
    assert_holds(true, Left { losses: 0, kills: 2, ..many });
    assert_holds(false, Left { others: 2, losses: 2, errors: 1, ..LEFT });
}

#[test]
fn each_rule_that_is_left_out_lets_the_model_find_a_fault() {
    let all = Rules::ALL;
    let mut missing = Vec::new();
    let calm = Left { losses: 0, kills: 0, ..LEFT };
    let broken = Left { kills: 0, ..LEFT };
    let others = Left { others: 1, ..calm };
    let killed = Left { losses: 0, ..LEFT };
    for (name, rules, left) in [
        ("P1", Rules { flight_first: false, ..all }, others),
        ("P2", Rules { write_kills: false, ..all }, others),
        ("P3", Rules { alive_only: false, ..all }, others),
        ("P7", Rules { unknown_clears: false, ..all }, broken),
        ("P9", Rules { error_no_absence: false, ..all }, Left { errors: 1, ..calm }),
        ("P10", Rules { one_flight: false, ..all }, calm),
        ("P12", Rules { doubt: false, ..all }, broken),
        ("P13", Rules { debt: false, ..all }, broken),
        ("P12, restart", Rules { unsettled: false, ..all }, killed),
        ("P22", Rules { changing: false, ..all }, killed),
        ("S7", Rules { no_replay: false, ..all }, killed),
        ("W7", Rules { late_ack: false, ..all }, calm),
    ] {
        let (states, found) = explore(Protocol { rules, left, has_l2: left.others == 0 });
        println!("without {name}: {states} states, {found:#?}");
        if found.is_empty() {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "the model does without {missing:?}");
}
