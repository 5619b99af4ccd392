//! What each launcher sets, whole, and what is made of it.

use super::*;

#[test]
fn torchrun_with_its_agents_store() {
    let text = "
        RANK=3
        LOCAL_RANK=1
        WORLD_SIZE=4
        LOCAL_WORLD_SIZE=2
        GROUP_RANK=1
        GROUP_WORLD_SIZE=2
        ROLE_RANK=3
        ROLE_WORLD_SIZE=4
        ROLE_NAME=default
        MASTER_ADDR=node0
        MASTER_PORT=40373
        TORCHELASTIC_RESTART_COUNT=2
        TORCHELASTIC_MAX_RESTARTS=3
        TORCHELASTIC_RUN_ID=1d0a8f57-9bd5-4a32-a1c6-e6bd0f9cc1b4
        TORCHELASTIC_USE_AGENT_STORE=True
        TORCHELASTIC_ERROR_FILE=/tmp/torchelastic_x/attempt_2/1/error.json
        OMP_NUM_THREADS=1
        TORCH_NCCL_ASYNC_ERROR_HANDLING=1";
    let found = launch(text);
    assert_eq!(found.launcher, Launcher::Torchrun);
    assert_eq!(numbers(&found), (3, 4, Some(1), Some(2), Some(1), Some(2)));
    assert_eq!(found.rendezvous.to_string(), "tcp://node0:40373 (the agent serves)");
    assert_eq!(found.job_id, "1d0a8f57-9bd5-4a32-a1c6-e6bd0f9cc1b4");
    assert_eq!(found.attempt, 2);
    for other in ["true", "1", "False", ""] {
        let text = text.replace("STORE=True", &format!("STORE={other}"));
        let rendezvous = launch(&text).rendezvous.to_string();
        assert_eq!(rendezvous, "tcp://node0:40373 (rank 0 serves)", "{other:?}");
    }
}

#[test]
fn open_mpi_4_on_one_host() {
    let found = launch(
        "OMPI_COMM_WORLD_RANK=1
        OMPI_COMM_WORLD_SIZE=2
        OMPI_COMM_WORLD_LOCAL_RANK=1
        OMPI_COMM_WORLD_LOCAL_SIZE=2
        OMPI_COMM_WORLD_NODE_RANK=1
        OMPI_UNIVERSE_SIZE=2
        OMPI_MCA_ess_base_jobid=1893335041
        OMPI_MCA_ess_base_vpid=1
        OMPI_MCA_orte_hnp_uri=1893335040.0;tcp://10.0.0.1:59347;tcp6://[fd00::2]:46113
        OMPI_MCA_orte_local_daemon_uri=1893335040.0;tcp://10.0.0.1:59347;tcp6://[fd00::2]:46113
        OMPI_FILE_LOCATION=/tmp/ompi.vm.0/pid.7204/0/0
        PMIX_RANK=1",
    );
    assert_eq!(found.launcher, Launcher::OpenMpi);
    assert_eq!(numbers(&found), (1, 2, Some(1), Some(2), None, None));
    assert_eq!(found.rendezvous.to_string(), derived("127.0.0.1", "1893335041"));
}

/// What mpirun of version 4 sets on a second host.
const OPEN_MPI_4: &str = "
    OMPI_COMM_WORLD_RANK=2
    OMPI_COMM_WORLD_SIZE=4
    OMPI_COMM_WORLD_LOCAL_RANK=0
    OMPI_COMM_WORLD_LOCAL_SIZE=2
    OMPI_MCA_ess_base_jobid=77
    OMPI_MCA_orte_hnp_uri=76.0;tcp://10.0.0.1,172.17.0.1:59347
    OMPI_MCA_orte_local_daemon_uri=76.1;tcp://10.0.0.2:4242\n";

#[test]
fn open_mpi_4_on_two_hosts_meets_on_mpiruns_and_says_so() {
    let found = launch(OPEN_MPI_4);
    assert_eq!(found.rendezvous.to_string(), derived("10.0.0.1", "77"));
    assert_eq!(found.notes, ["rank 0 is taken to run on mpirun's host 10.0.0.1: no MASTER_ADDR"]);
    let text = problem(&OPEN_MPI_4.replace("RANK=2", "RANK=0"));
    assert!(text.contains("rank 0 does not run on mpirun's host"), "{text}");
    let found = launch(&format!("{OPEN_MPI_4}SLURM_JOB_NODELIST=gpu[07-08]"));
    assert_eq!(found.rendezvous.to_string(), derived("gpu07", "77"), "the allocation knows better");
    let found = launch(&format!("{OPEN_MPI_4}MASTER_PORT=5555"));
    assert_eq!(found.rendezvous.to_string(), "tcp://10.0.0.1:5555 (rank 0 serves)");
}

#[test]
fn open_mpi_5_needs_an_address_on_several_hosts() {
    let text = "
        OMPI_COMM_WORLD_RANK=1
        OMPI_COMM_WORLD_SIZE=4
        OMPI_COMM_WORLD_LOCAL_RANK=1
        OMPI_COMM_WORLD_LOCAL_SIZE=2
        OMPI_COMM_WORLD_NODE_RANK=1
        PMIX_RANK=1
        PMIX_NAMESPACE=prterun-node0-4242@1
        PMIX_HOSTNAME=node0
        PMIX_SERVER_URI41=prterun-node0-4242@0.1;tcp4://10.0.0.1:40001
        PRTE_LAUNCHED=1\n";
    let wrong = problem(text);
    assert_eq!(
        wrong,
        "MASTER_ADDR is missing, and the launcher (openmpi) does not tell rank 0's host: Open MPI \
         5 tells it to nobody but MPI; set MASTER_ADDR to its name or address and MASTER_PORT to \
         a free port there"
    );
    let found = launch(&format!("{text}MASTER_ADDR=node0"));
    assert_eq!(found.rendezvous.to_string(), derived("node0", "prterun-node0-4242@1"));
    let found = launch(&text.replace("WORLD_SIZE=4", "WORLD_SIZE=2"));
    assert_eq!(found.rendezvous.to_string(), derived("127.0.0.1", "prterun-node0-4242@1"));
}

#[test]
fn mpich_and_intel_mpi_tell_through_pmi() {
    let text = "
        PMI_RANK=1
        PMI_SIZE=4
        PMI_FD=8
        MPI_LOCALRANKID=1
        MPI_LOCALNRANKS=2
        MPIR_CVAR_CH3_INTERFACE_HOSTNAME=node0
        GFORTRAN_UNBUFFERED_PRECONNECTED=y\n";
    for more in ["", "I_MPI_MPIRUN=mpirun\nI_MPI_HYDRA_UUID=5d0a0000\nPMI_HOSTNAME=node0"] {
        let found = launch(&format!("{text}{more}"));
        assert_eq!(found.launcher, Launcher::Mpich);
        assert_eq!(numbers(&found), (1, 4, Some(1), Some(2), None, None));
        assert!(matches!(found.rendezvous, crate::config::Rendezvous::Pmi { one_host: false, .. }));
    }
    let here = launch(&text.replace("PMI_SIZE=4", "PMI_SIZE=2"));
    assert!(matches!(here.rendezvous, crate::config::Rendezvous::Pmi { one_host: true, .. }));
    let found = launch(&format!("{text}MASTER_ADDR=node0\nMASTER_PORT=4"));
    assert_eq!(found.rendezvous.to_string(), "tcp://node0:4 (rank 0 serves)");
    let text = problem(&text.replace("PMI_FD=8", ""));
    assert!(text.contains("there is no PMI_FD to ask through"), "{text}");
}

#[test]
fn mvapich2() {
    let found = launch(
        "MV2_COMM_WORLD_RANK=5
        MV2_COMM_WORLD_SIZE=8
        MV2_COMM_WORLD_LOCAL_RANK=1
        MV2_COMM_WORLD_LOCAL_SIZE=4
        PMI_RANK=5
        PMI_SIZE=8
        PMI_FD=9",
    );
    assert_eq!(found.launcher, Launcher::Mvapich2);
    assert_eq!(numbers(&found), (5, 8, Some(1), Some(4), None, None));
}

/// What srun sets for a task on the second of three hosts.
const SRUN: &str = "
    SLURM_JOB_ID=4711
    SLURM_JOBID=4711
    SLURM_STEP_ID=0
    SLURM_STEPID=0
    SLURM_PROCID=3
    SLURM_LOCALID=1
    SLURM_NODEID=1
    SLURM_NTASKS=5
    SLURM_NPROCS=5
    SLURM_NNODES=3
    SLURM_STEP_NUM_TASKS=5
    SLURM_STEP_NUM_NODES=3
    SLURM_STEP_TASKS_PER_NODE=2(x2),1
    SLURM_TASKS_PER_NODE=2(x2),1
    SLURM_GTIDS=2,3
    SLURM_STEP_NODELIST=gpu[07-08,12]
    SLURM_JOB_NODELIST=gpu[07-08,12]
    SLURM_NODELIST=gpu[07-08,12]
    SLURM_LAUNCH_NODE_IPADDR=10.9.9.9
    SLURM_SRUN_COMM_HOST=10.9.9.9
    SLURM_DISTRIBUTION=block
    SLURM_RESTART_COUNT=1\n";

#[test]
fn srun() {
    let found = launch(SRUN);
    assert_eq!(found.launcher, Launcher::Slurm);
    assert_eq!(numbers(&found), (3, 5, Some(1), Some(2), Some(1), Some(3)));
    assert_eq!(found.rendezvous.to_string(), derived("gpu07", "4711.0"));
    assert_eq!((found.job_id.as_str(), found.attempt), ("4711.0", 1));
    // Without the ranks of this host, the list of counts tells how many there are.
    let found = launch(&SRUN.replace("SLURM_GTIDS=2,3", ""));
    assert_eq!(found.local_world_size, Some(2));
    let text = problem(&SRUN.replace("=block", "=arbitrary"));
    assert!(text.contains("SLURM_DISTRIBUTION=arbitrary puts it anywhere"), "{text}");
    let text = problem(&SRUN.replace("gpu[07-08,12]", "gpu[07-"));
    assert!(text.starts_with("SLURM_STEP_NODELIST=\"gpu[07-\" has a `[` without"), "{text}");
    // Rank 0 sees whether it is where the others look for it.
    let first = SRUN.replace("PROCID=3", "PROCID=0");
    for (own, notes) in [("GPU07.site", 0), ("gpu12.site", 1)] {
        let found = Launch::from_env(&env(&first).with_host_name(own)).unwrap();
        assert_eq!(found.notes.len(), notes, "{:?}", found.notes);
    }
    // The pmi2 plugin says the same in fewer words.
    let found = launch(&format!("{SRUN}PMI_RANK=3\nPMI_SIZE=5\nPMI_FD=12\nPMI_JOBID=4711.0"));
    assert_eq!((found.launcher, found.local_rank), (Launcher::Slurm, Some(1)));
}

#[test]
fn a_batch_script_without_srun_is_a_world_of_one_and_says_so() {
    let found = launch(
        "SLURM_JOB_ID=4711
        SLURM_PROCID=0
        SLURM_LOCALID=0
        SLURM_NTASKS=5
        SLURM_GTIDS=0
        SLURM_JOB_NODELIST=gpu[07-08,12]",
    );
    assert_eq!(found.launcher, Launcher::Single);
    assert_eq!(numbers(&found), (0, 1, Some(0), Some(1), Some(0), Some(1)));
    assert!(found.notes[0].contains("start it with `srun` for 5 ranks"), "{:?}", found.notes);
}

#[test]
fn pals_finds_rank_0_in_its_file_and_pbs_in_its_node_file() {
    let text = "
        PALS_RANKID=9
        PALS_LOCAL_RANKID=1
        PALS_NODEID=2
        PALS_APID=8d4ee2b5
        PALS_APINFO=/var/run/palsd/8d4ee2b5/apinfo
        PMI_RANK=9
        PMI_SIZE=16
        PMI_LOCAL_RANK=1
        PMI_LOCAL_SIZE=4
        PMI_UNIVERSE_SIZE=16
        PBS_NODEFILE=/var/spool/pbs/aux/17.pbs\n";
    let nodes = "x1000c0s0b0n0.site\nx1000c0s0b0n1.site\n";
    let env_of = |text: &str| {
        env(text)
            .with_file("/var/run/palsd/8d4ee2b5/apinfo", apinfo::tests::file())
            .with_file("/var/spool/pbs/aux/17.pbs", nodes)
    };
    let found = Launch::from_env(&env_of(text)).unwrap();
    assert_eq!(found.launcher, Launcher::Pals);
    assert_eq!(numbers(&found), (9, 16, Some(1), Some(4), Some(2), None));
    assert_eq!(found.rendezvous.to_string(), derived("nid000007", "8d4ee2b5"));
    let without = text.replace("PALS_APINFO=/var/run/palsd/8d4ee2b5/apinfo", "");
    let found = Launch::from_env(&env_of(&without)).unwrap();
    assert_eq!(found.rendezvous.to_string(), derived("x1000c0s0b0n0.site", "8d4ee2b5"));
    let text = problem(text);
    assert!(text.contains("does not tell rank 0's host: entity not found"), "{text}");
}

#[test]
fn jsrun_leaves_out_the_host_that_launches() {
    let text = "
        JSM_NAMESPACE_RANK=4
        JSM_NAMESPACE_SIZE=8
        JSM_NAMESPACE_LOCAL_RANK=0
        JSM_NAMESPACE_ID=1
        OMPI_COMM_WORLD_RANK=4
        OMPI_COMM_WORLD_SIZE=8
        LSB_JOBID=991
        LSB_DJOB_RANKFILE=/lsf/rank\n";
    let launch_in = |text: &str| {
        let env = env(text).with_file("/lsf/rank", "batch1\nh12n01\nh12n01\nh12n02\n");
        Launch::from_env(&env).unwrap()
    };
    let found = launch_in(text);
    assert_eq!(found.launcher, Launcher::OpenMpi, "Spectrum MPI is built on it");
    assert_eq!(found.rendezvous.to_string(), derived("h12n01", "991"));
    let found = launch_in(&text.replace("OMPI", "XMPI"));
    assert_eq!(found.launcher, Launcher::Jsrun);
    assert_eq!(numbers(&found), (4, 8, Some(0), None, None, None));
    assert_eq!(found.rendezvous.to_string(), derived("h12n01", "991.1"));
}

#[test]
fn flux() {
    let text = "
        FLUX_TASK_RANK=2
        FLUX_TASK_LOCAL_ID=0
        FLUX_JOB_SIZE=4
        FLUX_JOB_NNODES=2
        FLUX_JOB_ID=f2HtTtX5
        PMI_RANK=2
        PMI_SIZE=4
        PMI_FD=17\n";
    let found = launch(text);
    assert_eq!(found.launcher, Launcher::Flux);
    assert_eq!(numbers(&found), (2, 4, Some(0), None, None, Some(2)));
    assert!(matches!(found.rendezvous, crate::config::Rendezvous::Pmi { one_host: false, .. }));
    let here = launch(&text.replace("NNODES=2", "NNODES=1").replace("PMI_FD=17", ""));
    assert_eq!(here.rendezvous.to_string(), derived("127.0.0.1", "f2HtTtX5"));
}

#[test]
fn a_kubernetes_indexed_job() {
    let text = "JOB_COMPLETION_INDEX=2\nHOSTNAME=train-2\nKUBERNETES_SERVICE_HOST=10.96.0.1\n";
    assert_eq!(
        problem(text),
        "WORLD_SIZE is missing: an Indexed Job tells a process its rank but not the number of \
         ranks; set WORLD_SIZE or NCCL_RS_WORLD_SIZE to it"
    );
    let sized = format!("{text}WORLD_SIZE=4\n");
    let wrong = problem(&sized);
    assert!(wrong.contains("rank 0 is then train-0.<subdomain>"), "{wrong}");
    let hosts = "127.0.0.1 localhost\n10.1.2.3 train-2.ring.ns.svc.cluster.local train-2\n";
    let found = Launch::from_env(&env(&sized).with_file("/etc/hosts", hosts)).unwrap();
    assert_eq!(found.launcher, Launcher::Kubernetes);
    assert_eq!(numbers(&found), (2, 4, None, None, None, None));
    let host = "train-0.ring.ns.svc.cluster.local";
    assert_eq!(found.rendezvous.to_string(), derived(host, "train"));
    let found = launch(&format!("{text}NCCL_RS_WORLD_SIZE=4\nNCCL_RS_SUBDOMAIN=ring"));
    assert_eq!(found.rendezvous.to_string(), derived("train-0.ring", "train"));
}

#[test]
fn a_job_set_is_an_indexed_job_with_a_longer_name() {
    let found = launch(
        "JOB_COMPLETION_INDEX=1
        HOSTNAME=set-workers-0-1.set.ns.svc.cluster.local
        WORLD_SIZE=2",
    );
    let host = "set-workers-0-0.set.ns.svc.cluster.local";
    assert_eq!(found.rendezvous.to_string(), derived(host, "set-workers-0"));
}

#[test]
fn a_py_torch_job_is_plain() {
    let found = launch(
        "RANK=1
        WORLD_SIZE=2
        MASTER_ADDR=job-master-0
        MASTER_PORT=23456
        PET_NNODES=2
        PET_NODE_RANK=1
        PET_MASTER_ADDR=job-master-0
        PYTHONUNBUFFERED=1",
    );
    assert_eq!(found.launcher, Launcher::Plain);
    assert_eq!(numbers(&found), (1, 2, None, None, None, None));
    assert_eq!(found.rendezvous.to_string(), "tcp://job-master-0:23456 (rank 0 serves)");
}

#[test]
fn kubeflow_trainer_with_one_process_a_pod() {
    let text = "
        PET_NNODES=2
        PET_NPROC_PER_NODE=1
        PET_NODE_RANK=1
        PET_MASTER_ADDR=t-node-0-0.t
        PET_MASTER_PORT=29400
        JOB_COMPLETION_INDEX=1\n";
    let found = launch(text);
    assert_eq!(found.launcher, Launcher::Trainer);
    assert_eq!(numbers(&found), (1, 2, Some(0), Some(1), None, None));
    assert_eq!(found.rendezvous.to_string(), "tcp://t-node-0-0.t:29400 (rank 0 serves)");
    let text = problem(&text.replace("NODE=1", "NODE=8"));
    assert!(text.starts_with("PET_NPROC_PER_NODE=\"8\" asks for several processes"), "{text}");
}

#[test]
fn a_leader_worker_set() {
    let found = launch(
        "LWS_WORKER_INDEX=1
        LWS_GROUP_SIZE=4
        LWS_LEADER_ADDRESS=vllm-0.vllm.default",
    );
    assert_eq!(found.launcher, Launcher::LeaderWorkerSet);
    assert_eq!(numbers(&found), (1, 4, None, None, None, None));
    assert_eq!(found.rendezvous.to_string(), derived("vllm-0.vllm.default", "vllm-0.vllm.default"));
}

#[test]
fn plain_pmix_needs_a_size() {
    let text = "PMIX_RANK=1\nPMIX_NAMESPACE=prun@2\nMASTER_ADDR=node0\n";
    let wrong = problem(text);
    assert!(wrong.starts_with("WORLD_SIZE is missing: PMIx tells"), "{wrong}");
    let found = launch(&format!("{text}NCCL_RS_WORLD_SIZE=2"));
    assert_eq!((found.launcher, found.rank, found.world_size), (Launcher::Pmix, 1, 2));
}

#[test]
fn rank_and_size_by_hand() {
    let found = launch("RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=fe80::1%eth0\nMASTER_PORT=29500");
    assert_eq!(numbers(&found), (0, 2, None, None, None, None));
    assert_eq!(found.rendezvous.to_string(), "tcp://[fe80::1%eth0]:29500 (rank 0 serves)");
    let found = launch("RANK=0\nWORLD_SIZE=2\nNCCL_COMM_ID=[fd00::1]:7");
    assert_eq!(found.rendezvous.to_string(), "tcp://[fd00::1]:7 (rank 0 serves)");
    let found = launch("RANK=0\nWORLD_SIZE=2\nLOCAL_WORLD_SIZE=2\nNCCL_RS_JOB_ID=j");
    assert_eq!(found.rendezvous.to_string(), derived("127.0.0.1", "j"));
    let found = launch("RANK=0\nWORLD_SIZE=1");
    assert_eq!(found.rendezvous.to_string(), "none (a world of one)");
}

#[test]
fn nothing_at_all_is_a_world_of_one() {
    let found = launch("HOME=/root\nPATH=/bin\nMASTER_PORT=29500\nLOCAL_RANK=0");
    assert_eq!(found.launcher, Launcher::Single);
    assert_eq!(numbers(&found), (0, 1, Some(0), Some(1), Some(0), Some(1)));
    assert!(found.notes.is_empty());
}
