//! The launchers by name.

use core::fmt;

/// Who started this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Launcher {
    /// torchrun.
    Torchrun,
    /// `RANK` and `WORLD_SIZE` set by hand, by `nccl run`, or by Kubeflow's PyTorchJob.
    Plain,
    /// mpirun of Open MPI 4 or 5, or of a library built on it.
    OpenMpi,
    /// mpirun_rsh or mpiexec of MVAPICH2.
    Mvapich2,
    /// flux run.
    Flux,
    /// mpiexec of HPE's PALS, or srun with its plugin.
    Pals,
    /// jsrun of IBM's LSF.
    Jsrun,
    /// srun.
    Slurm,
    /// mpiexec of MPICH, of Intel MPI or of another hydra.
    Mpich,
    /// Another launcher that speaks PMIx.
    Pmix,
    /// A Kubernetes Indexed Job or a JobSet, one rank a pod.
    Kubernetes,
    /// A Kubernetes LeaderWorkerSet, one rank a pod.
    LeaderWorkerSet,
    /// Kubeflow Trainer, without torchrun, one rank a pod.
    Trainer,
    /// Nobody: a world of one.
    Single,
}

/// Every launcher with its name in `NCCL_RS_LAUNCHER`.
const NAMES: [(&str, Launcher); 14] = [
    ("torchrun", Launcher::Torchrun),
    ("plain", Launcher::Plain),
    ("openmpi", Launcher::OpenMpi),
    ("mvapich2", Launcher::Mvapich2),
    ("flux", Launcher::Flux),
    ("pals", Launcher::Pals),
    ("jsrun", Launcher::Jsrun),
    ("slurm", Launcher::Slurm),
    ("mpich", Launcher::Mpich),
    ("pmix", Launcher::Pmix),
    ("kubernetes", Launcher::Kubernetes),
    ("lws", Launcher::LeaderWorkerSet),
    ("trainer", Launcher::Trainer),
    ("single", Launcher::Single),
];

impl Launcher {
    /// Returns its name, as in `NCCL_RS_LAUNCHER`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, launcher)| *launcher == self).map_or("unknown", |(name, _)| name)
    }

    /// The launcher of a name.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        match NAMES.iter().find(|(name, _)| *name == text) {
            Some((_, launcher)) => Ok(Some(*launcher)),
            None => {
                let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                Err(format!("names no launcher; there are {}", names.join(", ")))
            }
        }
    }
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_that_of_its_launcher_and_in_the_table() {
        let row = crate::config::vars::LAUNCHER.row();
        let shown: Vec<&str> = row.values.split(", ").collect();
        assert_eq!(shown, NAMES.map(|(name, _)| name));
        for (name, launcher) in NAMES {
            assert_eq!(launcher.name(), name);
            assert_eq!(Launcher::parse(name), Ok(Some(launcher)));
        }
        assert!(Launcher::parse("mpirun").is_err());
    }
}
