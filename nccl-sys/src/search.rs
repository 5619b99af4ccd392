//! Where libnccl is looked for, in which order.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::elf;
use crate::error::Attempt;
use crate::error::Problem;

/// The variable that names the library; nothing else is tried while it is set and not empty.
pub const VARIABLE: &str = "NCCL_RS_NCCL_LIB";

/// The name that every version has had.
pub(crate) const SONAME: &str = "libnccl.so.2";

/// What is asked of the linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// The library of this name if the process has it already.
    Loaded(&'static str),
    /// A name to be found by the linker in its own places.
    Name(OsString),
    /// A file.
    File(PathBuf),
    /// Something that cannot be opened, for the list.
    Not(Attempt),
}

/// The variables that decide.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) explicit: Option<OsString>,
    pub(crate) virtual_env: Option<PathBuf>,
    pub(crate) conda_prefix: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) path: Option<OsString>,
    pub(crate) library_path: Option<OsString>,
}

impl Environment {
    /// Reads the variables; an empty one is as one that is not set.
    pub(crate) fn read() -> Self {
        let get = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let path = |name: &str| get(name).map(PathBuf::from);
        Self {
            explicit: get(VARIABLE),
            virtual_env: path("VIRTUAL_ENV"),
            conda_prefix: path("CONDA_PREFIX"),
            home: path("HOME"),
            path: get("PATH"),
            library_path: get("LD_LIBRARY_PATH"),
        }
    }

    /// Where to look if nothing is asked for.
    pub(crate) fn places(&self) -> Vec<Candidate> {
        let mut places = vec![
            Candidate::Loaded(SONAME),
            Candidate::Name(SONAME.into()),
            Candidate::Name("libnccl.so".into()),
        ];
        let mut prefixes = Vec::new();
        for (name, prefix) in
            [("VIRTUAL_ENV", &self.virtual_env), ("CONDA_PREFIX", &self.conda_prefix)]
        {
            match prefix {
                Some(prefix) => prefixes.push(prefix.clone()),
                None => places.push(Candidate::Not(Attempt::new(
                    format!("${name}"),
                    Problem::Absent("not set".to_owned()),
                ))),
            }
        }
        prefixes.extend(self.python_prefixes());
        prefixes.extend(self.home.as_ref().map(|home| home.join(".local")));
        let mut seen = Vec::new();
        for prefix in prefixes {
            if !seen.contains(&prefix) {
                places.extend(in_prefix(&prefix));
                seen.push(prefix);
            }
        }
        places
    }

    /// The folders of which the first `python3` of PATH is a part, as named and as linked.
    fn python_prefixes(&self) -> Vec<PathBuf> {
        let Some(path) = &self.path else { return Vec::new() };
        let found = env::split_paths(path)
            .filter(|folder| folder.is_absolute())
            .flat_map(|folder| ["python3", "python"].map(|name| folder.join(name)))
            .find(|python| python.is_file());
        let Some(python) = found else { return Vec::new() };
        if let Some(version) = pyenv(&python) {
            return vec![version];
        }
        let real = fs::canonicalize(&python).ok();
        let prefix = |program: &Path| program.parent()?.parent().map(Path::to_owned);
        [prefix(&python), real.as_deref().and_then(prefix)].into_iter().flatten().collect()
    }

    /// The file that the linker is going to take for `name`, if it is one that would end the
    /// process; with why.
    pub(crate) fn trap(&self, name: &Path) -> Option<(PathBuf, String)> {
        let listed = self.library_path.iter().flat_map(env::split_paths);
        let files = listed
            .map(|folder| folder.join(name))
            .chain(cached(&fs::read("/etc/ld.so.cache").unwrap_or_default(), name))
            .chain(STANDARD.iter().map(|folder| Path::new(folder).join(name)))
            .filter(|file| file.is_file());
        for file in files {
            match elf::check(&file) {
                Ok(()) => return None,
                Err(why) if why.contains("truncated") => return Some((file, why)),
                // The linker passes over these, or says what is wrong with them.
                Err(_) => {}
            }
        }
        None
    }
}

/// The folder of pyenv's Python if the program is pyenv's script, which stands in for it.
fn pyenv(python: &Path) -> Option<PathBuf> {
    let shims = python.parent().filter(|folder| folder.file_name() == Some("shims".as_ref()))?;
    let root = shims.parent()?;
    let chosen = fs::read_to_string(root.join("version")).ok()?;
    let name = chosen.split_whitespace().next().filter(|name| !name.contains('/'))?;
    Some(root.join("versions").join(name)).filter(|folder| folder.is_dir())
}

/// Where linkers look when nothing else is said.
const STANDARD: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
];

/// The paths in the linker's cache that end in `/name`: its strings end with a zero byte.
fn cached(cache: &[u8], name: &Path) -> Vec<PathBuf> {
    cache
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok())
        .filter(|text| text.starts_with('/'))
        .map(PathBuf::from)
        .filter(|path| path.file_name() == Some(name.as_os_str()))
        .collect()
}

/// The libraries of a Python environment or of conda: those that exist, or one line that says
/// that none does.
fn in_prefix(prefix: &Path) -> Vec<Candidate> {
    let mut files = Vec::new();
    for lib in ["lib", "lib64"] {
        let lib = prefix.join(lib);
        for python in pythons(&lib) {
            for packages in ["site-packages", "dist-packages"] {
                files.push(python.join(packages).join("nvidia/nccl/lib").join(SONAME));
            }
        }
        files.push(lib.join(SONAME));
    }
    // `lib64` is often a link to `lib`.
    let mut real = Vec::new();
    files.retain(|file| {
        fs::canonicalize(file).is_ok_and(|path| {
            let new = !real.contains(&path);
            real.push(path);
            new
        })
    });
    if files.is_empty() {
        let pattern = prefix.join("lib*/python3*/*-packages/nvidia/nccl/lib").join(SONAME);
        let other = prefix.join("lib*").join(SONAME);
        let place = format!("{}, {}", pattern.display(), other.display());
        return vec![Candidate::Not(Attempt::new(place, Problem::Absent("no such file".into())))];
    }
    files.into_iter().map(Candidate::File).collect()
}

/// The folders `python3*` in `lib`, the newest version first.
fn pythons(lib: &Path) -> Vec<PathBuf> {
    let minor = |name: &str| -> Option<u32> {
        let rest = name.strip_prefix("python3")?;
        rest.strip_prefix('.').map_or(Some(0), |minor| minor.parse().ok())
    };
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(lib)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((minor(entry.file_name().to_str()?)?, entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// What is asked for by path or by name.
///
/// A relative path would mean another file in another folder, and a file that everybody may write
/// is everybody's code.
pub(crate) fn explicit(asked: &OsString) -> Candidate {
    let path = PathBuf::from(asked);
    let is_name = path.file_name() == Some(asked.as_os_str());
    if is_name {
        return Candidate::Name(asked.clone());
    }
    if !path.is_absolute() {
        let why = "is a relative path; write the whole path, from /".to_owned();
        return Candidate::Not(Attempt::new(path.display().to_string(), Problem::Refused(why)));
    }
    Candidate::File(path)
}

/// Says why a file must not be opened.
pub(crate) fn check_file(path: &Path) -> Result<(), Problem> {
    let meta = fs::metadata(path).map_err(|why| Problem::Absent(why.to_string()))?;
    if is_world_writable(&meta) {
        let why = "everybody may write this file, so it could be anybody's code (chmod o-w)";
        return Err(Problem::Refused(why.to_owned()));
    }
    elf::check(path).map_err(Problem::Refused)
}

#[cfg(unix)]
fn is_world_writable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    meta.is_file() && meta.mode() & 0o002 != 0
}

#[cfg(not(unix))]
fn is_world_writable(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(places: &[Candidate]) -> Vec<&Path> {
        fn file(place: &Candidate) -> Option<&Path> {
            match place {
                Candidate::File(path) => Some(path.as_path()),
                _ => None,
            }
        }
        places.iter().filter_map(file).collect()
    }

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn the_process_and_the_linker_come_before_the_folders() {
        let temp = tempfile::tempdir().unwrap();
        let packages = |python: &str| {
            let tail = "site-packages/nvidia/nccl/lib/libnccl.so.2";
            temp.path().join("venv/lib").join(python).join(tail)
        };
        let conda = temp.path().join("conda/lib/libnccl.so.2");
        for file in [&packages("python3.9"), &packages("python3.13"), &conda] {
            touch(file);
        }
        std::os::unix::fs::symlink("lib", temp.path().join("venv/lib64")).unwrap();
        let environment = Environment {
            virtual_env: Some(temp.path().join("venv")),
            conda_prefix: Some(temp.path().join("conda")),
            ..Environment::default()
        };
        let places = environment.places();
        assert_eq!(
            places[..3],
            [
                Candidate::Loaded("libnccl.so.2"),
                Candidate::Name("libnccl.so.2".into()),
                Candidate::Name("libnccl.so".into()),
            ]
        );
        assert_eq!(files(&places), [&packages("python3.13"), &packages("python3.9"), &conda]);
    }

    #[test]
    fn the_python_of_path_leads_to_its_packages() {
        let temp = tempfile::tempdir().unwrap();
        let library = temp.path().join("lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2");
        touch(&library);
        touch(&temp.path().join("bin/python3"));
        let path = format!("relative:/no/such:{}/bin", temp.path().display());
        let environment = Environment { path: Some(path.into()), ..Environment::default() };
        assert_eq!(files(&environment.places()), [&library]);
    }

    #[test]
    fn pyenvs_script_leads_to_the_python_that_it_stands_for() {
        let temp = tempfile::tempdir().unwrap();
        let tail = "versions/3.11.7/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2";
        let library = temp.path().join(tail);
        touch(&library);
        touch(&temp.path().join("shims/python"));
        let path = temp.path().join("shims").into_os_string();
        let environment = Environment { path: Some(path), ..Environment::default() };
        assert_eq!(files(&environment.places()), [] as [&Path; 0]);
        fs::write(temp.path().join("version"), "3.11.7\n3.9.1\n").unwrap();
        assert_eq!(files(&environment.places()), [&library]);
    }

    #[test]
    fn a_place_without_a_library_is_named() {
        let environment =
            Environment { conda_prefix: Some("/no/conda".into()), ..Environment::default() };
        let said = format!("{:?}", environment.places());
        assert!(said.contains("$VIRTUAL_ENV"), "{said}");
        assert!(said.contains("/no/conda/lib*/python3*"), "{said}");
    }

    #[test]
    fn a_truncated_library_in_the_linkers_way_is_seen() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join(SONAME);
        let mut image = fs::read(env::current_exe().unwrap()).unwrap();
        image.truncate(10_000);
        fs::write(&file, &image).unwrap();
        let environment = Environment {
            library_path: Some(format!("/no/such:{}", temp.path().display()).into()),
            ..Environment::default()
        };
        let (found, why) = environment.trap(Path::new(SONAME)).unwrap();
        assert_eq!(found, file);
        assert!(why.contains("truncated"), "{why}");
        assert_eq!(environment.trap(Path::new("libother.so")), None);
    }

    #[test]
    fn the_linkers_cache_is_searched_for_whole_names() {
        let cache = b"glibc-ld.so.cache1.1\0/a/libnccl.so.2\0/b/xlibnccl.so.2\0libnccl.so.2\0";
        assert_eq!(cached(cache, Path::new(SONAME)), [PathBuf::from("/a/libnccl.so.2")]);
    }

    #[test]
    fn what_is_asked_for_is_a_name_or_a_whole_path() {
        let name = OsString::from("libnccl.so.2.27");
        assert_eq!(explicit(&name), Candidate::Name(name.clone()));
        assert_eq!(explicit(&"/a/b".into()), Candidate::File("/a/b".into()));
        assert!(matches!(explicit(&"./b".into()), Candidate::Not(_)));
        assert!(matches!(explicit(&"a/b".into()), Candidate::Not(_)));
        assert!(matches!(explicit(&"..".into()), Candidate::Not(_)));
    }
}
