//! What every rank finds in its environment, and its port.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Read;
use std::process::Child;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::common::text;
use crate::helpers::LIMIT;
use crate::helpers::assert_code;
use crate::helpers::finish;
use crate::helpers::launcher;
use crate::helpers::run;
use crate::helpers::spawn;

/// Runs `env` in every rank and returns what each found.
fn environments(mut command: Command) -> BTreeMap<u64, BTreeMap<String, String>> {
    command.args(["--", "env"]);
    let output = run(command);
    assert_code(&output, 0);
    let mut ranks: BTreeMap<u64, BTreeMap<String, String>> = BTreeMap::new();
    for line in text(&output.stdout).lines() {
        let (rank, rest) = line.strip_prefix("[rank ").unwrap().split_once("] ").unwrap();
        let Some((name, value)) = rest.split_once('=') else { continue };
        ranks.entry(rank.parse().unwrap()).or_default().insert(name.to_owned(), value.to_owned());
    }
    ranks
}

#[test]
fn every_rank_finds_its_place_in_its_environment() {
    let mut command = launcher("-n 3 --env COLOR=red --env EMPTY= --max-restarts 2");
    command.env_remove("OMP_NUM_THREADS").env("SLURM_PROCID", "7").env("RANK", "9");
    let ranks = environments(command);
    assert_eq!(ranks.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    for (rank, env) in &ranks {
        let rank = rank.to_string();
        for (name, expected) in [
            ("RANK", rank.as_str()),
            ("LOCAL_RANK", &rank),
            ("ROLE_RANK", &rank),
            ("WORLD_SIZE", "3"),
            ("LOCAL_WORLD_SIZE", "3"),
            ("ROLE_WORLD_SIZE", "3"),
            ("ROLE_NAME", "default"),
            ("GROUP_RANK", "0"),
            ("GROUP_WORLD_SIZE", "1"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("TORCHELASTIC_RESTART_COUNT", "0"),
            ("TORCHELASTIC_MAX_RESTARTS", "2"),
            ("TORCHELASTIC_USE_AGENT_STORE", "False"),
            ("OMP_NUM_THREADS", "1"),
            ("COLOR", "red"),
            ("EMPTY", ""),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(expected), "{name} of rank {rank}");
        }
        assert!(!env.contains_key("SLURM_PROCID"));
        assert!(env["MASTER_PORT"].parse::<u16>().unwrap() > 0);
    }
    let same = |name: &str| ranks.values().map(|env| &env[name]).collect::<BTreeSet<_>>().len();
    assert_eq!(same("MASTER_PORT"), 1);
    assert_eq!(same("TORCHELASTIC_RUN_ID"), 1);
    assert_eq!(ranks[&0]["TORCHELASTIC_RUN_ID"].len(), 32);
}

#[test]
fn two_hosts_make_one_world() {
    let mut all = BTreeMap::new();
    for node in 0..2 {
        let options = format!("-n 2 --nnodes 2 --node-rank {node} --rdzv [fd00::1]:29501");
        let mut command = launcher(&options);
        command.env("OMP_NUM_THREADS", "8");
        all.extend(environments(command));
    }
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (rank, env) in &all {
        assert_eq!(env["RANK"], rank.to_string());
        assert_eq!(env["LOCAL_RANK"], (rank % 2).to_string());
        assert_eq!(env["GROUP_RANK"], (rank / 2).to_string());
        assert_eq!(env["WORLD_SIZE"], "4");
        assert_eq!(env["MASTER_ADDR"], "fd00::1");
        assert_eq!(env["MASTER_PORT"], "29501");
        assert_eq!(env["TORCHELASTIC_RUN_ID"], "none");
        assert_eq!(env["OMP_NUM_THREADS"], "8");
    }
}

/// Not a test of its own: what a rank does in the next test.
#[test]
#[ignore = "a rank of `forty_ranks_of_two_launches_get_their_ports`"]
fn rank_that_meets_at_the_port() {
    let Ok(rank) = std::env::var("RANK") else { return };
    let address = format!("127.0.0.1:{}", std::env::var("MASTER_PORT").unwrap());
    let run_id = std::env::var("TORCHELASTIC_RUN_ID").unwrap();
    if rank == "0" {
        // The gap in which another could take the port.
        thread::sleep(Duration::from_millis(50));
        let listener = std::net::TcpListener::bind(&address).unwrap();
        for _ in 1..20 {
            let (mut client, _) = listener.accept().unwrap();
            let mut name = String::new();
            client.read_to_string(&mut name).unwrap();
            assert_eq!(name, run_id);
        }
    } else {
        let until = Instant::now() + LIMIT;
        let mut server = loop {
            match std::net::TcpStream::connect(&address) {
                Ok(server) => break server,
                Err(why) => assert!(Instant::now() < until, "{address}: {why}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        std::io::Write::write_all(&mut server, run_id.as_bytes()).unwrap();
    }
}

#[test]
fn forty_ranks_of_two_launches_get_their_ports() {
    let launches: Vec<Child> = (0..2)
        .map(|_| {
            let mut command = launcher("-n 20 --grace 1 --");
            command.arg(std::env::current_exe().unwrap());
            command.args([
                "--ignored",
                "--exact",
                "environment::rank_that_meets_at_the_port",
                "--nocapture",
            ]);
            spawn(&mut command)
        })
        .collect();
    for launch in launches {
        let output = finish(launch);
        assert_code(&output, 0);
        assert_eq!(text(&output.stdout).matches("1 passed").count(), 20);
    }
}
