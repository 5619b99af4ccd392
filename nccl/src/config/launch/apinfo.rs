//! The file that `PALS_APINFO` names: a C structure with tables of processes and of hosts.

/// Where the header has the offset of the table of processes (8 bytes), and below it the size of
/// an entry; then the same for hosts. All offsets are from the layout of 64-bit Linux.
const PE_SIZE: usize = 64;
const PE_OFFSET: usize = 72;
const PES: usize = 80;
const NODE_SIZE: usize = 88;
const NODE_OFFSET: usize = 96;
const NODES: usize = 104;
/// In an entry of a process: the number of its host.
const PE_NODE: usize = 8;
/// In an entry of a host: its name, 64 bytes with a zero at the end.
const NODE_NAME: usize = 4;
const NAME_BYTES: usize = 64;

/// The host of process 0.
pub(super) fn host_of_rank0(bytes: &[u8]) -> Result<String, String> {
    let short = || "the file is too short".to_owned();
    if word(bytes, PES).ok_or_else(short)? == 0 {
        return Err("the file lists no process".into());
    }
    let pe = long(bytes, PE_OFFSET).ok_or_else(short)?;
    let node = pe.checked_add(PE_NODE).and_then(|at| word(bytes, at)).ok_or_else(short)?;
    if node >= word(bytes, NODES).ok_or_else(short)? {
        return Err(format!("process 0 is on host {node}, which the file does not list"));
    }
    if long(bytes, PE_SIZE).ok_or_else(short)? < PE_NODE + 4
        || long(bytes, NODE_SIZE).ok_or_else(short)? < NODE_NAME + NAME_BYTES
    {
        return Err("the file's entries are smaller than expected".into());
    }
    let at = long(bytes, NODE_SIZE)
        .and_then(|size| size.checked_mul(node))
        .and_then(|from| from.checked_add(long(bytes, NODE_OFFSET)?))
        .and_then(|from| from.checked_add(NODE_NAME))
        .ok_or_else(short)?;
    let end = at.checked_add(NAME_BYTES).ok_or_else(short)?;
    let field = bytes.get(at..end).ok_or_else(short)?;
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
    let name = field.get(..length).and_then(|name| core::str::from_utf8(name).ok());
    match name {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err("the host of process 0 has no name".into()),
    }
}

/// The 4-byte number at an offset.
fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(i32::from_ne_bytes(field.try_into().ok()?)).ok()
}

/// The 8-byte number at an offset.
fn long(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    usize::try_from(u64::from_ne_bytes(field.try_into().ok()?)).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of two processes, where process 0 is on the second of two hosts.
    pub(crate) fn file() -> Vec<u8> {
        let mut bytes = vec![0; 160];
        let mut put = |at: usize, value: u64, size: usize| {
            bytes[at..at + size].copy_from_slice(&value.to_ne_bytes()[..size]);
        };
        put(0, 5, 4);
        put(PE_SIZE, 12, 8);
        put(PE_OFFSET, 160, 8);
        put(PES, 2, 4);
        put(NODE_SIZE, 68, 8);
        put(NODE_OFFSET, 184, 8);
        put(NODES, 2, 4);
        for word in [0, 0, 1, 0, 0, 0_i32] {
            bytes.extend(word.to_ne_bytes());
        }
        for (nid, name) in [(0_i32, "nid000001"), (1, "nid000007")] {
            bytes.extend(nid.to_ne_bytes());
            let mut field = [0; 64];
            field[..name.len()].copy_from_slice(name.as_bytes());
            bytes.extend(field);
        }
        bytes
    }

    #[test]
    fn the_host_of_process_0_is_found() {
        assert_eq!(host_of_rank0(&file()).as_deref(), Ok("nid000007"));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        let whole = file();
        for length in 0..whole.len() {
            assert!(host_of_rank0(&whole[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_change_is_read_without_a_panic(at in 0_usize..320, byte: u8, any: Vec<u8>) {
            let mut bytes = file();
            bytes[at] = byte;
            let _ = host_of_rank0(&bytes);
            let _ = host_of_rank0(&any);
        }
    }
}
