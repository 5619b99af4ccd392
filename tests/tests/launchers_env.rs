//! What the launchers that are installed here really set, read by the library.

use std::io::ErrorKind;
use std::process::Command;

const PRINT: &str = env!("CARGO_BIN_EXE_print_launch");

/// What a launcher's ranks printed, sorted; `None` if the launcher is missing, which is a failure
/// where `NCCL_RS_REQUIRE` contains `mpi`.
fn run(program: &str, args: &[&str], env: &[(&str, &str)]) -> Option<Vec<String>> {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let launchers = ["OMPI_", "PMI", "SLURM_", "NCCL_", "MASTER_", "HOSTNAME"];
        if launchers.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"] {
        command.env_remove(name);
    }
    command.args(args).envs(env.iter().copied());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let require = std::env::var("NCCL_RS_REQUIRE").unwrap_or_default();
            assert!(!require.contains("mpi"), "{program} is missing, and NCCL_RS_REQUIRE has mpi");
            eprintln!("skipped: {program} is not installed");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stdout}\n{stderr}");
    let mut lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    lines.sort();
    Some(lines)
}

fn open_mpi(more: &[&str], env: &[(&str, &str)]) -> Option<Vec<String>> {
    let mut args = vec!["--allow-run-as-root", "--oversubscribe", "-n", "3"];
    args.extend(more);
    args.push(PRINT);
    run("mpirun.openmpi", &args, env)
}

#[test]
fn open_mpi_gives_ranks_and_a_job() {
    let Some(lines) = open_mpi(&[], &[]) else { return };
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (rank, line) in lines.iter().enumerate() {
        let start = format!(
            "launch openmpi rank={rank} size=3 local=Some({rank})/Some(3) job=true at 127.0.0.1, port "
        );
        assert!(line.starts_with(&start), "{line}");
    }
    // All ranks derive the same ports.
    let ports = |line: &String| line.rsplit(' ').next().map(str::to_owned);
    assert_eq!(ports(&lines[0]), ports(&lines[1]));
    assert_eq!(ports(&lines[0]), ports(&lines[2]));
    assert_eq!(ports(&lines[0]).map(|ports| ports.split('|').count()), Some(8));
}

#[test]
fn open_mpi_passes_the_address_on() {
    let env = [("MASTER_ADDR", "node0"), ("MASTER_PORT", "29500")];
    let Some(lines) = open_mpi(&["-x", "MASTER_ADDR", "-x", "MASTER_PORT"], &env) else { return };
    for line in lines {
        assert!(line.ends_with("at tcp://node0:29500 (rank 0 serves)"), "{line}");
    }
}

#[test]
fn a_rank_by_hand_under_open_mpi_is_a_contradiction() {
    let env = [("RANK", "0"), ("WORLD_SIZE", "3")];
    let Some(lines) = open_mpi(&["-x", "RANK", "-x", "WORLD_SIZE"], &env) else { return };
    assert_eq!(lines.len(), 3, "{lines:?}");
    let wrong = lines.iter().filter(|line| line.starts_with("error the rank: RANK=0 and OMPI_"));
    assert_eq!(wrong.count(), 2, "rank 0 is right by chance: {lines:?}");
    assert!(lines.iter().any(|line| line.contains("OMPI_COMM_WORLD_RANK=2")), "{lines:?}");
}

#[test]
fn mpich_gives_ranks_and_pmi() {
    let Some(lines) = run("mpiexec.mpich", &["-n", "3", PRINT], &[]) else { return };
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (rank, line) in lines.iter().enumerate() {
        let expected = format!(
            "launch mpich rank={rank} size=3 local=Some({rank})/Some(3) job=false at an address \
             that rank 0 tells through PMI"
        );
        assert_eq!(*line, expected);
    }
}

#[test]
fn mpich_with_an_address_needs_no_pmi() {
    let env = [("MASTER_ADDR", "127.0.0.1"), ("NCCL_RS_JOB_ID", "j")];
    let Some(lines) = run("mpiexec.mpich", &["-n", "2", PRINT], &env) else { return };
    for line in lines {
        assert!(line.contains("job=true at 127.0.0.1, port "), "{line}");
    }
}

#[test]
fn without_a_launcher_it_is_a_world_of_one() {
    let lines = run(PRINT, &[], &[]).unwrap();
    assert_eq!(
        lines,
        ["launch single rank=0 size=1 local=Some(0)/Some(1) job=false at none (a world of one)"]
    );
}

#[test]
fn a_configuration_file_is_read_below_the_environment() {
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/launchers_env.conf");
    let text = "RANK=1\nWORLD_SIZE=2\nMASTER_ADDR=node0\nMASTER_PORT=5\n";
    std::fs::write(file, text).unwrap();
    let lines = run(PRINT, &[], &[("NCCL_CONF_FILE", file), ("RANK", "0")]).unwrap();
    let expected = "launch plain rank=0 size=2 local=None/None job=false at tcp://node0:5 (rank 0 \
                    serves)";
    assert_eq!(lines, [expected]);
}
