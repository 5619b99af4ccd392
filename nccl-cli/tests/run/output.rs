//! What ranks print, and where it goes.

use std::fs;
use std::io::BufReader;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::common::text;
use crate::helpers::LIMIT;
use crate::helpers::assert_code;
use crate::helpers::assert_ends_within;
use crate::helpers::finish;
use crate::helpers::next_line;
use crate::helpers::run;
use crate::helpers::shell;
use crate::helpers::spawn;

#[test]
fn lines_stay_whole_and_say_their_rank() {
    let script = "for i in $(seq 500); do echo out $i; echo err $i >&2; done; printf last";
    let output = run(shell("-n 4", script));
    assert_code(&output, 0);
    for (bytes, word, tail) in [(&output.stdout, "out", true), (&output.stderr, "err", false)] {
        let mut next = [1; 4];
        for line in text(bytes).lines() {
            let (rank, rest) = line.strip_prefix("[rank ").unwrap().split_once("] ").unwrap();
            let next = &mut next[rank.parse::<usize>().unwrap()];
            let expected = if *next == 501 { "last".to_owned() } else { format!("{word} {next}") };
            assert_eq!(rest, expected);
            *next += 1;
        }
        assert_eq!(next, [if tail { 502 } else { 501 }; 4]);
    }
}

#[test]
fn without_tags_the_bytes_are_those_of_the_rank() {
    let output = run(shell("--no-tag-output", "printf 'a\\377\\000b\\n\\n'"));
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"a\xff\x00b\n\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_megabyte_without_newline_is_cut_and_complete() {
    let output = run(shell("-n 2 --no-tag-output", "head -c 1048576 /dev/zero | tr '\\0' x"));
    assert_code(&output, 0);
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'x').count(), 2 << 20);
    let longest = output.stdout.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
    assert_eq!(longest, Some(64 * 1024));
}

#[test]
fn standard_input_is_empty() {
    let mut command = shell("-n 2", "cat; echo end");
    command.stdin(Stdio::piped());
    let output = run(command);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout).lines().count(), 2);
}

#[test]
fn log_files_hold_each_rank_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let parent = temp.path().join("logs");
    let options = format!("-n 2 --log-dir {}", parent.display());
    for _ in 0..2 {
        assert_code(&run(shell(&options, "printf \"I am $RANK\"; echo bad >&2")), 0);
    }
    let folders: Vec<_> =
        fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 2);
    for folder in folders {
        for rank in 0..2 {
            let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
            assert_eq!(read(&format!("attempt-0.rank-{rank}.stdout")), format!("I am {rank}"));
            assert_eq!(read(&format!("attempt-0.rank-{rank}.stderr")), "bad\n");
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_run() {
    let mut child = spawn(&mut shell("-n 2 --grace 1", "while :; do echo y; done"));
    drop(child.stdout.take());
    let err = child.stderr.take().unwrap();
    let until = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(141));
    let said = std::io::read_to_string(err).unwrap();
    assert!(said.contains("nobody reads the output any more"), "{said}");
}

#[test]
fn a_reader_that_pauses_loses_nothing() {
    // The ranks end at once: all that one prints fits in its pipe. The launcher's readers cannot
    // get rid of it: all of it is more than its own pipe and queue hold.
    let script = "head -c 60000 /dev/zero | tr '\\0' '\\n'; echo $$ >&2";
    let mut child = spawn(&mut shell("-n 24 --no-tag-output", script));
    let mut err = BufReader::new(child.stderr.take().unwrap());
    for _ in 0..24 {
        assert_ends_within(next_line(&mut err).parse().unwrap(), Duration::from_secs(2));
    }
    child.stderr = Some(err.into_inner());
    // The pause is what is tested: longer than the time a stream gets after its rank's end.
    thread::sleep(Duration::from_millis(2500));
    let output = finish(child);
    assert_code(&output, 0);
    assert_eq!(output.stdout.len(), 24 * 60_000);
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}
