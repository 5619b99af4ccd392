//! Wrong settings and strangers: the exact words, at once, and the ranks that are right go on.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::config::Env;
use tests::faults::World;
use tests::faults::free_port;
use tests::faults::threads_of;

const RANK: &str = env!("CARGO_BIN_EXE_fault_rank");
const PATIENCE: Duration = Duration::from_secs(20);

/// The error of a start with these variables, and how long it took.
fn refused(vars: &[(&str, &str)]) -> (String, Duration) {
    let base = Env::empty().with("NCCL_RS_INIT_TIMEOUT_MS", "3000");
    let env = vars.iter().fold(base, |env, (name, value)| env.with(*name, *value));
    let begun = Instant::now();
    let error = ProcessGroup::builder().env(env).build().unwrap_err();
    (error.to_string(), begun.elapsed())
}

/// Each set of variables with the exact text of its error, which comes at once.
#[test]
fn wrong_variables_are_named_with_their_value_and_what_to_do() {
    let world = [("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500")];
    let decimal = "must be a plain decimal number (digits only: no sign, space, unit or prefix)";
    let cases: &[(&[(&str, &str)], String)] = &[
        (&[("RANK", "-1")], "RANK=\"-1\" must not be negative".to_owned()),
        (&[("RANK", "abc")], format!("RANK=\"abc\" {decimal}")),
        (&[("RANK", "")], "RANK=\"\" is empty; it must be a plain decimal number (digits only: no sign, space, unit or prefix)".to_owned()),
        (&[("RANK", "0x1")], format!("RANK=\"0x1\" {decimal}")),
        (&[("RANK", "2")], "RANK=\"2\" is not below WORLD_SIZE 2; ranks go from 0 to 1".to_owned()),
        (&[("RANK", "0"), ("WORLD_SIZE", "0")], "WORLD_SIZE=\"0\" must be at least 1".to_owned()),
        (&[("RANK", "0"), ("MASTER_PORT", "0")], "MASTER_PORT=\"0\" is no port that others can connect to; choose one from 1 to 65535".to_owned()),
        (&[("RANK", "1"), ("MASTER_PORT", "70000")], "MASTER_PORT=\"70000\" is no port; ports go from 1 to 65535".to_owned()),
        (&[("RANK", "1"), ("MASTER_PORT", "tcp://10.0.0.1:29500")], "MASTER_PORT=\"tcp://10.0.0.1:29500\" must be a plain decimal number (digits only: no sign, space, unit or prefix)".to_owned()),
        (&[("RANK", "1"), ("MASTER_ADDR", "$(MY_HOST)")], "MASTER_ADDR=\"$(MY_HOST)\" holds a variable that nothing replaced: `$(NAME)` is replaced by Kubernetes only if NAME is defined above it, `${NAME}` only by a shell".to_owned()),
        (&[("RANK", "1"), ("MASTER_ADDR", "no-such-host.invalid")], "cannot resolve the host name \"no-such-host.invalid\" (the store's host, usually MASTER_ADDR): failed to lookup address information: Name or service not known".to_owned()),
        (&[("RANK", "0"), ("NCCL_RS_TIMEOUT_MS", "abc")], format!("NCCL_RS_TIMEOUT_MS=\"abc\" {decimal}")),
        (&[("RANK", "0"), ("NCCL_RS_TIMEOUT_MS", "0")], "NCCL_RS_TIMEOUT_MS=\"0\" must be at least 1 ms; a wait without a bound does not exist here".to_owned()),
        (&[("RANK", "0"), ("NCCL_RS_TRANSPORT", "bogus")], "NCCL_RS_TRANSPORT=\"bogus\" must be shm or tcp; unset it to choose by peer".to_owned()),
        (&[("RANK", "0"), ("NCCL_RS_BACKEND", "gpu")], "NCCL_RS_BACKEND=\"gpu\" must be auto, cpu or nccl".to_owned()),
            ];
    let mut wrong = Vec::new();
    for (vars, expected) in cases {
        let all: Vec<_> = world
            .into_iter()
            .filter(|(name, _)| vars.iter().all(|(other, _)| name != other))
            .chain(vars.iter().copied())
            .collect();
        let (text, took) = refused(&all);
        if text != *expected || took > Duration::from_millis(1500) {
            wrong.push(format!("{vars:?} after {took:?}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_interface_that_does_not_exist_is_told_with_those_that_do() {
    let (text, took) = refused(&[
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", &free_port().to_string()),
        ("NCCL_SOCKET_IFNAME", "nope0"),
    ]);
    let begin = "no network interface fits NCCL_SOCKET_IFNAME=\"nope0\": no interface with an \
                 address has such a name; this machine has lo 127.0.0.1";
    assert!(text.starts_with(begin), "{text}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_missing_variable_is_named() {
    let (text, _) = refused(&[("WORLD_SIZE", "2"), ("MASTER_ADDR", "h"), ("MASTER_PORT", "1")]);
    assert_eq!(
        text,
        "RANK is missing, though WORLD_SIZE is set; set RANK to this process's rank, start it with a launcher, or unset WORLD_SIZE for a world of one"
    );
    let (text, _) = refused(&[("RANK", "0"), ("MASTER_ADDR", "h"), ("MASTER_PORT", "1")]);
    assert_eq!(text, "WORLD_SIZE is missing, though RANK is set; set it to the number of ranks");
    let (text, _) = refused(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")]);
    assert_eq!(
        text,
        "MASTER_PORT is missing, and the launcher (plain) gives the job no name to make a port from; set MASTER_PORT to a free port of 127.0.0.1, or NCCL_RS_JOB_ID to a name that all ranks share"
    );
    let (text, _) = refused(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_PORT", "1")]);
    assert_eq!(
        text,
        "MASTER_ADDR is missing, and the launcher (plain) does not tell rank 0's host: RANK and WORLD_SIZE alone do not tell it; set MASTER_ADDR to its name or address and MASTER_PORT to a free port there"
    );
}

#[test]
fn a_taken_port_is_told_to_rank_0_and_a_web_server_is_no_store_for_the_others() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let vars = |rank| {
        [("RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port)]
    };
    // Who holds the port is looked up among all processes.
    let (text, took) = refused(&vars("0"));
    assert!(took < Duration::from_secs(3), "{took:?}");
    let begin = format!("cannot listen on 127.0.0.1:{port} (");
    assert!(text.starts_with(&begin), "{text}");
    assert!(text.contains(&format!("process {} (", std::process::id())), "{text}");
    assert!(text.contains("MASTER_PORT"), "{text}");

    let server = std::thread::spawn(move || {
        let (mut stream, _) = taken.accept().unwrap();
        let mut request = [0; 64];
        drop(stream.read(&mut request));
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"));
    });
    let (text, took) = refused(&vars("1"));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(text.contains(" is not a store (got 'HTTP/1.1 400 Bad Request')"), "{text}");
    assert!(text.contains("is MASTER_PORT the port of this job's store?"), "{text}");
    server.join().unwrap();
}

#[test]
fn wrong_calls_say_what_was_expected_and_leave_the_group_good() {
    threads_of(2, None, Duration::from_secs(5), |group| {
        let texts = [
            group.all_reduce(&[1.0_f32; 3], &mut [0.0; 4], nccl::ReduceOp::Sum),
            group.all_gather(&[1.0_f32; 3], &mut [0.0; 5]),
            group.reduce_scatter(&[1.0_f32; 5], &mut [0.0; 2], nccl::ReduceOp::Sum),
            group.broadcast(&mut [1.0_f32; 3], 2),
            group.send(&[1_u8], 2),
            group.recv(&mut [1_u8], 7),
            group.all_reduce(&[1.0_f32], &mut [0.0], nccl::ReduceOp::BitAnd),
            group.subgroup_of(&[0, 0]).map(|_| ()),
            group.subgroup_of(&[0, 5]).map(|_| ()),
            group.subgroup_of(&[]).map(|_| ()),
        ];
        let texts: Vec<String> = texts.into_iter().map(|r| r.unwrap_err().to_string()).collect();
        let expected = [
            "all_reduce: `recv` holds 4 elements, expected 3",
            "all_gather: `recv` holds 5 elements, expected 6",
            "reduce_scatter: `send` holds 5 elements, expected 4",
            "broadcast: root 2 is not a rank of this group of 2 (0..2)",
            "send: peer 2 is not a rank of this group of 2 (0..2)",
            "recv: peer 7 is not a rank of this group of 2 (0..2)",
            "all_reduce: the reduction `band` does not exist for f32: bitwise operations are for \
             integers; send the bits as u8, u32 or u64",
            "subgroup_of: rank 0 is twice in the list",
            "subgroup_of: rank 5 is not a rank of this group of 2 (0..2)",
            "subgroup_of: the list of ranks is empty",
        ];
        assert_eq!(texts, expected);
        group.barrier().unwrap();
    });
}

/// The ports of this host on which a process listens.
fn listening_ports(pid: u32) -> Vec<u16> {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|link| {
            let link = link.to_string_lossy().into_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields[3] == "0A" && inodes.iter().any(|inode| inode == fields[9]);
        let port = fields[1].rsplit(':').next().unwrap();
        listens.then(|| u16::from_str_radix(port, 16).unwrap())
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[test]
fn strangers_on_every_port_do_not_disturb_a_group_that_works() {
    for way in [&[][..], &[("NCCL_RS_TRANSPORT", "tcp")][..]] {
        let mut env = way.to_vec();
        env.push(("NCCL_RS_HEARTBEAT_TIMEOUT_MS", "2000"));
        let words = |_| ["loop", "all_reduce", "10000"].map(str::to_owned).to_vec();
        let mut world = World::start(RANK, 3, &env, words);
        (0..3).for_each(|rank| drop(world.expect(rank, "up", PATIENCE)));
        let mut ports: Vec<u16> =
            (0..3).flat_map(|rank| listening_ports(world.pid(rank))).collect();
        ports.sort_unstable();
        ports.dedup();
        // The store, the hub, and a mesh listener of each rank.
        assert_eq!(ports.len(), 5, "{ports:?}");
        let garbage: Vec<u8> = (0..5000_u32).map(|at| (at * 37 % 251) as u8).collect();
        let hello: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
            &garbage,
            &[0xff; 64],
            b"",
            &[0],
        ];
        let mut held = Vec::new();
        for port in &ports {
            for bytes in hello {
                let mut stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
                drop(stream.write_all(bytes));
                held.push(stream);
            }
        }
        // Longer than a stranger has to say who it is costs nobody anything either.
        std::thread::sleep(Duration::from_millis(300));
        let said = world.transcript();
        assert!(!said.contains("error") && !said.contains("wrong"), "{said}");
        // All are alive, and the loop still ends by a death only.
        let killed = world.kill(2);
        for rank in 0..2 {
            let line = world.expect(rank, "error ", PATIENCE);
            assert!(line.at.duration_since(killed) < Duration::from_secs(1), "{line:?}");
            assert!(line.text.contains(": rank 2 (host "), "{line:?}");
        }
        let turns: usize = world.word(0, "turns ", PATIENCE).parse().unwrap();
        assert!(turns > 20, "the group worked on: {turns}");
        drop(held);
        world.end();
    }
}

#[test]
fn too_few_descriptors_are_an_error_that_says_so() {
    let mut texts = Vec::new();
    for limit in [3, 8, 10, 12, 14, 16, 18, 20, 24] {
        let words = |rank| {
            let limit = if rank == 1 { limit } else { 256 };
            ["nofile", &limit.to_string(), "all_reduce", "1000"].map(str::to_owned).to_vec()
        };
        let env = [("NCCL_RS_INIT_TIMEOUT_MS", "2000"), ("NCCL_RS_TIMEOUT_MS", "3000")];
        let mut world = World::start(RANK, 3, &env, words);
        // Either it works, or all three end with an error in time.
        let begun = Instant::now();
        let first = world.first_of(1, &["up", "error ", "refused "], PATIENCE);
        assert!(begun.elapsed() < Duration::from_secs(6), "{limit}: {:?}", begun.elapsed());
        assert!(!world.transcript().contains("panicked"), "{}", world.transcript());
        if first.text.starts_with("up") {
            texts.push(format!("{limit}: enough"));
            break;
        }
        let text = first.text.clone();
        // Its own words, or those of a peer that it shut out.
        let says = text.contains("Too many open files") || text.contains(": rank 1 (host ");
        assert!(says, "{limit}: {text}");
        for rank in [0, 2] {
            let said = world.first_of(rank, &["error ", "refused "], PATIENCE);
            let names = said.text.contains("rank 1") || said.text.contains("missing 1");
            assert!(names || said.text.contains(" closed the connection while"), "{said:?}");
        }
        texts.push(format!("{limit}: {text}"));
        world.end();
    }
    eprintln!("{}", texts.join("\n"));
    let enough = texts.iter().position(|text| text.ends_with("enough"));
    assert!(enough.is_some_and(|enough| enough >= 4), "{}", texts.join("\n"));
}

#[test]
fn a_rank_that_can_accept_no_connection_any_more_is_named_by_all() {
    for transport in ["tcp", "shm"] {
        let words = |rank| {
            let word = if rank == 0 { "full" } else { "loop" };
            [word, "all_reduce", "1000"].map(str::to_owned).to_vec()
        };
        let disable = if transport == "tcp" { "1" } else { "0" };
        let env = [("NCCL_RS_TIMEOUT_MS", "30000"), ("NCCL_SHM_DISABLE", disable)];
        let mut world = World::start(RANK, 3, &env, words);
        for rank in 0..3 {
            let said = world.first_of(rank, &["error "], PATIENCE);
            let says = said.text.contains(": Too many open files")
                && (rank == 0 || said.text.contains("rank 0 aborted"))
                && !said.text.contains(" waited ");
            assert!(says, "{transport}, rank {rank}: {said:?}");
        }
        world.end();
    }
}

#[test]
fn a_free_port_is_free() {
    assert!(TcpListener::bind(("127.0.0.1", free_port())).is_ok());
}
