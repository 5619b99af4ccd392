//! Ranks that come twice, and hosts without room in `/dev/shm`: by processes.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;
use std::time::Duration;

use tests::faults::World;
use tests::faults::free_port;

const RANK: &str = env!("CARGO_BIN_EXE_fault_rank");
const PATIENCE: Duration = Duration::from_secs(20);

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap().to_owned()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_process_that_comes_as_a_rank_that_runs_is_told_who_has_it_and_the_first_goes_on() {
    let mut world = World::empty(4);
    let port = free_port().to_string();
    let env = |rank| {
        [("RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port)]
    };
    world.spawn(0, RANK, &env("0"), &words("loop all_reduce 1000"));
    world.spawn(1, RANK, &env("1"), &words("loop all_reduce 1000"));
    (0..2).for_each(|rank| drop(world.expect(rank, "up", PATIENCE)));
    world.spawn(2, RANK, &env("1"), &words("build"));
    world.spawn(3, RANK, &env("0"), &words("build"));

    let second = world.word(2, "refused ", PATIENCE);
    let (took, text) = second.split_once(' ').unwrap();
    assert!(took.parse::<u64>().unwrap() < 1000, "{second}");
    let first = format!("pid {}", world.pid(1));
    let host = host();
    let expected = format!(
        "rank 1 of 2 cannot join: rank 1 already runs: host {host}, {first}; this one is host \
         {host}, pid {}",
        world.pid(2)
    );
    assert_eq!(text, expected);

    // Rank 0 serves the store, so the second one meets the port first.
    let zero = world.word(3, "refused ", PATIENCE);
    let expected = format!(
        "cannot listen on 127.0.0.1:{port} (store): Address already in use (os error 98); port \
         {port} is held by process {} (fault_rank): end it, or give this job another port \
         (MASTER_PORT)",
        world.pid(0)
    );
    assert_eq!(zero.split_once(' ').unwrap().1, expected);

    let said = world.transcript();
    assert!(!said.contains("[0] error") && !said.contains("[1] error"), "{said}");
    world.kill(1);
    let line = world.expect(0, "error ", PATIENCE);
    assert!(line.text.contains(": rank 1 (host ") && line.text.contains(&first), "{line:?}");
    world.end();
}

#[test]
fn a_full_dev_shm_changes_nothing() {
    // A mount namespace of its own whose /dev/shm has one page, and that one taken.
    let script = "mount -t tmpfs -o size=4k none /dev/shm && cat /dev/zero 2>/dev/null >/dev/shm/full; \
                  exec \"$0\" \"$@\"";
    let tried = Command::new("unshare").args(["-m", "sh", "-c", script, "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        let require = std::env::var("NCCL_RS_REQUIRE").unwrap_or_default();
        assert!(!require.contains("netns"), "NCCL_RS_REQUIRE has netns: no mount namespace");
        eprintln!("skipped: no mount namespace (not root, or no unshare)");
        return;
    }
    for way in [("NCCL_RS_NOTHING", "1"), ("NCCL_P2P_DISABLE", "1")] {
        let port = free_port().to_string();
        let mut world = World::empty(3);
        for rank in ["0", "1", "2"] {
            let env = [
                ("RANK", rank),
                ("WORLD_SIZE", "3"),
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", &port),
                way,
            ];
            let mut args = ["-m", "sh", "-c", script, RANK].map(str::to_owned).to_vec();
            args.extend(words("loop all_reduce 100000"));
            world.spawn(rank.parse().unwrap(), "unshare", &env, &args);
        }
        (0..3).for_each(|rank| drop(world.expect(rank, "up", PATIENCE)));
        let ways = world.word(0, "ways ", PATIENCE);
        let expected = if way.0 == "NCCL_P2P_DISABLE" { "SHM/direct" } else { "P2P/CMA" };
        assert!(ways.contains(expected), "{ways}");
        world.kill(2);
        (0..2).for_each(|rank| drop(world.expect(rank, "error ", PATIENCE)));
        assert!(!world.transcript().contains("wrong"), "{}", world.transcript());
        world.end();
    }
}
