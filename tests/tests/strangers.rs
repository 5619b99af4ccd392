//! Programs that speak to the ports of a world and do not belong to it: nobody is disturbed, and the
//! log says what they were.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::config::Env;
use tests::faults::Line;
use tests::faults::World;
use tests::faults::free_port;
use tests::faults::plain;

const RANK: &str = env!("CARGO_BIN_EXE_fault_rank");
const PATIENCE: Duration = Duration::from_secs(20);

/// What the library has logged in this process.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Keep;

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            LINES.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
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
        // The group works on beside them.
        let connected = Instant::now();
        for rank in 0..3 {
            let turn = |line: Line| line.text["going ".len()..].parse::<usize>().unwrap();
            let first = world.expect_after(connected, rank, "going ", PATIENCE);
            let (at, first) = (first.at, turn(first));
            let later = turn(world.expect_after(at, rank, "going ", PATIENCE));
            assert!(later > first, "rank {rank}: {first} turns, and then {later}");
        }
        let said = world.transcript();
        assert!(!said.contains("error") && !said.contains("wrong"), "{said}");
        // All are alive, and the loop still ends by a death only.
        let killed = world.kill(2);
        for rank in 0..2 {
            let line = world.expect(rank, "error ", PATIENCE);
            assert!(line.at.duration_since(killed) < Duration::from_secs(1), "{line:?}");
            assert!(line.text.contains(": rank 2 (host "), "{line:?}");
        }
        drop(held);
        world.end();
    }
}

/// What a stranger says, and what the store and the other ports call it.
const STRANGERS: [(&[u8], &str, &str); 4] = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "it is an HTTP client", "it speaks HTTP"),
    (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], "it is a TLS client", "it speaks TLS"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "it is an SSH client", "it speaks SSH"),
    (
        b"\x07\xffwhat is this?",
        "it is no store client (its first bytes are \"\\x07\\xffwhat is this?\")",
        "it speaks no protocol of ours",
    ),
];

/// A connection from an address of its own: of each address one line is written per minute.
fn call_from(number: u8, port: u16) -> TcpStream {
    use rustix::net;
    let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
    net::bind(&socket, &SocketAddr::from(([127, 0, 9, number], 0))).unwrap();
    net::connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn strangers_are_logged_with_what_they_are_on_the_store_and_on_the_ports_of_ranks() {
    log::set_logger(&Keep).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let store = free_port();
    let groups: Vec<ProcessGroup> = std::thread::scope(|scope| {
        let build = |rank: usize| {
            scope.spawn(move || {
                let env = Env::empty()
                    .with("RANK", rank.to_string())
                    .with("WORLD_SIZE", "2")
                    .with("MASTER_ADDR", "127.0.0.1")
                    .with("MASTER_PORT", store.to_string());
                ProcessGroup::builder().env(env).init_timeout(PATIENCE).build().unwrap()
            })
        };
        [0, 1].map(build).into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    let ports = listening_ports(std::process::id());
    // The store, the hub, and a mesh listener of each rank.
    assert_eq!(ports.len(), 4, "{ports:?}");
    let mut expected = Vec::new();
    for port in ports {
        for (number, (says, to_store, to_rank)) in (1..).zip(STRANGERS) {
            let mut stream = call_from(number, port);
            stream.write_all(says).unwrap();
            // Closed at once: the end, or a reset because words were left unread.
            assert!(!matches!(stream.read(&mut [0]), Ok(1..)), "an answer to {says:?}");
            let from = format!("127.0.9.{number}");
            if port == store {
                expected.push(vec![format!(
                    "store on port P: closed the connection from {from}:P: {to_store}"
                )]);
            } else {
                let line =
                    |what| format!("closed a connection from {from} to the {what}: {to_rank}");
                expected
                    .push(["port where ranks join", "port for data connections"].map(line).into());
            }
        }
    }
    let begun = Instant::now();
    while LINES.lock().unwrap().len() < expected.len() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
    let lines: Vec<String> = LINES.lock().unwrap().iter().map(|line| plain(line)).collect();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for either in expected {
        assert!(either.iter().any(|line| lines.contains(line)), "{either:#?} in {lines:#?}");
    }
    // The group has not noticed.
    std::thread::scope(|scope| {
        for group in &groups {
            scope.spawn(|| group.barrier().unwrap());
        }
    });
}
