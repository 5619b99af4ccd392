//! Looks at a library before the linker maps it.
//!
//! The linker maps what the file's headers promise. Where the file is shorter (an interrupted
//! copy), the first access behind its end is a SIGBUS, which ends the process. So the promise is
//! compared with the length first. Whether the file fits the machine is left to the linker.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use crate::error::DriverProblem;

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const SEGMENT_LOAD: [u8; 4] = [1, 0, 0, 0];

/// Refuses what is not there, what everybody may write, and what is cut off.
pub(super) fn check(path: &Path) -> Result<(), DriverProblem> {
    let meta = fs::metadata(path).map_err(|why| DriverProblem::Absent(why.to_string()))?;
    let refuse = |why: &str| Err(DriverProblem::Refused(why.to_owned()));
    if !meta.is_file() {
        return refuse("is no file; name the library itself, as .../libcuda.so.1");
    }
    if is_world_writable(&meta) {
        return refuse("everybody may write this file, so it could be anybody's code (chmod o-w)");
    }
    let mut file = File::open(path).map_err(|why| DriverProblem::Refused(why.to_string()))?;
    match file_end(&mut file) {
        Some(end) if end > meta.len() => {
            refuse(&format!("is truncated: {} bytes of at least {end}", meta.len()))
        }
        // No 64-bit library of this byte order: the linker says so in its own words.
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_world_writable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    meta.mode() & 0o002 != 0
}

#[cfg(not(unix))]
fn is_world_writable(_: &fs::Metadata) -> bool {
    false
}

/// Where the last part that is mapped ends in the file; `None` if it has no header that we read.
/// A table of parts that is not in the file ends nowhere.
fn file_end(file: &mut (impl Read + Seek)) -> Option<u64> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).ok()?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let at = u64::from_le_bytes(*header.get(32..)?.first_chunk()?);
    let segments = u16::from_le_bytes(*header.get(56..)?.first_chunk()?);
    if file.seek(SeekFrom::Start(at)).is_err() {
        return Some(u64::MAX);
    }
    let mut end = 0;
    for _ in 0..segments {
        let mut segment = [0; SEGMENT_BYTES];
        if file.read_exact(&mut segment).is_err() {
            return Some(u64::MAX);
        }
        if segment.starts_with(&SEGMENT_LOAD) {
            let offset = u64::from_le_bytes(*segment.get(8..)?.first_chunk()?);
            let bytes = u64::from_le_bytes(*segment.get(32..)?.first_chunk()?);
            end = end.max(offset.saturating_add(bytes));
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::io::Write;

    use super::*;

    fn checked(bytes: &[u8]) -> Result<(), DriverProblem> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        check(file.path())
    }

    #[test]
    fn a_cut_off_library_is_not_given_to_the_linker() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(checked(&own), Ok(()));
        // What follows the last part that is mapped may be missing, as in a stripped library.
        let end = usize::try_from(file_end(&mut Cursor::new(&own)).unwrap()).unwrap();
        assert_eq!(checked(&own[..end]), Ok(()));
        for bytes in [64, 100, 10_000, end / 2, end - 1] {
            let problem = checked(&own[..bytes]).unwrap_err();
            assert!(problem.to_string().contains("is truncated"), "{bytes}: {problem}");
        }
    }

    #[test]
    fn what_is_no_library_is_left_to_the_linker_and_a_folder_is_not() {
        assert_eq!(checked(b"not a library"), Ok(()));
        assert_eq!(checked(&[]), Ok(()));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(check(folder.path()), Err(DriverProblem::Refused(_))));
        let gone = check(&folder.path().join("gone"));
        assert!(matches!(gone, Err(DriverProblem::Absent(_))), "{gone:?}");
    }
}
