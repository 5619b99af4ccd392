//! The variables a rank finds in its environment: torchrun's names and meanings.
//!
//! Pure: nothing here reads the environment or the machine.

/// Where the ranks of one launch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct World {
    /// Ranks on this host.
    pub(crate) nproc: u32,
    /// Hosts, each with its own launcher.
    pub(crate) nnodes: u32,
    /// Which of the hosts this is.
    pub(crate) node_rank: u32,
}

impl World {
    /// Ranks on all hosts; the arguments' ranges keep it far below the limit of u64.
    pub(crate) fn size(self) -> u64 {
        u64::from(self.nproc) * u64::from(self.nnodes)
    }

    /// The rank in the world of this host's `local` rank.
    pub(crate) fn rank(self, local: u32) -> u64 {
        u64::from(self.node_rank) * u64::from(self.nproc) + u64::from(local)
    }
}

/// Host and port where rank 0 opens the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    /// The TCP port.
    pub(crate) port: u16,
}

/// What the ranks of one attempt share.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    /// The ranks.
    pub(crate) world: World,
    /// Where rank 0 opens the store.
    pub(crate) endpoint: &'a Endpoint,
    /// Attempts before this one.
    pub(crate) restart: u32,
    /// How often the ranks may be started again.
    pub(crate) max_restarts: u32,
    /// The same on all hosts of the launch.
    pub(crate) run_id: &'a str,
}

/// What other launchers set for one process.
///
/// Inside `srun bash` or `mpirun bash` these describe the shell, not the rank, and a rank that
/// sees both would have to guess.
pub(crate) const REMOVED: [&str; 32] = [
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "OMPI_COMM_WORLD_NODE_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "PMI_SIZE",
    "PMI_FD",
    "PMI_PORT",
    "PMI_ID",
    "PMI_LOCAL_RANK",
    "PMI_LOCAL_SIZE",
    "MPI_LOCALRANKID",
    "MPI_LOCALNRANKS",
    "MV2_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_SIZE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_GTIDS",
    "PALS_RANKID",
    "PALS_LOCAL_RANKID",
    "JSM_NAMESPACE_RANK",
    "JSM_NAMESPACE_SIZE",
    "JSM_NAMESPACE_LOCAL_RANK",
    "FLUX_TASK_RANK",
    "FLUX_TASK_LOCAL_ID",
    "JOB_COMPLETION_INDEX",
    "TORCHELASTIC_ERROR_FILE",
    "TORCHELASTIC_SIGNALS_TO_HANDLE",
];

/// The variables of the rank `local` of this host.
pub(crate) fn of_rank(job: &Job<'_>, local: u32) -> [(&'static str, String); 15] {
    let world = job.world;
    let rank = world.rank(local).to_string();
    let size = world.size().to_string();
    [
        ("RANK", rank.clone()),
        ("LOCAL_RANK", local.to_string()),
        ("WORLD_SIZE", size.clone()),
        ("LOCAL_WORLD_SIZE", world.nproc.to_string()),
        ("GROUP_RANK", world.node_rank.to_string()),
        ("GROUP_WORLD_SIZE", world.nnodes.to_string()),
        ("ROLE_RANK", rank),
        ("ROLE_WORLD_SIZE", size),
        ("ROLE_NAME", "default".to_owned()),
        ("MASTER_ADDR", job.endpoint.host.clone()),
        ("MASTER_PORT", job.endpoint.port.to_string()),
        ("TORCHELASTIC_RESTART_COUNT", job.restart.to_string()),
        ("TORCHELASTIC_MAX_RESTARTS", job.max_restarts.to_string()),
        ("TORCHELASTIC_RUN_ID", job.run_id.to_owned()),
        ("TORCHELASTIC_USE_AGENT_STORE", "False".to_owned()),
    ]
}

/// Reads `K=V` of `--env`.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("has no `=`; write NAME=VALUE, or NAME= for an empty value".to_owned());
    };
    if name.is_empty() || name.contains('\0') || value.contains('\0') {
        return Err("needs a name before the `=`, and no zero bytes".to_owned());
    }
    match name {
        "MASTER_ADDR" | "MASTER_PORT" => {
            Err(format!("sets {name}, which the launcher sets; use --rdzv HOST:PORT"))
        }
        "TORCHELASTIC_RUN_ID" => {
            Err(format!("sets {name}, which the launcher sets; use --run-id ID"))
        }
        "RANK"
        | "LOCAL_RANK"
        | "WORLD_SIZE"
        | "LOCAL_WORLD_SIZE"
        | "GROUP_RANK"
        | "GROUP_WORLD_SIZE"
        | "ROLE_RANK"
        | "ROLE_WORLD_SIZE"
        | "TORCHELASTIC_RESTART_COUNT"
        | "TORCHELASTIC_MAX_RESTARTS"
        | "TORCHELASTIC_USE_AGENT_STORE" => {
            Err(format!("sets {name}, which differs by rank or launch and is the launcher's"))
        }
        _ => Ok((name.to_owned(), value.to_owned())),
    }
}

/// Reads `host:port`, `1.2.3.4:port` or `[v6]:port` of `--rdzv`.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    const WANTED: &str = "write HOST:PORT, as node0:29500 or [fd00::1]:29500";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("has no port; {WANTED}"));
    };
    let bare = match host.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').ok_or_else(|| format!("has `[` without `]`; {WANTED}"))?
        }
        None if host.contains(':') => {
            return Err(format!("has an IPv6 address without brackets; {WANTED}"));
        }
        None => host,
    };
    if bare.is_empty() || bare.chars().any(|c| c.is_whitespace() || c == '\0' || c == '/') {
        return Err(format!("has no usable host; {WANTED}"));
    }
    match port.parse::<u16>() {
        Ok(0) => Err("has port 0, which the other hosts cannot know; choose one".to_owned()),
        Ok(port) => Ok(Endpoint { host: bare.to_owned(), port }),
        Err(_) => Err(format!("has the port {port:?}, which is not in 1..=65535; {WANTED}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(variables: &'a [(&'static str, String)], name: &str) -> &'a str {
        &variables.iter().find(|(key, _)| *key == name).unwrap().1
    }

    #[test]
    fn ranks_of_the_second_host_follow_those_of_the_first() {
        let world = World { nproc: 4, nnodes: 3, node_rank: 1 };
        let endpoint = Endpoint { host: "node0".to_owned(), port: 29500 };
        let job = Job { world, endpoint: &endpoint, restart: 2, max_restarts: 5, run_id: "x" };
        for local in 0..4 {
            let variables = of_rank(&job, local);
            assert_eq!(value(&variables, "RANK"), (4 + local).to_string());
            assert_eq!(value(&variables, "ROLE_RANK"), (4 + local).to_string());
            assert_eq!(value(&variables, "LOCAL_RANK"), local.to_string());
            assert_eq!(value(&variables, "WORLD_SIZE"), "12");
            assert_eq!(value(&variables, "ROLE_WORLD_SIZE"), "12");
            assert_eq!(value(&variables, "LOCAL_WORLD_SIZE"), "4");
            assert_eq!(value(&variables, "GROUP_RANK"), "1");
            assert_eq!(value(&variables, "GROUP_WORLD_SIZE"), "3");
            assert_eq!(value(&variables, "ROLE_NAME"), "default");
            assert_eq!(value(&variables, "MASTER_ADDR"), "node0");
            assert_eq!(value(&variables, "MASTER_PORT"), "29500");
            assert_eq!(value(&variables, "TORCHELASTIC_RESTART_COUNT"), "2");
            assert_eq!(value(&variables, "TORCHELASTIC_MAX_RESTARTS"), "5");
            assert_eq!(value(&variables, "TORCHELASTIC_RUN_ID"), "x");
            assert_eq!(value(&variables, "TORCHELASTIC_USE_AGENT_STORE"), "False");
        }
    }

    #[test]
    fn every_variable_set_for_a_rank_is_refused_in_env() {
        let world = World { nproc: 1, nnodes: 1, node_rank: 0 };
        let endpoint = Endpoint { host: "h".to_owned(), port: 1 };
        let job = Job { world, endpoint: &endpoint, restart: 0, max_restarts: 0, run_id: "x" };
        for (name, _) in of_rank(&job, 0) {
            // The role is a label: changing it misleads nobody.
            assert_eq!(assignment(&format!("{name}=1")).is_ok(), name == "ROLE_NAME", "{name}");
        }
    }

    #[test]
    fn an_assignment_is_cut_at_the_first_equals_sign() {
        assert_eq!(assignment("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(assignment("A="), Ok(("A".to_owned(), String::new())));
        assert!(assignment("A").unwrap_err().contains("has no `=`"));
        assert!(assignment("=b").is_err());
        assert!(assignment("A\0=b").is_err());
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        let good = |host: &str, port| Ok(Endpoint { host: host.to_owned(), port });
        assert_eq!(endpoint("node0:29500"), good("node0", 29500));
        assert_eq!(endpoint("10.0.0.1:1"), good("10.0.0.1", 1));
        assert_eq!(endpoint("[fd00::1]:65535"), good("fd00::1", 65535));
        for bad in
            ["node0", "node0:", ":1", "node0:0", "node0:65536", "node0:x", "fd00::1:5", "[a:1"]
        {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
