//! Where variables are read from: a snapshot of the process's environment, or a map.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::conf;
use crate::error::Error;
use crate::error::Result;

/// The largest file that is read on behalf of a variable.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// A snapshot of environment variables, with NCCL's configuration files below them.
///
/// [`Env::process`] reads the process's environment once, so that a later `setenv` of another
/// thread changes nothing. Tests write an environment by hand:
///
/// ```
/// use nccl::config::Env;
///
/// let env = Env::empty().with("RANK", "0").with("WORLD_SIZE", "4");
/// assert_eq!(env.get("WORLD_SIZE")?, Some("4"));
/// assert_eq!(env.get("MASTER_ADDR")?, None);
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Env {
    vars: BTreeMap<String, Entry>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    reads_disk: bool,
    host_name: Option<String>,
    notes: Vec<String>,
}

/// A value and, if it came from a configuration file, which.
#[derive(Clone, Debug)]
struct Entry {
    value: OsString,
    file: Option<Arc<Path>>,
}

impl Env {
    /// Makes an environment without variables, that reads no files.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Takes a snapshot of the process's environment and reads NCCL's configuration files.
    ///
    /// As in NCCL, `$NCCL_CONF_FILE` replaces `~/.nccl.conf`, then comes `/etc/nccl.conf`, and a
    /// variable that is set already stays. Unlike NCCL, the process's own environment is not
    /// changed. Names that are not UTF-8 are left out.
    #[must_use]
    pub fn process() -> Self {
        let mut env = Self { reads_disk: true, host_name: node_name(), ..Self::default() };
        for (name, value) in std::env::vars_os() {
            if let Ok(name) = name.into_string() {
                env.vars.insert(name, Entry { value, file: None });
            }
        }
        env.with_conf_files()
    }

    /// Returns it with `name` set to `value`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.vars.insert(name.into(), Entry { value: value.into(), file: None });
        self
    }

    /// Returns it with a file, instead of what the disk has at `path`.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), bytes.into());
        self
    }

    /// Returns it with the name of this host.
    #[must_use]
    pub fn with_host_name(mut self, name: impl Into<String>) -> Self {
        self.host_name = Some(name.into());
        self
    }

    /// Returns it with the variables of NCCL's configuration files below those it has.
    #[must_use]
    pub fn with_conf_files(mut self) -> Self {
        let own = self.value("NCCL_CONF_FILE").filter(|path| !path.is_empty());
        let asked = own.is_some();
        let user = match own {
            Some(path) => Some(PathBuf::from(path)),
            None => self
                .value("HOME")
                .filter(|home| !home.is_empty())
                .map(|home| Path::new(home).join(".nccl.conf")),
        };
        if let Some(path) = user {
            self.merge_conf(&path, asked);
        }
        self.merge_conf(Path::new("/etc/nccl.conf"), false);
        self
    }

    /// Returns the value of `name`, if it is set.
    ///
    /// # Errors
    /// [`Error::Env`] if the value is not UTF-8.
    pub fn get(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.to_str() {
            Some(text) => Ok(Some(text)),
            None => Err(Error::env(
                name,
                value.to_string_lossy(),
                "is not UTF-8; set it to plain text, or unset it",
            )),
        }
    }

    /// Says whether `name` is set to something that is not empty.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| !value.is_empty())
    }

    /// Returns the configuration file that `name` comes from; `None` if the environment itself.
    #[must_use]
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        self.vars.get(name)?.file.as_deref()
    }

    /// Returns the name of this host, if it is known.
    #[must_use]
    pub fn host_name(&self) -> Option<&str> {
        self.host_name.as_deref()
    }

    /// Returns what was ignored while the configuration files were read.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The value as the system gave it.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(name).map(|entry| entry.value.as_os_str())
    }

    /// The bytes of a file: one given by [`Env::with_file`], else the disk's for a process.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.files.get(path) {
            return Ok(bytes.clone());
        }
        if !self.reads_disk {
            return Err(io::ErrorKind::NotFound.into());
        }
        read_disk(path)
    }

    /// Merges one configuration file below what is there.
    fn merge_conf(&mut self, path: &Path, asked: bool) {
        let bytes = match self.read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if asked {
                    let path = path.display();
                    self.notes.push(format!("NCCL_CONF_FILE={path} is ignored: {error}"));
                }
                return;
            }
        };
        let file: Arc<Path> = Arc::from(path);
        for (name, value) in conf::parse(&bytes) {
            let entry = || Entry { value, file: Some(Arc::clone(&file)) };
            self.vars.entry(name).or_insert_with(entry);
        }
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        pairs.into_iter().fold(Self::empty(), |env, (name, value)| env.with(name, value))
    }
}

/// Reads at most [`MAX_FILE_BYTES`] of a file that is no pipe or socket: opening one could wait
/// forever.
fn read_disk(path: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileTypeExt;
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_fifo() || kind.is_socket() || kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The node name of `uname`.
fn node_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn the_environment_wins_over_the_users_file_and_that_over_the_systems() {
        let env = Env::empty()
            .with("HOME", "/home/u")
            .with("A", "env")
            .with_file("/home/u/.nccl.conf", "A=user\nB=user\n")
            .with_file("/etc/nccl.conf", "A=sys\nB=sys\nC=sys\n")
            .with_conf_files();
        assert_eq!(env.get("A").unwrap(), Some("env"));
        assert_eq!(env.get("B").unwrap(), Some("user"));
        assert_eq!(env.get("C").unwrap(), Some("sys"));
        assert_eq!(env.file_of("A"), None);
        assert_eq!(env.file_of("B"), Some(Path::new("/home/u/.nccl.conf")));
        assert!(env.notes().is_empty());
    }

    #[test]
    fn nccl_conf_file_replaces_the_users_file_and_a_missing_one_is_noted() {
        let env = Env::empty()
            .with("HOME", "/home/u")
            .with_file("/home/u/.nccl.conf", "A=user\n")
            .with_file("/etc/nccl.conf", "C=sys\n");
        let other = env.clone().with("NCCL_CONF_FILE", "/x").with_file("/x", "B=x\n");
        let other = other.with_conf_files();
        assert_eq!(other.get("A").unwrap(), None);
        assert_eq!(other.get("B").unwrap(), Some("x"));
        assert_eq!(other.get("C").unwrap(), Some("sys"));
        let gone = env.with("NCCL_CONF_FILE", "~/x").with_conf_files();
        assert_eq!(gone.get("A").unwrap(), None);
        assert_eq!(gone.notes(), ["NCCL_CONF_FILE=~/x is ignored: entity not found"]);
    }

    #[test]
    fn a_value_that_is_not_utf8_is_an_error_with_its_name() {
        let env = Env::empty().with("RANK", OsString::from_vec(vec![b'1', 0xff]));
        let text = env.get("RANK").unwrap_err().to_string();
        assert_eq!(text, "RANK=\"1\u{fffd}\" is not UTF-8; set it to plain text, or unset it");
    }

    #[test]
    fn a_directory_as_configuration_file_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let mut env = Env::empty().with("NCCL_CONF_FILE", dir.path());
        env.reads_disk = true;
        let env = env.with_conf_files();
        assert!(env.notes()[0].ends_with("is ignored: not a regular file"), "{:?}", env.notes());
    }
}
