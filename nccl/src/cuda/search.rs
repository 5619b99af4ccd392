//! Where libcuda is looked for, in which order.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

/// The name that every driver has had.
const SONAME: &str = "libcuda.so.1";

/// Folders where drivers are that the linker may not know.
const FOLDERS: [&str; 9] = [
    "/usr/lib/wsl/lib",                  // Windows' subsystem for Linux
    "/usr/local/nvidia/lib64",           // Kubernetes' device plugins
    "/usr/lib/x86_64-linux-gnu",         // Debian
    "/usr/lib/aarch64-linux-gnu",        // Debian
    "/usr/lib/aarch64-linux-gnu/nvidia", // Jetson
    "/usr/lib64",                        // Red Hat
    "/run/opengl-driver/lib",            // NixOS
    "/usr/local/cuda/compat",            // the toolkit's newer driver, for older kernel modules
    "/usr/local/cuda/lib64",
];

/// What is asked of the linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// The library of this name if the process has it already.
    Loaded(&'static str),
    /// A name to be found by the linker in its own places.
    Name(OsString),
    /// A file.
    File(PathBuf),
    /// What cannot be opened, and why, for the list.
    Refused(String, String),
}

/// Where to look if nothing is asked for.
pub(super) fn places() -> Vec<Candidate> {
    let mut places = vec![
        Candidate::Loaded(SONAME),
        Candidate::Name(SONAME.into()),
        Candidate::Name("libcuda.so".into()),
    ];
    places.extend(FOLDERS.iter().map(|folder| Candidate::File(Path::new(folder).join(SONAME))));
    places
}

/// What is asked for by path or by name. A relative path would mean another file in another
/// folder.
pub(super) fn explicit(asked: &Path) -> Candidate {
    if asked.file_name() == Some(asked.as_os_str()) {
        return Candidate::Name(asked.as_os_str().to_owned());
    }
    if !asked.is_absolute() {
        let why = "is a relative path; write the whole path, from /".to_owned();
        return Candidate::Refused(asked.display().to_string(), why);
    }
    Candidate::File(asked.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_and_the_linker_come_before_the_folders() {
        let places = places();
        assert_eq!(
            places[..3],
            [
                Candidate::Loaded("libcuda.so.1"),
                Candidate::Name("libcuda.so.1".into()),
                Candidate::Name("libcuda.so".into()),
            ]
        );
        assert!(places[3..].iter().all(
            |place| matches!(place, Candidate::File(path) if path.is_absolute() && path.ends_with(SONAME))
        ));
        assert!(places.contains(&Candidate::File("/usr/lib/wsl/lib/libcuda.so.1".into())));
    }

    #[test]
    fn what_is_asked_for_is_a_name_or_a_whole_path() {
        let name = Path::new("libcuda.so.550");
        assert_eq!(explicit(name), Candidate::Name(name.into()));
        assert_eq!(explicit(Path::new("/a/b")), Candidate::File("/a/b".into()));
        for relative in ["./b", "a/b", ".."] {
            assert!(matches!(explicit(Path::new(relative)), Candidate::Refused(..)), "{relative}");
        }
    }
}
