//! What this machine has, and what is written about it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use nccl::comm::Nccl;
use nccl::comm::Version;
use nccl::cuda::Driver;
use tests::fakes;
use tests::fakes::Folder;
use tests::wheels;

/// The first NCCL that lets several ranks share a GPU.
const SHARES: Version = Version::new(2, 30, 3);

/// The libraries that the worlds use.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The newest NCCL.
    pub(crate) nccl: PathBuf,
    /// An older one, for one rank.
    pub(crate) old_nccl: Option<PathBuf>,
    /// More variables of all ranks.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) is_fake: bool,
    /// Kept, as the variables name files in it.
    _folder: Option<Folder>,
}

static MACHINE: LazyLock<Result<Machine, String>> = LazyLock::new(|| {
    let machine = find();
    if let Ok(machine) = &machine {
        describe(machine);
    }
    machine
});

/// The machine; `None`, with the reason printed, where it has no GPU.
///
/// # Panics
/// Where `NCCL_RS_REQUIRE` has `gpu`, and there is none.
#[track_caller]
pub(crate) fn machine() -> Option<&'static Machine> {
    match &*MACHINE {
        Ok(machine) => Some(machine),
        Err(why) => {
            wheels::skipped("gpu", why);
            None
        }
    }
}

fn find() -> Result<Machine, String> {
    if !cfg!(feature = "gpu") {
        return Err("built without the feature `gpu` of the package `tests`".to_owned());
    }
    if std::env::var_os("NCCL_RS_GPU_TEST_FAKES").is_some_and(|value| value == "1") {
        return Ok(faked());
    }
    let driver = Driver::get().map_err(|error| error.to_string())?;
    if driver.device_count().map_err(|error| error.to_string())? == 0 {
        return Err("the CUDA driver shows no device".to_owned());
    }
    let nccl = Nccl::get().map_err(|error| error.to_string())?;
    if nccl.version() < SHARES {
        let version = nccl.version();
        return Err(format!(
            "NCCL {version} does not let ranks share a GPU; name one from {SHARES} on with \
             NCCL_RS_NCCL_LIB"
        ));
    }
    let path = nccl.path().ok_or("the file of the libnccl that was opened is not known")?;
    let own = |name| std::env::var(name).ok().map(|value| (name, value));
    Ok(Machine {
        nccl: path.to_owned(),
        old_nccl: std::env::var_os("NCCL_RS_GPU_OLD_NCCL_LIB").map(PathBuf::from),
        env: ["NCCL_RS_CUDA_LIB", "NCCL_DEBUG", "NCCL_RS_DEVICE"]
            .into_iter()
            .filter_map(own)
            .collect(),
        is_fake: false,
        _folder: None,
    })
}

fn faked() -> Machine {
    let folder = Folder::new();
    let mut env = folder.env();
    env.retain(|(name, _)| *name != "NCCL_RS_NCCL_LIB");
    let more = [("FAKE_CUDA_DEVICES", "1"), ("FAKE_CUDA_STRICT", "1"), ("FAKE_NCCL_STRICT", "1")];
    env.extend(more.map(|(name, value)| (name, value.to_owned())));
    Machine {
        nccl: fakes::nccl(),
        old_nccl: Some(fakes::nccl_as("2.28.9")),
        env,
        is_fake: true,
        _folder: Some(folder),
    }
}

/// What was run on, in the report.
fn describe(machine: &Machine) {
    if machine.is_fake {
        return report("machine", "the fakes of this repository: nothing here is about a GPU");
    }
    let Ok(driver) = Driver::get() else { return };
    let name = driver.device(0).and_then(|device| device.name()).unwrap_or_default();
    let version = driver.version().map_or_else(String::new, |version| version.to_string());
    let nccl = Nccl::get().map_or_else(|_| String::new(), |nccl| nccl.version().to_string());
    report("machine", &format!("{name}; CUDA driver {version}; NCCL {nccl}"));
}

/// Writes a row of the report, and the same on standard error.
pub(crate) fn report(what: &str, text: &str) {
    eprintln!("gpu: {what}: {text}");
    let Some(path) = std::env::var_os("NCCL_RS_GPU_REPORT") else { return };
    let file = OpenOptions::new().append(true).create(true).open(&path);
    let written = file.and_then(|mut file| writeln!(file, "| {what} | {text} |"));
    written.unwrap_or_else(|error| panic!("NCCL_RS_GPU_REPORT {}: {error}", path.display()));
}
