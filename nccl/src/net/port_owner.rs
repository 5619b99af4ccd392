//! Who listens on a port of this machine, as far as this process may see.

use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The process that listens on `port`: `process 123 (python)`.
pub(crate) fn find(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| inodes_of(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let path = process.path();
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if holds(&path, &inodes) {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", name.trim_end()));
        }
    }
    None
}

/// The inodes of the sockets that listen on `port`, out of the kernel's table.
fn inodes_of(table: &str, port: u16) -> Vec<String> {
    let ending = format!(":{port:04X}");
    let listening = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        (local.ends_with(&ending) && state == LISTENING).then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(listening).collect()
}

fn holds(process: &Path, sockets: &[String]) -> bool {
    // Another user's process cannot be read; that is no error here.
    let Ok(fds) = fs::read_dir(process.join("fd")) else { return false };
    fds.flatten().any(|fd| {
        fs::read_link(fd.path())
            .is_ok_and(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:7334 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0\n\
             1: 0100007F:7334 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0\n\
             2: 0100007F:7335 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4244 1 0\n\
             garbage\n";
        assert_eq!(inodes_of(table, 0x7334), ["4242"]);
        assert_eq!(inodes_of(table, 0x7336), Vec::<String>::new());
    }
}
