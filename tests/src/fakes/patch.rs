//! Changes copies of a shared library: takes names away, and changes the version it reports.

use std::ops::Range;

/// Renames symbols in place, so that nobody finds them under their names, and gives how many there
/// were: `ncclX` becomes `zcclX`. The loader finds names by hash, and the hashes stay, so the new
/// names are found by nobody either.
///
/// # Panics
/// If it is no ELF file of 64 bits with a dynamic symbol table.
pub fn rename_symbols(file: &mut [u8], names: &[&str]) -> usize {
    let texts = dynamic_texts(file);
    let mut renamed = 0;
    for name in names {
        let wanted = format!("\0{name}\0").into_bytes();
        let found = file[texts.clone()].windows(wanted.len()).position(|at| at == wanted);
        if let Some(at) = found {
            file[texts.start + at + 1] = b'z';
            renamed += 1;
        }
    }
    renamed
}

/// Changes the version that the fake libnccl reports.
///
/// # Panics
/// If it has no mark of its version, or more than one.
pub(super) fn set_version(file: &mut [u8], code: u32) {
    const MARK: &[u8] = b"FAKE-NCCL-VERSION=02.32.03\0";
    let places: Vec<usize> = file
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, at)| *at == MARK)
        .map(|(at, _)| at)
        .collect();
    let [place] = places[..] else { panic!("{} marks of the version", places.len()) };
    let (major, minor, patch) = (code / 10000, code / 100 % 100, code % 100);
    let mark = format!("FAKE-NCCL-VERSION={major:02}.{minor:02}.{patch:02}");
    file[place..place + mark.len()].copy_from_slice(mark.as_bytes());
}

/// Where the names of the dynamic symbols are: the string table that `.dynsym` is linked to.
fn dynamic_texts(file: &[u8]) -> Range<usize> {
    const DYNSYM: u64 = 11;
    assert_eq!(file.get(..5), Some(&b"\x7fELF\x02"[..]), "an ELF file of 64 bits");
    let number = |at: usize, bytes: usize| {
        file[at..at + bytes].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let place = |at: usize| usize::try_from(number(at, 8)).expect("a place in the file");
    let (sections, size, count) = (place(0x28), number(0x3a, 2), number(0x3c, 2));
    let header = |index: u64| sections + usize::try_from(index * size).expect("a section");
    let symbols = (0..count).map(header).find(|at| number(at + 4, 4) == DYNSYM);
    let texts = header(number(symbols.expect("dynamic symbols") + 0x28, 4));
    let start = place(texts + 0x18);
    start..start + place(texts + 0x20)
}
