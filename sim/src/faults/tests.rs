//! What the atlas draws, and what it does not.

use super::*;
use crate::setup::{Overrides, Region};

fn of(class: Class, nodes: u32) -> impl Iterator<Item = (Setup, Vec<Planned>)> {
    (0..50).map(move |seed| {
        let overrides =
            Overrides { nodes: Some(nodes), faults: Some(vec![class]), ..Overrides::default() };
        let setup = Setup::draw(seed, &overrides);
        let plan = plan(&setup);
        (setup, plan)
    })
}

#[test]
fn every_class_makes_faults_within_the_run() {
    for &class in Class::ALL {
        for (setup, plan) in of(class, 3) {
            assert!(plan.is_sorted_by_key(|planned| planned.at));
            assert!(plan.iter().all(|planned| planned.at < setup.duration));
            let needs_syncs = matches!(class, Class::DiskLoss | Class::Misdirect | Class::Byte);
            let no_fault = matches!(class, Class::ClockDrift | Class::Echo);
            let spare = setup.nodes.len() > usize::from(setup.replication);
            let nowhere = class == Class::Move && !spare;
            let none = no_fault || nowhere || needs_syncs && !setup.syncs_always();
            assert_eq!(plan.is_empty(), none, "{class:?}");
        }
    }
}

#[test]
fn shards_are_moved_to_as_many_nodes_as_they_have_replicas() {
    let region = Some(Region::Moves.name().to_owned());
    let overrides = Overrides { region, ..Overrides::default() };
    for seed in 0..40 {
        let setup = Setup::draw(seed, &overrides);
        let plan = plan(&setup);
        let moves = plan.iter().filter(|planned| matches!(planned.fault, Fault::Move { .. }));
        assert!(moves.clone().count() > 0, "seed {seed}");
        assert!(moves.into_iter().all(|planned| is_fair(&setup, &planned.fault)), "seed {seed}");
    }
}

#[test]
fn the_atlas_spares_a_quorum() {
    for class in [Class::Rot, Class::ReadError, Class::DiskLoss, Class::Misdirect] {
        assert!(of(class, 1).all(|(_, plan)| plan.is_empty()));
        for (setup, plan) in of(class, 5) {
            for Planned { fault, .. } in plan {
                let (Fault::Rot { node, .. }
                | Fault::DiskError { node, .. }
                | Fault::DiskLoss { node, .. }
                | Fault::Misdirect { node, .. }) = fault
                else {
                    panic!("{fault:?}")
                };
                assert!(setup.victims.contains(&NodeId(node)));
            }
        }
    }
}

#[test]
fn what_the_atlas_draws_it_finds_fair() {
    let mut unfair = 0;
    for class in Class::ALL {
        for (setup, plan) in of(*class, 5) {
            let smaller = Setup::draw(
                setup.seed,
                &Overrides { nodes: Some(3), faults: Some(vec![*class]), ..Overrides::default() },
            );
            for Planned { fault, .. } in plan {
                assert!(is_fair(&setup, &fault), "{fault:?}");
                unfair += u32::from(!is_fair(&smaller, &fault));
            }
        }
    }
    assert!(unfair > 100, "{unfair} faults of five nodes are not for three");
}

#[test]
fn nodes_that_do_not_sync_never_lose_power_together() {
    let mut lax = 0;
    for class in [Class::PowerLoss, Class::Blackout] {
        for (setup, plan) in of(class, 3).filter(|(setup, _)| !setup.syncs_always()) {
            for Planned { fault, .. } in plan {
                let Fault::Crash { nodes, how, .. } = fault else { panic!("{fault:?}") };
                let spared = nodes.iter().all(|&node| setup.victims.contains(&NodeId(node)));
                assert!(how == Crash::Kill || spared, "{nodes:?}");
                lax += 1;
            }
        }
    }
    assert!(lax > 5, "only {lax} faults under a lax policy");
}

#[test]
fn a_swizzle_heals_in_another_order_than_it_clogs() {
    let mut other = 0;
    for (_, plan) in of(Class::Swizzle, 5) {
        let ends = plan.iter().map(|Planned { at, fault }| match fault {
            Fault::Choke { lasts, .. } => at + lasts,
            fault => panic!("{fault:?}"),
        });
        other += u32::from(!ends.is_sorted());
    }
    assert!(other > 30, "{other} of 50");
}

#[test]
fn a_plan_survives_its_file() {
    let late = Class::ALL.iter().filter(|class| class.is_late()).flat_map(|class| of(*class, 3));
    for (_, plan) in of(Class::Reorder, 3).chain(of(Class::Blackout, 3)).chain(late) {
        let overrides = Overrides { plan: Some(plan), ..Overrides::default() };
        let text = toml::to_string(&overrides).expect("a plan has a form");
        assert_eq!(toml::from_str::<Overrides>(&text).expect(&text), overrides);
    }
}
