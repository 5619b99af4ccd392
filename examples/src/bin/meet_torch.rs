//! A Python process with torch and the Rust ranks meet in one store.
//!
//! Rank 0 serves the store and starts `examples/python/meet_torch.py`, which opens it with
//! `torch.distributed.TCPStore`. Everybody leaves a number there, and reads all others'.
//!
//! Run `nccl run -n 2 --example meet_torch`; with a Python that has torch (`python3`, or the one
//! named by `NCCL_RS_TORCH_PYTHON`) it prints
//!
//! ```text
//! [rank 0] torch read 1000 and 1001 from 2 Rust ranks
//! [rank 0] rank 0 read 42 from torch; 3 came
//! [rank 0] rank 1 read 42 from torch; 3 came
//! ```
//!
//! and otherwise `skipped: ` with the reason.

use std::error::Error;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::Duration;

use examples::print_in_rank_order;
use nccl::ProcessGroup;
use nccl::store::Store;
use nccl::store::TcpStore;
use nccl::store::TcpStoreServer;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/meet_torch.py");
const TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let group = ProcessGroup::from_env()?;
    let mut guest = None;
    let mut port = Vec::new();
    if group.rank() == 0 {
        guest = Guest::invite(group.world_size())?;
        let served = guest.as_ref().map(|guest| guest.server.local_addr().port());
        port = served.map(|port| port.to_string().into_bytes()).unwrap_or_default();
    }
    group.broadcast_bytes(&mut port, 0)?;
    if port.is_empty() {
        return Ok(group.finalize()?); // no torch here; rank 0 has said so
    }

    let store = TcpStore::connect("127.0.0.1", str::from_utf8(&port)?.parse()?, TIMEOUT)?;
    let number = (1000 + group.rank()).to_string();
    store.set(&format!("rust/{}", group.rank()), number.as_bytes())?;
    store.add("came", 1)?;
    store.wait(&["torch"], TIMEOUT)?;
    let from_torch = String::from_utf8(store.get("torch")?)?;

    if let Some(guest) = &mut guest {
        guest.wait()?;
    }
    group.barrier()?;
    let came = store.add("came", 0)?;
    let line = format!("rank {} read {from_torch} from torch; {came} came", group.rank());
    print_in_rank_order(&group, &line)?;
    Ok(group.finalize()?)
}

/// The Python process, and the store that it was told of.
struct Guest {
    server: TcpStoreServer,
    python: Child,
    /// Prints what Python prints.
    rest: Option<JoinHandle<std::io::Result<u64>>>,
}

impl Guest {
    /// Serves a store and starts Python; `None`, with the reason printed, where there is no torch.
    fn invite(world_size: usize) -> Result<Option<Self>, Box<dyn Error>> {
        let server = TcpStoreServer::bind("127.0.0.1:0".parse()?)?;
        let port = server.local_addr().port().to_string();
        let program = std::env::var("NCCL_RS_TORCH_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut command = Command::new(&program);
        command.arg(SCRIPT).arg(port).arg(world_size.to_string()).stdout(Stdio::piped());
        let mut python = match command.spawn() {
            Ok(python) => python,
            Err(why) => {
                println!("skipped: {program} does not start ({why})");
                return Ok(None);
            }
        };
        // Its first line says whether torch is there.
        let mut word = String::new();
        let mut lines = BufReader::new(python.stdout.take().ok_or("no pipe from Python")?);
        lines.read_line(&mut word)?;
        if word.trim() == "ready" {
            // The rest goes on through here.
            let rest =
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::stdout()));
            return Ok(Some(Self { server, python, rest: Some(rest) }));
        }
        python.wait()?;
        println!("skipped: {program} has no torch");
        Ok(None)
    }

    /// Waits until Python is done.
    fn wait(&mut self) -> Result<(), Box<dyn Error>> {
        let status = self.python.wait()?;
        self.rest.take().map(JoinHandle::join); // all of it stands before what follows
        if status.success() { Ok(()) } else { Err(format!("Python: {status}").into()) }
    }
}
