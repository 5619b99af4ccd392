//! Several launchers at once: which counts, and what is an error.

use super::*;

const MASTER: &str = "MASTER_ADDR=node0\nMASTER_PORT=4\n";

#[test]
fn torchrun_counts_whatever_surrounds_it() {
    let torchrun = "RANK=5\nWORLD_SIZE=16\nLOCAL_RANK=5\nTORCHELASTIC_RUN_ID=x\n";
    for outer in [
        "SLURM_PROCID=1\nSLURM_STEP_ID=0\nSLURM_NTASKS=2\nSLURM_STEP_NUM_TASKS=2",
        "OMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2",
        "PMI_RANK=0\nPMI_SIZE=1",
        "PMI_RANK=nonsense",
        "JOB_COMPLETION_INDEX=1",
        "PET_NODE_RANK=1\nPET_NNODES=2\nPET_NPROC_PER_NODE=8",
    ] {
        let found = launch(&format!("{torchrun}{MASTER}{outer}"));
        assert_eq!((found.launcher, found.rank), (Launcher::Torchrun, 5), "{outer}");
        assert_eq!((found.world_size, found.local_rank), (16, Some(5)), "{outer}");
    }
}

#[test]
fn a_rank_by_hand_that_differs_from_the_launchers_is_a_contradiction() {
    let text = "RANK=0\nWORLD_SIZE=2\nOMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2\n";
    assert_eq!(
        problem(&format!("{text}{MASTER}")),
        "the rank: RANK=0 and OMPI_COMM_WORLD_RANK=1 contradict each other; unset one of them, or \
         say whose count with NCCL_RS_LAUNCHER=plain or openmpi"
    );
    for (name, rank) in [("plain", 0), ("openmpi", 1)] {
        let found = launch(&format!("{text}{MASTER}NCCL_RS_LAUNCHER={name}"));
        assert_eq!((found.launcher.name(), found.rank), (name, rank));
    }
    let same = text.replace("\nOMPI_COMM_WORLD_RANK=1", "\nOMPI_COMM_WORLD_RANK=0");
    assert_eq!(launch(&format!("{same}{MASTER}")).rank, 0, "consistent is fine");
}

#[test]
fn a_size_by_hand_that_differs_from_the_launchers_is_a_contradiction() {
    let text = "RANK=1\nWORLD_SIZE=3\nOMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2\n";
    let wrong = problem(&format!("{text}{MASTER}"));
    assert!(
        wrong.starts_with("the number of ranks: WORLD_SIZE=3 and OMPI_COMM_WORLD_SIZE=2"),
        "{wrong}"
    );
    // One half by hand is compared as well.
    for (half, start) in [
        ("WORLD_SIZE=3", "the number of ranks: WORLD_SIZE=3 and OMPI_COMM_WORLD_SIZE=2"),
        ("RANK=0", "the rank: RANK=0 and OMPI_COMM_WORLD_RANK=1"),
    ] {
        let text = format!("{half}\nOMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2\n{MASTER}");
        let wrong = problem(&text);
        assert!(wrong.starts_with(start), "{wrong}");
    }
    let text = format!("WORLD_SIZE=2\nOMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2\n{MASTER}");
    assert_eq!(launch(&text).rank, 1);
}

#[test]
fn a_launcher_with_local_ranks_may_run_inside_another() {
    let inner = "RANK=5\nWORLD_SIZE=8\nLOCAL_RANK=1\nLOCAL_WORLD_SIZE=4\n";
    let outer = "SLURM_PROCID=1\nSLURM_STEP_ID=0\nSLURM_STEP_NUM_TASKS=2\nSLURM_STEP_NUM_NODES=2\n";
    let found = launch(&format!("{inner}{outer}{MASTER}"));
    assert_eq!((found.launcher, found.rank), (Launcher::Plain, 5));
}

#[test]
fn mpirun_inside_an_allocation_counts_over_the_step_of_its_daemons() {
    let mpi = "OMPI_COMM_WORLD_RANK=5\nOMPI_COMM_WORLD_SIZE=8\n";
    let daemons =
        "SLURM_PROCID=1\nSLURM_STEP_ID=0\nSLURM_STEP_NUM_TASKS=2\nSLURM_STEP_NUM_NODES=2\n";
    let found = launch(&format!("{mpi}{daemons}{MASTER}"));
    assert_eq!((found.launcher, found.rank), (Launcher::OpenMpi, 5));
    let hydra = "PMI_RANK=1\nPMI_SIZE=2\n";
    let daemons = daemons.replace("PROCID=1", "PROCID=0");
    let found = launch(&format!("{hydra}{daemons}{MASTER}"));
    assert_eq!((found.launcher, found.rank), (Launcher::Mpich, 1));
    // Several tasks a host are no daemons.
    let step = daemons.replace("NUM_TASKS=2", "NUM_TASKS=4");
    let wrong = problem(&format!("{mpi}{step}{MASTER}"));
    assert!(wrong.contains("OMPI_COMM_WORLD_SIZE=8 and SLURM_STEP_NUM_TASKS=4"), "{wrong}");
}

#[test]
fn what_an_outer_world_of_one_left_does_no_harm() {
    let left = "PMI_RANK=0\nPMI_SIZE=1\n";
    let step = "SLURM_PROCID=3\nSLURM_STEP_ID=0\nSLURM_STEP_NUM_TASKS=4\n";
    let found = launch(&format!("{left}{step}{MASTER}"));
    assert_eq!((found.launcher, found.rank, found.world_size), (Launcher::Slurm, 3, 4));
    let shell = "SLURM_PROCID=0\nSLURM_STEP_ID=0\nSLURM_STEP_NUM_TASKS=1\n";
    let found = launch(&format!("RANK=1\nWORLD_SIZE=2\n{shell}{MASTER}"));
    assert_eq!((found.launcher, found.rank), (Launcher::Plain, 1));
}

#[test]
fn a_launcher_inside_a_pod_counts_over_the_pod() {
    let pod = "JOB_COMPLETION_INDEX=0\nLWS_WORKER_INDEX=0\nLWS_GROUP_SIZE=2\n";
    let found = launch(&format!("OMPI_COMM_WORLD_RANK=3\nOMPI_COMM_WORLD_SIZE=4\n{pod}{MASTER}"));
    assert_eq!((found.launcher, found.rank), (Launcher::OpenMpi, 3));
    // A LeaderWorkerSet's pods, whatever else Kubernetes says.
    let found = launch(&format!("{pod}{MASTER}"));
    assert_eq!(found.launcher, Launcher::LeaderWorkerSet);
}

#[test]
fn a_forced_launcher_must_be_there() {
    assert_eq!(
        problem("NCCL_RS_LAUNCHER=slurm"),
        "NCCL_RS_LAUNCHER=\"slurm\" is set, but slurm did not start this process: no SLURM_PROCID"
    );
    assert!(problem("NCCL_RS_LAUNCHER=srun").contains("names no launcher; there are torchrun"));
    let found = launch("NCCL_RS_LAUNCHER=single\nRANK=1\nWORLD_SIZE=2");
    assert_eq!((found.launcher, found.world_size), (Launcher::Single, 1));
}

#[test]
fn a_loopback_master_of_several_hosts_is_noted() {
    let text = "RANK=0\nWORLD_SIZE=4\nGROUP_WORLD_SIZE=2\nMASTER_ADDR=localhost\nMASTER_PORT=4";
    let found = launch(text);
    assert!(found.notes[0].starts_with("MASTER_ADDR=localhost is this host only"));
}
