//! Looks at a file before the linker maps it.
//!
//! The linker maps what the file's headers promise. Where the file is shorter (an interrupted
//! copy or download), the first access behind its end is a SIGBUS, which ends the process. So the
//! promise is compared with the length first.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

/// Says in words why the file cannot be a complete shared library for this machine.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let meta = std::fs::metadata(path).map_err(|why| why.to_string())?;
    if meta.is_dir() {
        return Err("is a folder, not a library; name the file, as .../libnccl.so.2".to_owned());
    }
    if !meta.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut file = File::open(path).map_err(|why| why.to_string())?;
    check_content(&mut file, meta.len())
}

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const TYPE_SHARED: u16 = 3;
const SEGMENT_LOAD: u32 = 1;

/// `e_machine` of the machine this was compiled for; none where we do not know it.
const MACHINE: Option<u16> = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
    Some(62)
} else if cfg!(all(target_os = "linux", target_arch = "aarch64", target_endian = "little")) {
    Some(183)
} else {
    None
};

fn check_content(file: &mut (impl Read + Seek), file_bytes: u64) -> Result<(), String> {
    // Other systems have other formats; their linkers are left alone.
    let Some(machine) = MACHINE else { return Ok(()) };
    let mut header = [0; HEADER_BYTES];
    let got = read_start(file, &mut header).map_err(|why| why.to_string())?;
    if !header.starts_with(b"\x7fELF") {
        let what =
            if got == 0 { "is an empty file" } else { "is no shared library (no ELF header)" };
        return Err(what.to_owned());
    }
    if got < HEADER_BYTES {
        return Err(format!("is truncated: {file_bytes} bytes, less than an ELF header"));
    }
    let class_and_order = (header.get(4), header.get(5));
    if class_and_order != (Some(&2), Some(&1)) || u16_at(&header, 18) != machine {
        return Err("is a library for another kind of machine".to_owned());
    }
    if u16_at(&header, 16) != TYPE_SHARED {
        return Err("is an ELF file, but no shared library".to_owned());
    }
    if usize::from(u16_at(&header, 54)) != SEGMENT_BYTES {
        return Err("is damaged: its ELF header has segments of an unknown size".to_owned());
    }
    let segments = usize::from(u16_at(&header, 56));
    let end = file_end(file, u64_at(&header, 32), segments)?;
    if end > file_bytes {
        return Err(format!("is truncated: {file_bytes} bytes of at least {end}"));
    }
    Ok(())
}

/// Where the last segment that is mapped ends in the file.
fn file_end(file: &mut (impl Read + Seek), at: u64, segments: usize) -> Result<u64, String> {
    let truncated = |_: io::Error| "is truncated: its segment table is not in the file".to_owned();
    file.seek(SeekFrom::Start(at)).map_err(truncated)?;
    let mut end = None;
    for _ in 0..segments {
        let mut segment = [0; SEGMENT_BYTES];
        file.read_exact(&mut segment).map_err(truncated)?;
        if u32_at(&segment, 0) == SEGMENT_LOAD {
            let (offset, bytes) = (u64_at(&segment, 8), u64_at(&segment, 32));
            end = end.max(Some(offset.saturating_add(bytes)));
        }
    }
    end.ok_or_else(|| "is damaged: nothing of it would be loaded".to_owned())
}

/// Fills as much of `into` as the file has.
fn read_start(file: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = into.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(got)
}

/// `N` bytes at `at`; zeros outside, which no caller asks for.
fn bytes_at<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    from.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn u16_at(from: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(from, at))
}

fn u32_at(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(from, at))
}

fn u64_at(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(from, at))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A header and one segment that ends at 500.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 500];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        image[16..18].copy_from_slice(&TYPE_SHARED.to_le_bytes());
        image[18..20].copy_from_slice(&MACHINE.unwrap_or(0).to_le_bytes());
        image[32..40].copy_from_slice(&64_u64.to_le_bytes());
        image[54..56].copy_from_slice(&56_u16.to_le_bytes());
        image[56..58].copy_from_slice(&1_u16.to_le_bytes());
        image[64..68].copy_from_slice(&SEGMENT_LOAD.to_le_bytes());
        image[72..80].copy_from_slice(&100_u64.to_le_bytes());
        image[96..104].copy_from_slice(&400_u64.to_le_bytes());
        image
    }

    fn checked(image: &[u8]) -> Result<(), String> {
        check_content(&mut Cursor::new(image), image.len() as u64)
    }

    #[test]
    fn a_complete_image_is_good_and_every_shorter_one_is_not() {
        if MACHINE.is_none() {
            return;
        }
        let image = image();
        assert_eq!(checked(&image), Ok(()));
        for length in 0..image.len() {
            assert!(checked(&image[..length]).is_err(), "{length} bytes");
        }
        assert!(checked(&image[..499]).unwrap_err().contains("499 bytes of at least 500"));
    }

    #[test]
    fn no_change_of_a_header_byte_panics() {
        let image = image();
        for at in 0..HEADER_BYTES + SEGMENT_BYTES {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = image.clone();
                changed[at] = value;
                let _ = checked(&changed);
            }
        }
    }

    #[test]
    fn this_program_can_tell_its_own_machine() {
        let own = std::env::current_exe().unwrap();
        let mut file = File::open(&own).unwrap();
        let bytes = file.metadata().unwrap().len();
        // A position-independent program is a shared library in this respect.
        if MACHINE.is_some() {
            assert_eq!(check_content(&mut file, bytes), Ok(()));
        }
    }
}
