//! Two hosts, as two network namespaces with a cable between them: data over the cable, and what
//! happens when it is pulled. Needs root and `ip`; skipped elsewhere, unless `NCCL_RS_REQUIRE`
//! contains `netns`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

mod programs;

use tests::faults::KINDS;
use tests::faults::World;

const RANK: &str = env!("CARGO_BIN_EXE_fault_rank");
const PATIENCE: Duration = Duration::from_secs(20);

fn ip(args: &str) -> Result<(), String> {
    let output = Command::new("ip").args(args.split(' ')).output();
    let output = output.map_err(|error| format!("ip cannot be run: {error}"))?;
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {args}: {problem}")) }
}

/// Whether the cable of a namespace is up.
fn carries(name: &str) -> Result<bool, String> {
    let output = Command::new("ip").args(["-n", name, "link", "show", "cable0"]).output();
    let output = output.map_err(|error| format!("ip cannot be run: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("state UP"))
}

/// Two namespaces that are gone with this.
struct Hosts {
    names: [String; 2],
}

impl Hosts {
    /// Makes them; none where that is not possible.
    fn new(tag: &str) -> Option<Self> {
        let pid = std::process::id();
        let names = [0, 1].map(|host| format!("nccl-{pid}-{tag}{host}"));
        let hosts = Self { names };
        match hosts.make() {
            Ok(()) => Some(hosts),
            Err(problem) => {
                let require = std::env::var("NCCL_RS_REQUIRE").unwrap_or_default();
                assert!(!require.contains("netns"), "NCCL_RS_REQUIRE has netns, but {problem}");
                eprintln!("skipped: {problem}");
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        let [a, b] = &self.names;
        for name in [a, b] {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        ip(&format!("link add cable0 netns {a} type veth peer name cable0 netns {b}"))?;
        for (name, addr) in [(a, "10.77.0.1"), (b, "10.77.0.2")] {
            ip(&format!("-n {name} addr add {addr}/24 dev cable0"))?;
            ip(&format!("-n {name} link set cable0 up"))?;
        }
        // The cable takes a moment to carry.
        let deadline = Instant::now() + Duration::from_secs(5);
        for name in [a, b] {
            while !carries(name)? {
                if Instant::now() > deadline {
                    return Err(format!("the cable of {name} does not come up"));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Starts rank `rank` on one of the hosts.
    fn start(
        &self,
        world: &mut World,
        rank: usize,
        host: usize,
        env: &[(&str, &str)],
        words: &str,
    ) {
        let mut args = vec!["netns", "exec", &self.names[host], RANK];
        args.extend(words.split(' '));
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        world.spawn(rank, "ip", env, &args);
    }

    /// A world of four, two on each host.
    fn world(&self, more: &[(&str, &str)], words: &str) -> World {
        let mut world = World::empty(4);
        for rank in 0..4 {
            let number = rank.to_string();
            let mut env = vec![
                ("RANK", number.as_str()),
                ("WORLD_SIZE", "4"),
                ("MASTER_ADDR", "10.77.0.1"),
                ("MASTER_PORT", "29500"),
            ];
            env.extend(more);
            self.start(&mut world, rank, rank / 2, &env, words);
        }
        world
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            drop(ip(&format!("netns del {name}")));
        }
    }
}

/// The addresses on which anybody listens in the namespace of a process, as the kernel writes them.
fn listening(pid: u32) -> Vec<String> {
    let path = PathBuf::from(format!("/proc/{pid}/net"));
    let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(path.join(name)).unwrap());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let address = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = fields[1].split(':').next().unwrap().to_owned();
        (fields[3] == "0A").then_some(address)
    };
    lines.filter_map(address).collect()
}

#[test]
fn two_hosts_compute_and_a_pulled_cable_is_named_on_both_sides() {
    let Some(hosts) = Hosts::new("c") else { return };
    let env = [("NCCL_RS_HEARTBEAT_TIMEOUT_MS", "2000"), ("NCCL_SOCKET_IFNAME", "cable0")];
    let mut world = hosts.world(&env, "loop all_reduce 60000");
    (0..4).for_each(|rank| drop(world.expect(rank, "up", PATIENCE)));
    for rank in [0, 2] {
        let addresses = listening(world.pid(rank));
        // 10.77.0.1 and 10.77.0.2 as the kernel writes them.
        let own = if rank == 0 { "01004D0A" } else { "02004D0A" };
        let expected = if rank == 0 { 4 } else { 2 };
        assert_eq!(addresses, vec![own; expected], "rank {rank} listens elsewhere");
    }
    let pulled = Instant::now();
    ip(&format!("-n {} link set cable0 down", hosts.names[0])).unwrap();
    let mut slowest = Duration::ZERO;
    for rank in 0..4 {
        let line = world.expect(rank, "error ", PATIENCE);
        let took = line.at.duration_since(pulled);
        assert!(took < Duration::from_secs(3), "rank {rank} knew after {took:?}: {}", line.text);
        slowest = slowest.max(took);
        let others = if rank < 2 { [2, 3] } else { [0, 1] };
        let names = |other: &usize| line.text.contains(&format!(": rank {other} (host "));
        assert!(others.iter().any(names), "rank {rank}: {}", line.text);
    }
    eprintln!("cable pulled: known after {slowest:.1?} with a heartbeat timeout of 2 s");
    assert!(!world.transcript().contains("] wrong"), "{}", world.transcript());
    world.end();
}

#[test]
fn every_operation_is_right_between_two_hosts() {
    let Some(hosts) = Hosts::new("o") else { return };
    for kind in KINDS {
        let mut world = hosts.world(&[], &format!("loop {kind} 3000"));
        (0..4).for_each(|rank| drop(world.expect(rank, "up", PATIENCE)));
        // The transports, as rank 1 sees them.
        let ways = world.word(1, "ways ", PATIENCE);
        let expected = match kind {
            // Only the neighbours have a connection.
            "send_recv" => None,
            _ => Some("P2P/CMA - NET/Socket/0 NET/Socket/0"),
        };
        assert!(
            expected.is_none_or(|expected| ways == expected || ways.contains('?')),
            "{kind}: {ways}"
        );
        assert!(!world.transcript().contains("wrong"), "{kind}:\n{}", world.transcript());
        world.kill(3);
        (0..3).for_each(|rank| drop(world.expect(rank, "error ", PATIENCE)));
        assert!(!world.transcript().contains("wrong"), "{kind}:\n{}", world.transcript());
        world.end();
    }
}

#[test]
fn memory_between_hosts_that_do_not_share_it_is_refused_by_name() {
    let Some(hosts) = Hosts::new("m") else { return };
    let mut world = hosts.world(&[("NCCL_RS_TRANSPORT", "shm")], "loop all_reduce 10");
    for rank in 0..4 {
        let text = world.word(rank, "error ", PATIENCE);
        assert!(text.contains("cannot be reached by shared memory"), "{text}");
        assert!(text.contains("NCCL_RS_TRANSPORT"), "{text}");
    }
    world.end();
}

/// The commands of docs/run.md: one on each host, with the address of the first.
#[test]
fn nccl_run_joins_two_hosts() {
    let Some(hosts) = Hosts::new("r") else { return };
    let (launcher, hello) = (programs::built("nccl"), programs::built("hello"));
    let start = |node: usize| {
        let mut command = programs::clean("ip");
        command.args(["netns", "exec", &hosts.names[node]]).arg(&launcher);
        command.args(["run", "-n", "2", "--nnodes", "2", "--node-rank", &node.to_string()]);
        command.args(["--rdzv", "10.77.0.1:29600", "--timeout", "40", "--run-id", "two", "--"]);
        command.arg(&hello).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let launched = [start(0), start(1)];
    let outputs = launched.map(|child| child.wait_with_output().unwrap());
    let text = |at: usize| {
        let output = &outputs[at];
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
        out
    };
    let all = text(0) + &text(1);
    for rank in 0..4 {
        assert!(all.contains(&format!("rank {rank} of 4")), "{all}");
    }
    assert!(all.contains("NET/Socket/0") && all.contains("P2P/CMA"), "{all}");
}
