//! The environment of every launcher, what contradicts what, and what is wrong.

use proptest::prelude::*;

use crate::config::env::Env;
use crate::config::init_method::InitMethod;
use crate::config::launch::Launch;
use crate::config::launch::Launcher;
use crate::config::launch::apinfo;
use crate::config::launch::conflict;
use crate::config::rendezvous::ports_of;

mod contradictions;
mod environments;
mod wrong;

/// An environment from lines of `NAME=value`; leading spaces do not count.
fn env(text: &str) -> Env {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty());
    lines.map(|line| line.split_once('=').unwrap()).collect()
}

fn launch(text: &str) -> Launch {
    Launch::from_env(&env(text)).unwrap()
}

fn problem(text: &str) -> String {
    Launch::from_env(&env(text)).unwrap_err().to_string()
}

/// Rank, size, local rank, local size, node, nodes.
type Numbers = (usize, usize, Option<usize>, Option<usize>, Option<usize>, Option<usize>);

fn numbers(launch: &Launch) -> Numbers {
    (
        launch.rank,
        launch.world_size,
        launch.local_rank,
        launch.local_world_size,
        launch.node_rank,
        launch.nodes,
    )
}

/// How a rendezvous with derived ports reads.
fn derived(host: &str, job: &str) -> String {
    let ports: Vec<String> = ports_of(job).iter().map(u16::to_string).collect();
    format!("{host}, port {}", ports.join("|"))
}

#[test]
fn every_variable_of_a_launcher_is_in_the_documentation() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/launchers.md");
    let text = std::fs::read_to_string(path).unwrap();
    for family in conflict::families() {
        assert!(text.contains(&format!("`{}`", family.launcher)), "{}", family.launcher);
        for var in family.vars {
            assert!(text.contains(&format!("`{var}`")), "{var} of {}", family.launcher);
        }
    }
}

#[test]
fn every_variable_that_a_launcher_is_known_by_is_one_it_reads() {
    for family in conflict::families() {
        assert!(family.vars.contains(&family.sign), "{}", family.launcher);
    }
}

#[test]
fn an_init_method_replaces_the_address_and_perhaps_the_rank() {
    let method = InitMethod::parse("tcp://node0:4?rank=2&world_size=3").unwrap();
    let found = Launch::from_init_method(&method, &env("LOCAL_RANK=1")).unwrap();
    assert_eq!(numbers(&found), (2, 3, Some(1), None, None, None));
    assert_eq!(found.rendezvous.to_string(), "tcp://node0:4 (rank 0 serves)");

    let method = InitMethod::parse("file:///shared/job").unwrap();
    let found = Launch::from_init_method(&method, &env("RANK=1\nWORLD_SIZE=2")).unwrap();
    assert_eq!((found.rank, found.world_size), (1, 2));
    assert_eq!(found.rendezvous.to_string(), "file:///shared/job");
    let error = Launch::from_init_method(&method, &env("RANK=1")).unwrap_err();
    assert!(error.to_string().starts_with("WORLD_SIZE is missing"), "{error}");
}

proptest! {
    /// Whatever the variables of all launchers hold, the answer is a launch that fits or an error.
    #[test]
    fn no_environment_panics(
        picks in prop::collection::vec((0_usize..200, "[0-9]{1,2}|.*|[a-z\\[\\]0-9,()-]{0,12}"), 0..12)
    ) {
        let mut vars: Vec<&str> = conflict::families().flat_map(|f| f.vars.iter().copied()).collect();
        vars.extend(["MASTER_ADDR", "MASTER_PORT", "NCCL_COMM_ID", "NCCL_RS_LAUNCHER"]);
        let env: Env = picks.iter().map(|(at, value)| (vars[at % vars.len()], value)).collect();
        if let Ok(launch) = Launch::from_env(&env) {
            prop_assert!(launch.rank < launch.world_size);
            prop_assert!(launch.local_world_size.is_none_or(|local| local <= launch.world_size));
        }
    }
}
