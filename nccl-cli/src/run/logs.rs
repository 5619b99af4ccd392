//! The files of `--log-dir`: private, new, never through a link.

use std::fmt;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::OFlags;

/// Which of a rank's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        })
    }
}

/// The folder of this launch, new and for its owner only.
#[derive(Debug)]
pub(crate) struct LogDir {
    path: PathBuf,
}

impl LogDir {
    /// Makes a new folder `nccl-run-NAME` in `parent`, and `parent` where it is missing.
    ///
    /// # Errors
    /// With the path that cannot be made.
    pub(crate) fn create(parent: &Path, name: &str) -> Result<Self, String> {
        let fail = |path: &Path, why: io::Error| {
            format!("cannot make the folder {} for --log-dir: {why}", path.display())
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|why| fail(parent, why))?;
        let path = parent.join(format!("nccl-run-{name}"));
        // Not recursive: a folder of this name that somebody else made is an error.
        DirBuilder::new().mode(0o700).create(&path).map_err(|why| fail(&path, why))?;
        Ok(Self { path })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file of one stream of one rank.
    ///
    /// # Errors
    /// With the path that cannot be made.
    pub(crate) fn file(&self, rank: u64, stream: Stream, attempt: u32) -> Result<File, String> {
        let path = self.path.join(format!("attempt-{attempt}.rank-{rank}.{stream}"));
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&path)
            .map_err(|why| format!("cannot make the log file {}: {why}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_new_and_private() {
        let temp = tempfile::tempdir().unwrap();
        let parent = temp.path().join("a/b");
        let logs = LogDir::create(&parent, "x").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(logs.path()), 0o700);
        logs.file(3, Stream::Err, 1).unwrap();
        let file = parent.join("nccl-run-x/attempt-1.rank-3.stderr");
        assert_eq!(mode(&file), 0o600);
        assert!(logs.file(3, Stream::Err, 1).unwrap_err().contains("rank-3"));
        assert!(LogDir::create(&parent, "x").unwrap_err().contains("nccl-run-x"));
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let logs = LogDir::create(temp.path(), "x").unwrap();
        let aim = temp.path().join("aim");
        std::os::unix::fs::symlink(&aim, logs.path().join("attempt-0.rank-0.stdout")).unwrap();
        assert!(logs.file(0, Stream::Out, 0).is_err());
        assert!(!aim.exists());
    }
}
