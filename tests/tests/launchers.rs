//! What launchers that are not installed here set, given by hand to real processes: the world forms.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Child;

mod programs;

use programs::both;
use programs::built;
use programs::clean;
use programs::end;
use programs::host;
use programs::start;

/// A variable of one process.
type Var = (&'static str, String);

/// A name that no other run of this test has.
fn job(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// A number that no other test of this run, and hardly another run, has.
fn number(offset: u32) -> String {
    (std::process::id() % 100_000 * 100 + offset).to_string()
}

/// A port that was free a moment ago.
fn free_port() -> String {
    tests::faults::free_port().to_string()
}

/// Starts `hello` as `world_size` ranks with the variables of each, and checks what rank 0 prints.
fn form(launcher: &str, world_size: usize, vars: impl Fn(usize) -> Vec<Var>) {
    form_with(launcher, world_size, |rank| rank, vars);
}

/// As [`form`], where the local rank is another number.
fn form_with(
    launcher: &str,
    world_size: usize,
    local_rank: impl Fn(usize) -> usize,
    vars: impl Fn(usize) -> Vec<Var>,
) {
    let ranks: Vec<Child> = (0..world_size)
        .map(|rank| start(clean(built("hello")).envs(vars(rank))).unwrap())
        .collect();
    let outputs: Vec<_> = ranks.into_iter().map(|rank| end(rank, launcher)).collect();
    for (rank, output) in outputs.iter().enumerate() {
        assert!(output.status.success(), "{launcher}: rank {rank}: {}", both(output));
        assert_eq!(rank > 0, output.stdout.is_empty(), "{launcher}: rank {rank}: {}", both(output));
    }
    let lines = String::from_utf8_lossy(&outputs[0].stdout).into_owned();
    assert_eq!(lines.lines().count(), world_size, "{launcher}: {lines}");
    for (rank, line) in lines.lines().enumerate() {
        let local_rank = local_rank(rank);
        let start =
            format!("rank {rank} of {world_size} on {}, local rank {local_rank}, cpu; ", host());
        assert!(line.starts_with(&start), "{launcher}: {line}");
        for peer in (0..world_size).filter(|peer| *peer != rank) {
            assert!(line.contains(&format!("rank {peer} by ")), "{launcher}: {line}");
        }
    }
}

fn var(name: &'static str, value: impl ToString) -> Var {
    (name, value.to_string())
}

#[test]
fn srun() {
    form("srun", 3, |rank| {
        vec![
            var("SLURM_JOB_ID", number(1)),
            var("SLURM_STEP_ID", 0),
            var("SLURM_STEP_NUM_TASKS", 3),
            var("SLURM_STEP_NUM_NODES", 1),
            var("SLURM_STEP_TASKS_PER_NODE", 3),
            var("SLURM_STEP_NODELIST", "localhost"),
            var("SLURM_JOB_NODELIST", "localhost"),
            var("SLURM_NODEID", 0),
            var("SLURM_PROCID", rank),
            var("SLURM_LOCALID", rank),
            var("SLURM_GTIDS", "0,1,2"),
        ]
    });
}

#[test]
fn hydra_without_its_pmi_socket() {
    form("mpich", 2, |rank| {
        vec![
            var("PMI_RANK", rank),
            var("PMI_SIZE", 2),
            var("MPI_LOCALRANKID", rank),
            var("MPI_LOCALNRANKS", 2),
            var("NCCL_RS_JOB_ID", job("hydra")),
        ]
    });
}

#[test]
fn intel_mpi() {
    form("impi", 3, |rank| {
        vec![
            var("I_MPI_HYDRA_HOST_FILE", "hosts"),
            var("PMI_RANK", rank),
            var("PMI_SIZE", 3),
            var("MPI_LOCALRANKID", rank),
            var("MPI_LOCALNRANKS", 3),
            var("PMI_JOBID", job("impi")),
        ]
    });
}

#[test]
fn open_mpi_5() {
    form("openmpi 5", 3, |rank| {
        vec![
            var("OMPI_COMM_WORLD_RANK", rank),
            var("OMPI_COMM_WORLD_SIZE", 3),
            var("OMPI_COMM_WORLD_LOCAL_RANK", rank),
            var("OMPI_COMM_WORLD_LOCAL_SIZE", 3),
            var("PMIX_RANK", rank),
            var("PMIX_NAMESPACE", job("prterun-node0@1")),
        ]
    });
}

#[test]
fn mvapich2() {
    form("mvapich2", 2, |rank| {
        vec![
            var("MV2_COMM_WORLD_RANK", rank),
            var("MV2_COMM_WORLD_SIZE", 2),
            var("MV2_COMM_WORLD_LOCAL_RANK", rank),
            var("MV2_COMM_WORLD_LOCAL_SIZE", 2),
            var("PMI_RANK", rank),
            var("PMI_SIZE", 2),
            var("PMI_JOBID", job("mv2")),
        ]
    });
}

#[test]
fn pals() {
    form("pals", 2, |rank| {
        vec![
            var("PALS_RANKID", rank),
            var("PALS_LOCAL_RANKID", rank),
            var("PALS_LOCAL_SIZE", 2),
            var("PALS_NODEID", 0),
            var("PALS_APID", job("pals")),
            var("PMI_RANK", rank),
            var("PMI_SIZE", 2),
            var("PMI_LOCAL_SIZE", 2),
        ]
    });
}

#[test]
fn lsf_jsrun() {
    let hosts = Path::new(env!("CARGO_TARGET_TMPDIR")).join("launchers_rankfile");
    std::fs::write(&hosts, "batch0\nlocalhost\nlocalhost\n").unwrap();
    form("jsrun", 2, |rank| {
        vec![
            var("JSM_NAMESPACE_RANK", rank),
            var("JSM_NAMESPACE_SIZE", 2),
            var("JSM_NAMESPACE_LOCAL_RANK", rank),
            var("JSM_NAMESPACE_ID", 1),
            var("LSB_JOBID", number(2)),
            var("LSB_DJOB_RANKFILE", hosts.display()),
        ]
    });
}

#[test]
fn flux() {
    let port = free_port();
    form("flux", 3, |rank| {
        vec![
            var("FLUX_TASK_RANK", rank),
            var("FLUX_TASK_LOCAL_ID", rank),
            var("FLUX_JOB_SIZE", 3),
            var("FLUX_JOB_NNODES", 1),
            var("FLUX_JOB_ID", job("flux")),
            var("MASTER_ADDR", "127.0.0.1"),
            var("MASTER_PORT", &port),
        ]
    });
}

#[test]
fn kubernetes_indexed_job() {
    let name = job("train");
    form("kubernetes", 3, |rank| {
        vec![
            var("JOB_COMPLETION_INDEX", rank),
            var("WORLD_SIZE", 3),
            var("HOSTNAME", format!("{name}-{rank}")),
            var("MASTER_ADDR", "localhost"),
        ]
    });
}

#[test]
fn leader_worker_set() {
    let name = job("lws");
    form("lws", 2, |rank| {
        vec![
            var("LWS_WORKER_INDEX", rank),
            var("LWS_GROUP_SIZE", 2),
            var("LWS_LEADER_ADDRESS", "localhost"),
            var("NCCL_RS_JOB_ID", &name),
        ]
    });
}

#[test]
fn pytorch_job() {
    let port = free_port();
    form("pytorchjob", 2, |rank| {
        vec![
            var("RANK", rank),
            var("WORLD_SIZE", 2),
            var("MASTER_ADDR", "localhost"),
            var("MASTER_PORT", &port),
            var("PYTHONUNBUFFERED", 1),
        ]
    });
}

#[test]
fn torchrun_variables_without_an_agent_store() {
    let port = free_port();
    form("torchrun", 2, |rank| {
        vec![
            var("RANK", rank),
            var("WORLD_SIZE", 2),
            var("LOCAL_RANK", rank),
            var("LOCAL_WORLD_SIZE", 2),
            var("GROUP_RANK", 0),
            var("GROUP_WORLD_SIZE", 1),
            var("MASTER_ADDR", "localhost"),
            var("MASTER_PORT", &port),
            var("TORCHELASTIC_RUN_ID", "none"),
            var("TORCHELASTIC_RESTART_COUNT", 0),
            var("TORCHELASTIC_USE_AGENT_STORE", "False"),
        ]
    });
}

#[test]
fn kubeflow_trainer() {
    let port = free_port();
    let alone_in_its_pod = |_| 0;
    form_with("trainer", 2, alone_in_its_pod, |rank| {
        vec![
            var("PET_NODE_RANK", rank),
            var("PET_NNODES", 2),
            var("PET_NPROC_PER_NODE", 1),
            var("PET_MASTER_ADDR", "localhost"),
            var("PET_MASTER_PORT", &port),
        ]
    });
}

#[test]
fn nccl_comm_id() {
    let port = free_port();
    form("NCCL_COMM_ID", 2, |rank| {
        vec![
            var("RANK", rank),
            var("WORLD_SIZE", 2),
            var("NCCL_COMM_ID", format!("127.0.0.1:{port}")),
        ]
    });
}

#[test]
fn a_port_of_somebody_else_does_not_matter_where_ports_are_derived() {
    // Two jobs at once on one host, told apart by their names only.
    let both: Vec<_> = ["left", "right"]
        .map(|name| {
            let name = job(name);
            std::thread::spawn(move || {
                form("openmpi", 2, |rank| {
                    vec![
                        var("OMPI_COMM_WORLD_RANK", rank),
                        var("OMPI_COMM_WORLD_SIZE", 2),
                        var("OMPI_COMM_WORLD_LOCAL_RANK", rank),
                        var("OMPI_COMM_WORLD_LOCAL_SIZE", 2),
                        var("PMIX_NAMESPACE", &name),
                    ]
                });
            })
        })
        .into();
    for one in both {
        one.join().unwrap();
    }
}

#[test]
fn a_size_that_is_missing_is_named_at_once() {
    let output = end(start(clean(built("hello")).env("RANK", "1")).unwrap(), "RANK alone");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("WORLD_SIZE"), "{text}");
}
