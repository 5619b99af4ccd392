//! Runs the built binary with small shell programs as ranks.
//!
//! Every wait is bounded: a launcher that hangs fails its test.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::pidfd_open;
use rustix::process::pidfd_send_signal;

const LIMIT: Duration = Duration::from_secs(20);

/// `nccl run` with these arguments, cut at spaces.
fn launcher(options: &str) -> Command {
    // Whoever starts the tests may ignore signals (as shells do for what they run in the background),
    // and the launcher rightly keeps it so: begin with none ignored.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,QUIT,TERM,USR1,USR2,CHLD,PIPE"]);
    command.arg(env!("CARGO_BIN_EXE_nccl")).arg("run").args(options.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The same with `sh -c SCRIPT` as the program.
fn shell(options: &str, script: &str) -> Command {
    let mut command = launcher(options);
    command.args(["--", "sh", "-c", script]);
    command
}

/// Reads both streams to their end and waits, or kills the launcher and fails.
fn finish(mut child: Child) -> Output {
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let read = |from: &mut dyn Read| {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    };
    let out = thread::spawn(move || read(&mut stdout));
    let err = thread::spawn(move || read(&mut stderr));
    let until = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("the launcher did not end: {:?}", String::from_utf8_lossy(&err.join().unwrap()));
        }
        thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

/// Starts a launcher that is killed after the limit, so that no test waits for it without end.
fn spawn(command: &mut Command) -> Child {
    let child = command.spawn().unwrap();
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    thread::spawn(move || {
        thread::sleep(LIMIT);
        // Usually long gone; the descriptor names no other process.
        let _ = pidfd_send_signal(process, Signal::KILL);
    });
    child
}

fn run(mut command: Command) -> Output {
    finish(spawn(&mut command))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts the exit code, showing what was said if it is another.
#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

#[track_caller]
fn assert_says(output: &Output, expected: &str) {
    let said = text(&output.stderr);
    assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
}

/// The next line of a launcher that still runs.
fn next_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Whether the process is there and not a zombie.
fn lives(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[track_caller]
fn assert_ends_within(pid: i32, limit: Duration) {
    let until = Instant::now() + limit;
    while lives(pid) {
        assert!(Instant::now() < until, "process {pid} is still there after {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn send(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

// ---- environment ----

/// Runs `env` in every rank and returns what each found.
fn environments(mut command: Command) -> BTreeMap<u64, BTreeMap<String, String>> {
    command.args(["--", "env"]);
    let output = run(command);
    assert_code(&output, 0);
    let mut ranks: BTreeMap<u64, BTreeMap<String, String>> = BTreeMap::new();
    for line in text(&output.stdout).lines() {
        let (rank, rest) = line.strip_prefix("[rank ").unwrap().split_once("] ").unwrap();
        let Some((name, value)) = rest.split_once('=') else { continue };
        ranks.entry(rank.parse().unwrap()).or_default().insert(name.to_owned(), value.to_owned());
    }
    ranks
}

#[test]
fn every_rank_finds_its_place_in_its_environment() {
    let mut command = launcher("-n 3 --env COLOR=red --env EMPTY= --max-restarts 2");
    command.env_remove("OMP_NUM_THREADS").env("SLURM_PROCID", "7").env("RANK", "9");
    let ranks = environments(command);
    assert_eq!(ranks.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    for (rank, env) in &ranks {
        let rank = rank.to_string();
        for (name, expected) in [
            ("RANK", rank.as_str()),
            ("LOCAL_RANK", &rank),
            ("ROLE_RANK", &rank),
            ("WORLD_SIZE", "3"),
            ("LOCAL_WORLD_SIZE", "3"),
            ("ROLE_WORLD_SIZE", "3"),
            ("ROLE_NAME", "default"),
            ("GROUP_RANK", "0"),
            ("GROUP_WORLD_SIZE", "1"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("TORCHELASTIC_RESTART_COUNT", "0"),
            ("TORCHELASTIC_MAX_RESTARTS", "2"),
            ("TORCHELASTIC_USE_AGENT_STORE", "False"),
            ("OMP_NUM_THREADS", "1"),
            ("COLOR", "red"),
            ("EMPTY", ""),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(expected), "{name} of rank {rank}");
        }
        assert!(!env.contains_key("SLURM_PROCID"));
        assert!(env["MASTER_PORT"].parse::<u16>().unwrap() > 0);
    }
    let same = |name: &str| ranks.values().map(|env| &env[name]).collect::<BTreeSet<_>>().len();
    assert_eq!(same("MASTER_PORT"), 1);
    assert_eq!(same("TORCHELASTIC_RUN_ID"), 1);
    assert_eq!(ranks[&0]["TORCHELASTIC_RUN_ID"].len(), 32);
}

#[test]
fn two_hosts_make_one_world() {
    let mut all = BTreeMap::new();
    for node in 0..2 {
        let options = format!("-n 2 --nnodes 2 --node-rank {node} --rdzv [fd00::1]:29501");
        let mut command = launcher(&options);
        command.env("OMP_NUM_THREADS", "8");
        all.extend(environments(command));
    }
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (rank, env) in &all {
        assert_eq!(env["RANK"], rank.to_string());
        assert_eq!(env["LOCAL_RANK"], (rank % 2).to_string());
        assert_eq!(env["GROUP_RANK"], (rank / 2).to_string());
        assert_eq!(env["WORLD_SIZE"], "4");
        assert_eq!(env["MASTER_ADDR"], "fd00::1");
        assert_eq!(env["MASTER_PORT"], "29501");
        assert_eq!(env["TORCHELASTIC_RUN_ID"], "none");
        assert_eq!(env["OMP_NUM_THREADS"], "8");
    }
}

/// Not a test of its own: what a rank does in the next test.
#[test]
#[ignore = "a rank of `forty_ranks_of_two_launches_get_their_ports`"]
fn rank_that_meets_at_the_port() {
    let Ok(rank) = std::env::var("RANK") else { return };
    let address = format!("127.0.0.1:{}", std::env::var("MASTER_PORT").unwrap());
    let run_id = std::env::var("TORCHELASTIC_RUN_ID").unwrap();
    if rank == "0" {
        // The gap in which another could take the port.
        thread::sleep(Duration::from_millis(50));
        let listener = std::net::TcpListener::bind(&address).unwrap();
        for _ in 1..20 {
            let (mut client, _) = listener.accept().unwrap();
            let mut name = String::new();
            client.read_to_string(&mut name).unwrap();
            assert_eq!(name, run_id);
        }
    } else {
        let until = Instant::now() + LIMIT;
        let mut server = loop {
            match std::net::TcpStream::connect(&address) {
                Ok(server) => break server,
                Err(why) => assert!(Instant::now() < until, "{address}: {why}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        std::io::Write::write_all(&mut server, run_id.as_bytes()).unwrap();
    }
}

#[test]
fn forty_ranks_of_two_launches_get_their_ports() {
    let launches: Vec<Child> = (0..2)
        .map(|_| {
            let mut command = launcher("-n 20 --grace 1 --");
            command.arg(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", "rank_that_meets_at_the_port", "--nocapture"]);
            spawn(&mut command)
        })
        .collect();
    for launch in launches {
        let output = finish(launch);
        assert_code(&output, 0);
        assert_eq!(text(&output.stdout).matches("1 passed").count(), 20);
    }
}

// ---- output ----

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

// ---- failures ----

#[test]
fn the_first_failure_is_named_with_its_last_lines_and_code() {
    let script = "if [ $RANK = 2 ]; then seq -f 'line %g' 30; echo boom >&2; exit 7; fi; sleep 60";
    let started = Instant::now();
    let output = run(shell("-n 4 --grace 0.2", script));
    assert_code(&output, 7);
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_says(&output, "failed first, after");
    assert_says(&output, "nccl run: rank 2 (pid ");
    assert_says(&output, ": exit code 7\n");
    assert_says(&output, "nccl run:   | boom\n");
    assert_says(&output, "nccl run:   | line 30\n");
    assert_says(&output, "SIGTERM to ranks 0, 1, 3\n");
    assert_says(&output, "ranks 0, 1, 3: killed by our SIGTERM\n");
    let shown = text(&output.stderr).matches("nccl run:   | ").count();
    assert_eq!(shown, 20);
    assert_says(&output, "nccl run:   | line 12\n");
}

#[test]
fn the_others_have_time_to_say_what_they_see() {
    let script = "[ $RANK = 1 ] && exit 3; sleep 0.3; echo rank 1 is gone >&2; exit 1";
    let output = run(shell("-n 3 --grace 10", script));
    assert_code(&output, 3);
    assert_says(&output, "[rank 0] rank 1 is gone");
    assert_says(&output, "[rank 2] rank 1 is gone");
    assert_says(&output, "ranks 0, 2: exit code 1\n");
    assert!(!text(&output.stderr).contains("SIGTERM to"));
}

#[test]
fn a_signal_is_named_and_gives_128_more() {
    let output = run(shell("-n 2 --grace 0.2", "[ $RANK = 0 ] && kill -SEGV $$; sleep 60"));
    assert_code(&output, 139);
    assert_says(&output, "killed by SIGSEGV");
    let output = run(shell("-n 2 --grace 0.2", "[ $RANK = 0 ] && kill -KILL $$; sleep 60"));
    assert_code(&output, 137);
    assert_says(&output, "OOM-killed");
}

#[test]
fn a_rank_that_ignores_sigterm_is_killed_after_the_grace() {
    let script = "[ $RANK = 0 ] && exit 5; trap '' TERM; while :; do sleep 0.05; done";
    let started = Instant::now();
    let output = run(shell("-n 2 --grace 0.3", script));
    assert_code(&output, 5);
    assert!(started.elapsed() > Duration::from_millis(600));
    assert_says(&output, "SIGKILL to rank 1, still there after the grace period");
    assert_says(&output, "rank 1: killed by our SIGKILL");
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("data");
    fs::write(&file, "x").unwrap();
    for (program, code, expected) in [
        ("no-such-program-here", 127, "cannot start no-such-program-here: not found in PATH"),
        ("/no/such/file", 127, "cannot start /no/such/file: no such file"),
        (temp.path().to_str().unwrap(), 126, "it is a folder"),
        (file.to_str().unwrap(), 126, "not executable"),
    ] {
        let mut command = launcher("-n 3 --");
        command.arg(program);
        let output = run(command);
        assert_code(&output, code);
        assert_says(&output, expected);
    }
}

#[test]
fn restarts_count_up_and_change_the_port() {
    let script = "echo $TORCHELASTIC_RESTART_COUNT $MASTER_PORT; \
                  [ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT -lt 2 ] && exit 4; exit 0";
    let output = run(shell("-n 2 --max-restarts 3 --grace 0.5", script));
    assert_code(&output, 0);
    let printed = text(&output.stdout);
    let seen: BTreeSet<(&str, &str)> = printed
        .lines()
        .map(|line| line.split_once("] ").unwrap().1.split_once(' ').unwrap())
        .collect();
    assert_eq!(seen.iter().map(|(count, _)| *count).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(seen.iter().map(|(_, port)| port).collect::<BTreeSet<_>>().len(), 3);
    assert_says(&output, "starting all ranks again: 2 of 3");

    let output = run(shell("-n 2 --max-restarts 1 --grace 0.5", "exit 6"));
    assert_code(&output, 6);
    assert_eq!(text(&output.stderr).matches("failed first").count(), 2);
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_names_the_ranks() {
    let script = "[ $RANK = 1 ] && exit 0; exec sleep 60";
    let output = run(shell("-n 3 --timeout 0.3 --grace 0.5", script));
    assert_code(&output, 124);
    assert_says(&output, "--timeout of 300ms passed; still running: ranks 0, 2");
}

// ---- what is left behind ----

#[test]
fn a_grandchild_that_keeps_the_output_open_does_not_hang_the_launcher() {
    let started = Instant::now();
    let mut child = spawn(&mut shell("", "sleep 60 & echo $!"));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let pid: i32 = next_line(&mut out).strip_prefix("[rank 0] ").unwrap().parse().unwrap();
    child.stdout = Some(out.into_inner());
    let output = finish(child);
    assert_code(&output, 0);
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_says(&output, "rank 0 ended, but something started there did not; ending it");
    assert_ends_within(pid, Duration::from_secs(1));
}

#[test]
fn a_grandchild_in_another_session_is_not_waited_for() {
    // Its own output is closed for us, so that this test sees the end of the launcher's.
    let script = "setsid sh -c 'echo $$; exec sleep 5' & sleep 0.1";
    let mut child = spawn(&mut shell("", script));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let pid: i32 = next_line(&mut out).strip_prefix("[rank 0] ").unwrap().parse().unwrap();
    child.stdout = Some(out.into_inner());
    let output = finish(child);
    assert_code(&output, 0);
    assert_says(&output, "left the process group and holds the output open");
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Starts two ranks that each start a `sleep`, and returns all four processes.
fn tree(options: &str, script: &str) -> (Child, Vec<i32>) {
    let mut child = spawn(&mut shell(options, script));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let pids = (0..2)
        .flat_map(|_| {
            let line = next_line(&mut out);
            let words = line.split_once("] ").unwrap().1.to_owned();
            words.split(' ').map(|word| word.parse().unwrap()).collect::<Vec<i32>>()
        })
        .collect();
    child.stdout = Some(out.into_inner());
    (child, pids)
}

#[test]
fn a_killed_launcher_leaves_nobody() {
    let (child, pids) = tree("-n 2", "sleep 60 & echo $$ $!; wait");
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| lives(*pid)));
    send(&child, Signal::KILL);
    let status = finish(child).status;
    assert_eq!(status.signal(), Some(9));
    for pid in pids {
        assert_ends_within(pid, Duration::from_secs(1));
    }
}

#[test]
fn ranks_end_with_the_launcher_even_without_its_guard() {
    let (child, pids) = tree("-n 2", "echo $$ $$; exec sleep 60");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let is_guard = |pid: &&str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        line.windows(7).any(|bytes| bytes == b"__guard")
    };
    let children = fs::read_to_string(children).unwrap();
    let guard: i32 = children.split_whitespace().find(is_guard).unwrap().parse().unwrap();
    rustix::process::kill_process(Pid::from_raw(guard).unwrap(), Signal::KILL).unwrap();
    assert_ends_within(guard, Duration::from_secs(1));
    assert!(pids.iter().all(|pid| lives(*pid)));
    send(&child, Signal::KILL);
    assert_eq!(finish(child).status.signal(), Some(9));
    for pid in pids {
        assert_ends_within(pid, Duration::from_secs(1));
    }
}

#[test]
fn an_ended_run_leaves_nobody() {
    let script = "sleep 60 >/dev/null 2>&1 & echo $$ $!";
    let (child, pids) = tree("-n 2", script);
    assert_code(&finish(child), 0);
    for pid in pids {
        assert_ends_within(pid, Duration::from_secs(1));
    }
}

// ---- signals ----

/// Waits until both ranks said `ready`.
fn when_ready(mut child: Child) -> Child {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        let line = next_line(&mut out);
        assert!(line.ends_with("ready"), "{line:?}");
    }
    assert!(out.buffer().is_empty());
    child.stdout = Some(out.into_inner());
    child
}

#[test]
fn ending_signals_are_passed_on() {
    for (signal, name, code) in
        [(Signal::TERM, "TERM", 143), (Signal::INT, "INT", 130), (Signal::HUP, "HUP", 129)]
    {
        let script = format!(
            "trap 'echo got {name}; exit 0' {name}; echo ready; while :; do sleep 0.02; done"
        );
        let child = when_ready(spawn(&mut shell("-n 2", &script)));
        send(&child, signal);
        let output = finish(child);
        assert_code(&output, code);
        assert_eq!(text(&output.stdout).matches(&format!("got {name}")).count(), 2);
        assert_says(&output, &format!("SIG{name}: passed on to ranks 0, 1"));
    }
}

#[test]
fn user_signals_are_passed_on_and_end_nothing() {
    let script = "n=0; trap 'n=1' USR1; trap 'n=2$n' USR2; echo ready; \
                  until [ $n = 1 ]; do sleep 0.02; done; echo ready; \
                  until [ $n = 21 ]; do sleep 0.02; done; echo done";
    let child = when_ready(spawn(&mut shell("-n 2", script)));
    send(&child, Signal::USR1);
    let child = when_ready(child);
    send(&child, Signal::USR2);
    let output = finish(child);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout).matches("done").count(), 2);
}

#[test]
fn the_second_signal_kills_at_once() {
    let script = "trap '' INT TERM; echo ready; while :; do sleep 0.02; done";
    let mut child = when_ready(spawn(&mut shell("-n 2 --grace 60", script)));
    send(&child, Signal::INT);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    assert!(next_line(&mut err).contains("SIGINT: passed on"));
    child.stderr = Some(err.into_inner());
    send(&child, Signal::INT);
    let output = finish(child);
    assert_code(&output, 130);
    assert_says(&output, "SIGINT again: killing the ranks");
    assert_says(&output, "ranks 0, 1: killed by our SIGKILL");
}

#[test]
fn the_grace_after_a_signal_ends_with_sigkill() {
    let script = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    let child = when_ready(spawn(&mut shell("-n 2 --grace 0.3", script)));
    send(&child, Signal::TERM);
    let output = finish(child);
    assert_code(&output, 143);
    assert_says(&output, "SIGKILL to ranks 0, 1");
}

#[test]
fn stopped_ranks_are_ended_too() {
    let script = "echo ready; kill -STOP $$";
    let child = when_ready(spawn(&mut shell("-n 2 --grace 10", script)));
    let started = Instant::now();
    send(&child, Signal::TERM);
    assert_code(&finish(child), 143);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_hang_up_that_was_ignored_stays_ignored() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" run -n 2 -- sh -c 'echo ready; sleep 0.3'"]);
    command.arg(env!("CARGO_BIN_EXE_nccl"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = when_ready(spawn(&mut command));
    send(&child, Signal::HUP);
    assert_code(&finish(child), 0);
}

#[test]
fn a_parent_that_ignores_sigchld_does_not_hide_exit_codes() {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_nccl"), "run", "-n", "2", "--"]);
    command.args(["sh", "-c", "exit 9"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command);
    if text(&output.stderr).contains("unrecognized option") {
        eprintln!("skipped: this `env` cannot ignore signals");
        return;
    }
    assert_code(&output, 9);
}

#[test]
fn each_rank_leads_its_own_process_group() {
    let mut command = shell("-n 2", "cut -d' ' -f1,5 /proc/$$/stat");
    command.process_group(0);
    let output = run(command);
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 2);
    for line in printed.lines() {
        let (pid, group) = line.split_once("] ").unwrap().1.split_once(' ').unwrap();
        assert_eq!(pid, group);
    }
}

// ---- arguments ----

#[test]
fn wrong_arguments_exit_with_2_and_say_what_to_write() {
    for (options, expected) in [
        ("-n 0 -- true", "0 is not in 1..=65536"),
        ("-n 2", "no program"),
        ("--nnodes 2 -- true", "needs --node-rank"),
        ("--env A -- true", "has no `=`"),
        ("--bogus -- true", "--bogus"),
    ] {
        let output = run(launcher(options));
        assert_code(&output, 2);
        assert_says(&output, expected);
    }
}

#[test]
fn the_help_lists_the_exit_codes() {
    let output = run(launcher("--help"));
    assert_code(&output, 0);
    let help = text(&output.stdout);
    for expected in ["Exit codes:", "124", "--max-restarts", "several hosts"] {
        assert!(help.to_lowercase().contains(&expected.to_lowercase()), "{expected}");
    }
}

// ---- examples ----

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn an_example_is_built_once_and_started() {
    let temp = tempfile::tempdir().unwrap();
    write(
        &temp.path().join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"examples\"]\n",
    );
    let manifest = "[package]\nname = \"examples\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    write(&temp.path().join("examples/Cargo.toml"), manifest);
    let main = "fn main() { println!(\"{:?}\", std::env::args().nth(1)); }";
    write(&temp.path().join("examples/src/bin/hello.rs"), main);
    let inside = temp.path().join("examples/src");
    let start = |name: &str, extra: &[&str]| {
        let mut command = launcher("-n 2 --example");
        command.arg(name).args(extra).current_dir(&inside);
        command.env("CARGO_TARGET_DIR", temp.path().join("elsewhere"));
        run(command)
    };
    let output = start("hello", &["--", "--word"]);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout).matches("Some(\"--word\")").count(), 2);
    assert_eq!(text(&output.stderr).matches("Compiling").count(), 1);
    let output = start("hallo", &[]);
    assert_code(&output, 125);
    assert_says(&output, "the examples are: hello");

    let mut command = launcher("--example hello");
    command.current_dir("/");
    let output = run(command);
    assert_code(&output, 125);
    assert_says(&output, "run this inside a checkout");
}
