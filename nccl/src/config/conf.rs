//! NCCL's configuration files: `NAME=value` lines, read by NCCL's exact rules.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The most bytes of one line that count.
const MAX_LINE: usize = 4095;
/// The most bytes of a name or a value that count.
const MAX_PART: usize = 1023;

/// The assignments of a file in order; the first one of a name is the one that counts.
///
/// A line ends at LF or CR. `#` makes a comment only in the first column. The name goes to the
/// first `=`; neither name nor value is trimmed. Lines without `=` are ignored, and so are names
/// that are empty or not UTF-8, which nobody could ask for.
pub(super) fn parse(bytes: &[u8]) -> Vec<(String, OsString)> {
    bytes.split(|byte| *byte == b'\n').filter_map(assignment).collect()
}

fn assignment(line: &[u8]) -> Option<(String, OsString)> {
    let end = line.iter().position(|byte| matches!(byte, b'\r' | 0)).unwrap_or(line.len());
    let line = line.get(..end.min(MAX_LINE))?;
    if line.first() == Some(&b'#') {
        return None;
    }
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let name = line.get(..equals.min(MAX_PART))?;
    let value = line.get(equals + 1..)?;
    let value = value.get(..value.len().min(MAX_PART))?;
    let name = String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())?;
    Some((name, OsString::from_vec(value.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).into_iter().map(|(n, v)| (n, v.into_string().unwrap())).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn lines_are_read_as_nccl_reads_them() {
        assert_eq!(read("A=1\nB=2=3\r\n"), [pair("A", "1"), pair("B", "2=3")]);
        assert_eq!(read("#A=1\n #B=2\n"), [pair(" #B", "2")]);
        assert_eq!(read(" A = 1 # no comment\n"), [pair(" A ", " 1 # no comment")]);
        assert_eq!(read("no equals\n\n=empty name\nA=\n"), [pair("A", "")]);
        assert_eq!(read("A=last line without end"), [pair("A", "last line without end")]);
    }

    #[test]
    fn long_names_and_values_are_cut() {
        let text = format!("{}={}\n", "N".repeat(2000), "v".repeat(2000));
        assert_eq!(read(&text), [pair(&"N".repeat(1023), &"v".repeat(1023))]);
        let text = format!("A=1{}\nB=2\n", "x".repeat(9000));
        assert_eq!(read(&text)[1], pair("B", "2"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            for (name, value) in parse(&bytes) {
                prop_assert!(!name.is_empty() && name.len() <= 1023 && value.len() <= 1023);
            }
        }
    }
}
