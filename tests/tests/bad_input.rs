//! Wrong settings and calls: the exact words, at once, and the ranks that are right go on.
//!
//! Every kind of bad input, and the test that compares the whole text of its error. Only what differs
//! from run to run is left out: ports, process numbers, durations, this host's name. A test without a
//! file is in this one.
//!
//! | bad input | test |
//! |---|---|
//! | `RANK` missing | `a_missing_variable_is_named` |
//! | `RANK` negative, no number, empty, hexadecimal, not below `WORLD_SIZE` | `wrong_variables_are_named_with_their_value_and_what_to_do` |
//! | `RANK` used twice, by variables and processes | `faults_places`: `a_process_that_comes_as_a_rank_that_runs_is_told_who_has_it_and_the_first_goes_on` |
//! | `RANK` used twice, in one store | `faults_timeout`: `a_rank_number_used_twice_and_a_world_of_another_size_are_told` |
//! | `WORLD_SIZE` missing | `a_missing_variable_is_named` |
//! | `WORLD_SIZE` 0 | `wrong_variables_are_named_with_their_value_and_what_to_do` |
//! | `WORLD_SIZE` differs between ranks, by variables | `ranks_that_disagree_by_their_variables_are_told_by_the_port` |
//! | `WORLD_SIZE` differs between ranks, in one store | `faults_timeout`: `a_world_whose_ranks_were_told_different_sizes_ends_at_once` |
//! | `MASTER_PORT` missing | `a_missing_variable_is_named` |
//! | `MASTER_PORT` taken | `a_taken_port_is_told_to_rank_0_with_who_has_it` |
//! | `MASTER_PORT` 0, 70000, `tcp://...` | `wrong_variables_are_named_with_their_value_and_what_to_do` |
//! | `MASTER_PORT` of a web server, of TLS, SSH, something else, of what closes | `what_listens_instead_of_the_store_is_told_with_its_first_words` |
//! | `MASTER_PORT` of a silent server, of nobody | `a_server_that_says_nothing_and_a_port_where_nobody_is_are_told` |
//! | `MASTER_ADDR` missing | `a_missing_variable_is_named` |
//! | `MASTER_ADDR` that does not resolve | `a_host_name_that_does_not_resolve_is_named_with_its_variable` |
//! | `MASTER_ADDR` `$(VAR)` | `wrong_variables_are_named_with_their_value_and_what_to_do` |
//! | an interface that does not exist | `an_interface_that_does_not_exist_is_told_with_those_that_do` |
//! | a buffer of another length | `wrong_calls_say_what_was_expected_and_leave_the_group_good` |
//! | another length, type, reduction, root, operation or order than the other ranks | `faults_mismatch`: `threads_that_call_different_things_are_told_in_memory`, `..._over_tcp`, `processes_that_call_different_things_are_told` |
//! | a root, a peer, a member that cannot be | `wrong_calls_say_what_was_expected_and_leave_the_group_good` |
//! | a group used after an abort | `faults_timeout`: `an_abort_ends_every_wait_on_every_rank` |
//! | a group used after `finalize` | `faults_timeout`: `a_finalized_group_says_so` |
//! | a group dropped while others wait | `faults_timeout`: `a_rank_that_drops_the_group_is_told_to_those_who_wait` |
//! | a group dropped with work in flight | `faults_timeout`: `a_group_dropped_with_work_in_flight_ends_at_once_and_the_others_are_told` |
//! | garbage, HTTP, TLS, SSH on the port of the store, of the hub, of data connections | `strangers`: `strangers_are_logged_with_what_they_are_on_the_store_and_on_the_ports_of_ranks` |
//! | the same while a group works, with a death afterwards | `strangers`: `strangers_on_every_port_do_not_disturb_a_group_that_works` (the log's words are those above) |
//! | too few descriptors | `too_few_descriptors_are_an_error_that_says_so` (not the whole text: it depends on which descriptor was the last) |

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::config::Env;
use tests::faults::World;
use tests::faults::free_port;
use tests::faults::plain;
use tests::faults::threads_of;

const RANK: &str = env!("CARGO_BIN_EXE_fault_rank");
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a start waits for the others.
const INIT: Duration = Duration::from_secs(3);
/// What nobody has to be waited for comes sooner than this, on a machine busy with others too.
const AT_ONCE: Duration = Duration::from_millis(2500);

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
        if text != *expected || took > AT_ONCE {
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
                 address has such a name; this machine has ";
    let list = text.strip_prefix(begin).unwrap_or_else(|| panic!("{text}"));
    // What this machine has: each a name that the kernel knows, and an address.
    for one in list.split(", ") {
        let (name, addr) = one.split_once(' ').unwrap_or_else(|| panic!("{text}"));
        assert!(addr.parse::<std::net::IpAddr>().is_ok(), "{one} in {text}");
        let is_here = std::path::Path::new("/sys/class/net").join(name).exists();
        assert!(is_here || !cfg!(target_os = "linux"), "{one} in {text}");
    }
    assert!(list.split(", ").any(|one| one == "lo 127.0.0.1"), "{text}");
    assert!(took < AT_ONCE, "{took:?}");
}

/// The resolver's own words differ: with a name server that says no, without any, by libc.
#[test]
fn a_host_name_that_does_not_resolve_is_named_with_its_variable() {
    for rank in ["0", "1"] {
        let (text, _) = refused(&[
            ("RANK", rank),
            ("WORLD_SIZE", "2"),
            ("MASTER_ADDR", "no-such-host.invalid"),
            ("MASTER_PORT", "29500"),
        ]);
        let what =
            ["MASTER_ADDR", "the store's host, usually MASTER_ADDR"][usize::from(rank == "1")];
        let begin = format!("cannot resolve the host name \"no-such-host.invalid\" ({what}): ");
        let why = text.strip_prefix(&begin).unwrap_or_else(|| panic!("{text}"));
        let words = [
            "failed to lookup address information: Name or service not known",
            "failed to lookup address information: Temporary failure in name resolution",
            "failed to lookup address information: No address associated with hostname",
        ];
        assert!(words.contains(&why), "{text}");
    }
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

/// The variables of a rank of a world of two whose store is at a port.
fn rank_of_two<'a>(rank: &'a str, port: &'a str) -> [(&'a str, &'a str); 4] {
    [("RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port)]
}

#[test]
fn a_taken_port_is_told_to_rank_0_with_who_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    // Who holds the port is looked up among all processes.
    let (text, took) = refused(&rank_of_two("0", &port));
    assert!(took < AT_ONCE, "{took:?}");
    let (pid, name) = (std::process::id(), std::fs::read_to_string("/proc/self/comm").unwrap());
    let expected = format!(
        "cannot listen on 127.0.0.1:{port} (store): Address already in use (os error 98); port \
         {port} is held by process {pid} ({}): end it, or give this job another port (MASTER_PORT)",
        name.trim_end()
    );
    assert_eq!(text, expected);
}

/// Servers that are no store, by what they answer; none closes the connection without a word.
#[test]
fn what_listens_instead_of_the_store_is_told_with_its_first_words() {
    let answers: [(Option<&[u8]>, &str); 5] = [
        (
            Some(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
            "is not a store (got 'HTTP/1.1 400 Bad Request')",
        ),
        (
            Some(&[0x15, 3, 1, 0, 2, 2, 0x28]),
            "is not a store (got '\\x15\\x03\\x01\\x00\\x02\\x02(')",
        ),
        (Some(b"SSH-2.0-OpenSSH_9.2\r\n"), "is not a store (got 'SSH-2.0-OpenSSH_9.2')"),
        (Some(&[0xff; 20]), "is not a store (got '"),
        (
            None,
            "takes the connection and ends it (the server closed the connection): no store, or one \
             that has no room for clients",
        ),
    ];
    for (answer, says) in answers {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = server.accept() {
                drop(stream.read(&mut [0; 64]));
                if let Some(answer) = answer {
                    drop(stream.write_all(answer));
                }
            }
        });
        let (text, took) = refused(&rank_of_two("1", &port.to_string()));
        let says = match answer {
            Some([0xff, ..]) => format!("{says}{}')", "\\xff".repeat(20)),
            _ => says.to_owned(),
        };
        let expected = format!(
            "cannot connect to the store at 127.0.0.1:{port}: server at 127.0.0.1:{port} {says}; is \
             MASTER_PORT the port of this job's store? (tried for T)"
        );
        assert_eq!(plain(&text), plain(&expected));
        // Whoever closes may be a store that is full: that one is asked again until the deadline.
        assert!(took < if answer.is_some() { AT_ONCE } else { INIT + AT_ONCE }, "{took:?}: {text}");
    }
}

#[test]
fn a_server_that_says_nothing_and_a_port_where_nobody_is_are_told() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let (text, took) = refused(&rank_of_two("1", &port.to_string()));
    let expected = format!(
        "cannot connect to the store at 127.0.0.1:{port}: server at 127.0.0.1:{port} is not a store \
         (it takes the connection and says nothing for T), or it is stopped; is MASTER_PORT the port \
         of this job's store? (tried for T)"
    );
    assert_eq!(plain(&text), plain(&expected));
    assert!(took < INIT + AT_ONCE, "{took:?}");
    drop(silent);
    let (text, took) = refused(&rank_of_two("1", &port.to_string()));
    let expected = format!(
        "cannot connect to the store at 127.0.0.1:{port}: 127.0.0.1:{port}: Connection refused (os \
         error 111); is rank 0 up, and are MASTER_ADDR and MASTER_PORT the same on all ranks? (tried \
         for T)"
    );
    assert_eq!(plain(&text), plain(&expected));
    assert!(took < INIT + AT_ONCE, "{took:?}");
}

/// Two start commands that disagree: rank 0 waits at the port, the others come with other numbers.
#[test]
fn ranks_that_disagree_by_their_variables_are_told_by_the_port() {
    let port = free_port().to_string();
    let build = |rank: &str, world_size: &str| {
        let vars = [
            ("RANK", rank),
            ("WORLD_SIZE", world_size),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", &port),
        ];
        plain(&refused(&vars).0)
    };
    std::thread::scope(|scope| {
        let zero = scope.spawn(|| build("0", "2"));
        let one = scope.spawn(|| build("1", "3"));
        let says = "rank 1 says WORLD_SIZE 3, rank 0 says 2 (rank 1: host H, pid N; rank 0: host H, \
                    pid N)";
        assert_eq!(zero.join().unwrap(), format!("rank 0 of 2 cannot join: {says}"));
        assert_eq!(one.join().unwrap(), format!("rank 1 of 3 cannot join: {says}"));
    });
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
        let says = text.contains("Too many open files")
            || text.contains(": rank 1 (host ")
            || text.contains(" closed the connection while");
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
            let word = if rank == 0 { "full" } else { "wait" };
            [word, "all_reduce", "1000"].map(str::to_owned).to_vec()
        };
        let disable = if transport == "tcp" { "1" } else { "0" };
        let env = [("NCCL_RS_TIMEOUT_MS", "30000"), ("NCCL_SHM_DISABLE", disable)];
        let mut world = World::start(RANK, 3, &env, words);
        // The others dial rank 0 once it has no descriptor left, and not before.
        world.expect(0, "full", PATIENCE);
        for rank in 1..3 {
            world.expect(rank, "joined", PATIENCE);
            world.tell(rank, "go");
        }
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
