//! Values that cannot be, with the exact text of the error.

use super::*;

const RULE: &str = "must be a plain decimal number (digits only: no sign, space, unit or prefix)";

#[test]
fn a_rank_that_cannot_be() {
    let with =
        |rank: &str| problem(&format!("RANK={rank}\nWORLD_SIZE=2\nMASTER_ADDR=a\nMASTER_PORT=4"));
    for rank in ["abc", " 1", "+1", "0x1", "1 ", "1.0"] {
        assert_eq!(with(rank), format!("RANK={rank:?} {RULE}"));
    }
    assert_eq!(with(""), format!("RANK=\"\" is empty; it {RULE}"));
    assert_eq!(with("-1"), "RANK=\"-1\" must not be negative");
    for rank in ["2", "5", "2147483648", "9223372036854775808", &format!("1{}", "0".repeat(30))] {
        let text = format!("RANK={rank:?} is not below WORLD_SIZE 2; ranks go from 0 to 1");
        assert_eq!(with(rank), text);
    }
    let env = env("WORLD_SIZE=2").with("RANK", "1\n");
    let text = Launch::from_env(&env).unwrap_err().to_string();
    assert_eq!(text, format!("RANK=\"1\\n\" {RULE}"));
}

#[test]
fn a_rank_or_a_size_that_is_missing() {
    assert_eq!(
        problem("WORLD_SIZE=2"),
        "RANK is missing, though WORLD_SIZE is set; set RANK to this process's rank, start it \
         with a launcher, or unset WORLD_SIZE for a world of one"
    );
    assert!(problem("MASTER_ADDR=a").starts_with("RANK is missing, though MASTER_ADDR is set"));
    assert_eq!(
        problem("RANK=0"),
        "WORLD_SIZE is missing, though RANK is set; set it to the number of ranks"
    );
    assert_eq!(
        problem("OMPI_COMM_WORLD_RANK=0"),
        "OMPI_COMM_WORLD_SIZE is missing, though OMPI_COMM_WORLD_RANK is set; set it to the \
         number of ranks"
    );
}

#[test]
fn a_size_that_cannot_be() {
    let with = |size: &str| problem(&format!("RANK=0\nWORLD_SIZE={size}"));
    assert_eq!(with("0"), "WORLD_SIZE=\"0\" must be at least 1");
    assert_eq!(with("-3"), "WORLD_SIZE=\"-3\" must not be negative");
    assert_eq!(with("two"), format!("WORLD_SIZE=\"two\" {RULE}"));
    for size in ["1000001", "1000000000", "99999999999999999999999"] {
        let text = "is more than 1000000, the most ranks a world can have";
        assert_eq!(with(size), format!("WORLD_SIZE={size:?} {text}"));
    }
    let found = launch("RANK=0\nWORLD_SIZE=1000000\nMASTER_ADDR=a\nMASTER_PORT=1");
    assert_eq!(found.world_size, 1_000_000);
}

#[test]
fn local_numbers_that_cannot_be() {
    let base = "RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=a\nMASTER_PORT=4\n";
    let with = |more: &str| problem(&format!("{base}{more}"));
    assert_eq!(
        with("LOCAL_RANK=2\nLOCAL_WORLD_SIZE=2"),
        "LOCAL_RANK=\"2\" is not below LOCAL_WORLD_SIZE 2"
    );
    assert_eq!(with("LOCAL_RANK=x"), format!("LOCAL_RANK=\"x\" {RULE}"));
    assert_eq!(
        with("LOCAL_WORLD_SIZE=3"),
        "the number of ranks: WORLD_SIZE=2 and 3 ranks on this host contradict each other; a host \
         cannot have more ranks than the world"
    );
}

#[test]
fn a_port_that_cannot_be() {
    let with =
        |port: &str| problem(&format!("RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=a\nMASTER_PORT={port}"));
    assert_eq!(
        with("0"),
        "MASTER_PORT=\"0\" is no port that others can connect to; choose one from 1 to 65535"
    );
    for port in ["65536", "70000"] {
        assert_eq!(
            with(port),
            format!("MASTER_PORT={port:?} is no port; ports go from 1 to 65535")
        );
    }
    assert_eq!(with("abc"), format!("MASTER_PORT=\"abc\" {RULE}"));
    assert_eq!(with("-1"), "MASTER_PORT=\"-1\" must not be negative");
    let text = problem("RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=a");
    assert_eq!(
        text,
        "MASTER_PORT is missing, and the launcher (plain) gives the job no name to make a port \
         from; set MASTER_PORT to a free port of a, or NCCL_RS_JOB_ID to a name that all ranks \
         share"
    );
}

#[test]
fn an_address_that_cannot_be() {
    let with =
        |addr: &str| problem(&format!("RANK=0\nWORLD_SIZE=2\nMASTER_ADDR={addr}\nMASTER_PORT=4"));
    assert_eq!(
        with("$(POD_IP)"),
        "MASTER_ADDR=\"$(POD_IP)\" holds a variable that nothing replaced: `$(NAME)` is replaced \
         by Kubernetes only if NAME is defined above it, `${NAME}` only by a shell"
    );
    assert_eq!(
        with("tcp://node0"),
        "MASTER_ADDR=\"tcp://node0\" is a URL; give the host alone, and the port in MASTER_PORT \
         (URLs go to init_method)"
    );
    assert_eq!(
        with(""),
        "MASTER_ADDR=\"\" is empty; set it to the name or address of rank 0's host"
    );
    assert_eq!(
        with("node0:29500"),
        "MASTER_ADDR=\"node0:29500\" carries a port; give the host alone, and the port in \
         MASTER_PORT"
    );
    assert!(with("${MASTER}").contains("nothing replaced"));
    let text = problem("RANK=0\nWORLD_SIZE=2\nMASTER_PORT=4");
    assert!(
        text.starts_with("MASTER_ADDR is missing, and the launcher (plain) does not"),
        "{text}"
    );
    let text = problem("RANK=0\nWORLD_SIZE=2\nNCCL_COMM_ID=node0");
    assert!(text.starts_with("NCCL_COMM_ID=\"node0\" has no port; it must be <ipv4>"), "{text}");
}

#[test]
fn a_long_value_is_cut() {
    let text = problem(&format!("RANK={}\nWORLD_SIZE=2", "x".repeat(100_000)));
    assert!(text.len() < 300 && text.contains("(100000 bytes)"), "{text}");
}
