//! Our store's client and server with those of torch, for every operation of the protocol.
//!
//! Needs a Python that can import torch: `NCCL_RS_TORCH_PYTHON`, else `python3`. Without one the
//! tests say why and pass, unless `NCCL_RS_REQUIRE` contains `torch`.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use nccl::Error;
use nccl::store::FileStore;
use nccl::store::PrefixStore;
use nccl::store::Store;
use nccl::store::TcpStore;
use nccl::store::TcpStoreServer;

const TIMEOUT: Duration = Duration::from_secs(40);
const SHORT: Duration = Duration::from_millis(200);

/// A Python with torch, or why there is none; the test for it runs once.
fn python() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find_python).clone()
}

fn find_python() -> Option<PathBuf> {
    let given = std::env::var_os("NCCL_RS_TORCH_PYTHON");
    let path = given.map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let tried = Command::new(&path).args(["-c", "import torch.distributed"]).output();
    let why = match tried {
        Ok(output) if output.status.success() => return Some(path),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            text.lines().last().unwrap_or("it fails without a word").to_owned()
        }
        Err(error) => error.to_string(),
    };
    let text = format!("no torch with {}: {why}; set NCCL_RS_TORCH_PYTHON", path.display());
    let required = std::env::var("NCCL_RS_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|what| what.trim() == "torch"), "{text}");
    eprintln!("skipped: {text}");
    None
}

/// A run of `interop/torch_store.py`.
struct Torch {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Torch {
    fn start(python: &Path, args: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/torch_store.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(args)
            .env("TORCH_CPP_LOG_LEVEL", "ERROR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    fn succeeds(mut self) {
        assert_eq!(self.line(), "ok");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server() -> TcpStoreServer {
    TcpStoreServer::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn port_of(torch: &mut Torch) -> u16 {
    torch.line().parse().unwrap()
}

#[test]
fn a_client_of_torch_can_do_everything_with_our_server() {
    let Some(python) = python() else { return };
    let server = server();
    let port = server.local_addr().port().to_string();
    Torch::start(&python, &["client", "127.0.0.1", &port]).succeeds();
}

#[test]
fn two_ranks_of_gloo_meet_over_our_server() {
    let Some(python) = python() else { return };
    let server = server();
    let port = server.local_addr().port().to_string();
    Torch::start(&python, &["gloo", "127.0.0.1", &port]).succeeds();
}

#[test]
fn our_client_can_do_everything_with_a_server_of_torch() {
    let Some(python) = python() else { return };
    for (mode, has_all) in [("serve", true), ("legacy", false)] {
        let mut torch = Torch::start(&python, &[mode, "127.0.0.1", "0"]);
        let store = TcpStore::connect("127.0.0.1", port_of(&mut torch), TIMEOUT).unwrap();
        basics(&store);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| store.get("late"));
            thread::sleep(Duration::from_millis(50));
            store.set("k", b"meanwhile").unwrap();
            assert_eq!(store.get("k").unwrap(), b"meanwhile");
            torch.tell("set late now");
            assert_eq!(waiter.join().unwrap().unwrap(), b"now");
        });
        if has_all {
            newer(&store);
        } else {
            store.queue_push("q", b"1").unwrap();
            assert!(store.ping().is_err(), "the older backend has no queues");
            store.ping().unwrap();
        }
        let prefixed = PrefixStore::new("pre", std::sync::Arc::new(store));
        prefixed.set("k", b"p").unwrap();
        assert_eq!(prefixed.get("k").unwrap(), b"p");
    }
}

fn basics(store: &TcpStore) {
    store.set("k", b"v").unwrap();
    assert_eq!(store.get("k").unwrap(), b"v");
    store.set("e", b"").unwrap();
    assert_eq!(store.get("e").unwrap(), b"");
    assert_eq!(store.add("n", 5).unwrap(), 5);
    assert_eq!(store.add("n", -7).unwrap(), -2);
    assert_eq!(store.compare_set("c", b"exp", b"z").unwrap(), b"exp");
    assert_eq!(store.compare_set("c", b"", b"x").unwrap(), b"x");
    assert_eq!(store.compare_set("c", b"x", b"y").unwrap(), b"y");
    assert_eq!(store.compare_set("c", b"no", b"z").unwrap(), b"y");
    assert!(store.check(&["k", "n"]).unwrap() && !store.check(&["k", "zz"]).unwrap());
    assert!(store.check(&[]).unwrap());
    store.wait(&["k", "n"], TIMEOUT).unwrap();
    let late = store.wait(&["k", "y", "zz"], SHORT).unwrap_err();
    assert!(late.to_string().ends_with("waiting for \"y\", \"zz\""), "{late}");
    assert!(store.wait(&["zz"], Duration::ZERO).is_err());
    store.wait(&["k"], Duration::ZERO).unwrap();
    assert_eq!(store.num_keys().unwrap(), 4);
    store.append("k", b"w").unwrap();
    assert_eq!(store.get("k").unwrap(), b"vw");
    store.multi_set(&[("m1", b"1"), ("m2", b"22")]).unwrap();
    assert_eq!(store.multi_get(&["m2", "m1"]).unwrap(), [&b"22"[..], b"1"]);
    assert!(store.delete("e").unwrap() && !store.delete("e").unwrap());
    let (key, value) = ("x".repeat(8191), vec![5; 8 << 20]);
    store.set(&key, &value).unwrap();
    assert!(store.get(&key).unwrap() == value);
    assert!(store.delete(&key).unwrap());
    store.ping().unwrap();
    store.set("text", b"abc").unwrap();
    let error = store.add("text", 1).unwrap_err();
    assert!(matches!(error, Error::StoreLost { .. }), "{error}");
    assert_eq!(store.get("text").unwrap(), b"abc");
}

fn newer(store: &TcpStore) {
    store.queue_push("q", b"1").unwrap();
    store.queue_push("q", b"").unwrap();
    assert_eq!(store.queue_len("q").unwrap(), 2);
    assert_eq!(store.queue_pop("q", TIMEOUT).unwrap(), b"1");
    assert_eq!(store.queue_pop("q", TIMEOUT).unwrap(), b"");
    assert!(store.queue_pop("q", Duration::ZERO).is_err());
    assert!(store.queue_pop("q", SHORT).is_err());
    assert_eq!(store.add_worker().unwrap(), 1);
    let mut keys = store.list_keys().unwrap();
    keys.sort();
    assert_eq!(keys, ["c", "k", "late", "m1", "m2", "n", "text"]);
    store.barrier("b", 1, TIMEOUT).unwrap();
    assert!(store.barrier("b2", 2, SHORT).is_err());
}

#[test]
fn our_ranks_are_counted_by_a_server_of_torch_that_waits_for_workers() {
    let Some(python) = python() else { return };
    let mut torch = Torch::start(&python, &["workers", "127.0.0.1", "0"]);
    let store = TcpStore::connect("127.0.0.1", port_of(&mut torch), TIMEOUT).unwrap();
    // The server counts itself too, before or after.
    assert!((1..=2).contains(&store.add_worker().unwrap()));
    assert_eq!(torch.line(), "joined");
}

#[test]
fn ours_and_torchs_meet_in_one_file() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let text = path.to_str().unwrap();
    let store = FileStore::new(&path, TIMEOUT).unwrap();
    Torch::start(&python, &["file", text, "write"]).succeeds();
    assert_eq!(store.get("torch").unwrap(), b"v");
    assert!(!store.check(&["gone"]).unwrap());
    assert_eq!(store.add("n", 7).unwrap(), 10);
    store.set("rust", b"w").unwrap();
    store.set("deleted", b"").unwrap();
    assert!(store.delete("deleted").unwrap());
    store.queue_push("q", b"torch passes over it").unwrap();
    Torch::start(&python, &["file", text, "read"]).succeeds();
    assert_eq!(store.get("n").unwrap(), b"11");
    assert_eq!(store.num_keys().unwrap(), 3);
}
