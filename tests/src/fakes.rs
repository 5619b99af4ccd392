//! The fake libcuda and libnccl: where cargo has put them, and copies that look like older ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use tempfile::TempDir;

mod names;
mod patch;

pub use names::NAMES;
pub use names::VERSIONS;
pub use patch::rename_symbols;

/// The fake `libcuda.so.1`.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn cuda() -> PathBuf {
    built("libfake_cuda.so")
}

/// The fake `libnccl.so.2`, of the newest version.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn nccl() -> PathBuf {
    built("libfake_nccl.so")
}

/// A folder with both under the names that programs look for, to be put on `LD_LIBRARY_PATH`.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// With both.
    ///
    /// # Panics
    /// If they were not built, or nothing can be written.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&cuda(), &nccl())
    }

    /// With these two files.
    ///
    /// # Panics
    /// If nothing can be written.
    #[must_use]
    pub fn with(cuda: &Path, nccl: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        symlink(cuda, folder.path().join("libcuda.so.1")).unwrap();
        symlink(nccl, folder.path().join("libnccl.so.2")).unwrap();
        Self { folder }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The variables that make a process use what is inside, and nothing else: for `Command::envs`.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let text = |name: &str| self.folder.path().join(name).display().to_string();
        vec![
            ("NCCL_RS_CUDA_LIB", text("libcuda.so.1")),
            ("NCCL_RS_NCCL_LIB", text("libnccl.so.2")),
            ("LD_LIBRARY_PATH", self.folder.path().display().to_string()),
        ]
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// A copy of the fake libnccl that reports a version, and has only the functions that this version
/// has: one of [`VERSIONS`], or one in between, which has what the version below it has.
///
/// # Panics
/// If the version is no `2.x.y`, or nothing can be written.
#[must_use]
pub fn nccl_as(version: &str) -> PathBuf {
    let code = names::code(version);
    let absent = NAMES.iter().filter(|(_, since)| names::code(since) > code);
    let absent: Vec<&str> = absent.map(|(name, _)| *name).collect();
    let mut bytes = fs::read(nccl()).unwrap();
    rename_symbols(&mut bytes, &absent);
    patch::set_version(&mut bytes, code);
    keep(&bytes, &format!("libnccl-{version}"))
}

/// A copy of the fake libnccl without some functions.
///
/// # Panics
/// If it has no such function, or nothing can be written.
#[must_use]
pub fn nccl_without(names: &[&str]) -> PathBuf {
    let mut bytes = fs::read(nccl()).unwrap();
    assert_eq!(rename_symbols(&mut bytes, names), names.len(), "{names:?}");
    keep(&bytes, &format!("libnccl-without-{}", names.join("-")))
}

/// A copy of the fake libcuda without some functions.
///
/// # Panics
/// If it has no such function, or nothing can be written.
#[must_use]
pub fn cuda_without(names: &[&str]) -> PathBuf {
    let mut bytes = fs::read(cuda()).unwrap();
    assert_eq!(rename_symbols(&mut bytes, names), names.len(), "{names:?}");
    keep(&bytes, &format!("libcuda-without-{}", names.join("-")))
}

/// Writes a copy beside the built ones, in one step, since tests run side by side.
fn keep(bytes: &[u8], name: &str) -> PathBuf {
    let folder = nccl().with_file_name("fakes");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.so"));
    if fs::read(&path).is_ok_and(|old| old == bytes) {
        return path;
    }
    let file = tempfile::NamedTempFile::new_in(&folder).unwrap();
    fs::write(file.path(), bytes).unwrap();
    file.persist(&path).unwrap();
    path
}

/// A library that cargo built as a dependency of this package: beside the test's own program.
fn built(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folders = program.ancestors().skip(1).take(2);
    let places: Vec<PathBuf> =
        folders.flat_map(|folder| [folder.join(name), folder.join("deps").join(name)]).collect();
    let found = places.iter().find(|place| place.is_file()).cloned();
    found.unwrap_or_else(|| panic!("{name} is in none of {places:?}; cargo build -p tests"))
}
