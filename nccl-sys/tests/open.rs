//! Opens good, bad and broken libraries. The good and the wrong ones are made by the machine's C
//! compiler; a fake shows how the loader behaves, not how NCCL does.
#![expect(unsafe_code, reason = "opening a library by path")]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use nccl_sys::Library;
use nccl_sys::LoadError;
use nccl_sys::NcclResult;
use nccl_sys::Problem;
use nccl_sys::VARIABLE;
use nccl_sys::Version;
use tempfile::TempDir;

fn open_at(path: &Path) -> Result<Library, LoadError> {
    // SAFETY: only libraries that these tests wrote, and a real NCCL that was asked for.
    unsafe { Library::open_at(path) }
}

/// The only attempt of a failed opening.
#[track_caller]
fn problem(path: &Path) -> Problem {
    let error = open_at(path).unwrap_err();
    assert!(error.is_explicit());
    let [attempt] = error.attempts() else { panic!("{error}") };
    assert!(attempt.place.starts_with(path.to_str().unwrap()), "{error}");
    attempt.problem.clone()
}

/// Compiles C to a library; none, with the reason on stderr, where there is no compiler.
fn compiled(folder: &TempDir, name: &str, source: &str) -> Option<PathBuf> {
    let code = folder.path().join("code.c");
    let library = folder.path().join(name);
    fs::write(&code, source).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libnccl.so.2", "-o"])
        .args([&library, &code])
        .status();
    match status {
        Ok(status) => {
            assert!(status.success(), "cc failed");
            Some(library)
        }
        Err(why) => {
            eprintln!("skipped: no C compiler `cc` to make a library with: {why}");
            None
        }
    }
}

/// A library that says it is this version, with data so that a part can be missing.
fn fake(version: i32, result: i32) -> String {
    format!(
        "int data[100000] = {{1}};
         int ncclGetVersion(int *version) {{ *version = {version}; return {result}; }}
         const char *ncclGetErrorString(int code) {{
             return code == 0 ? \"no error\" : code == 77 ? 0 : \"caf\\xe9\";
         }}"
    )
}

#[test]
fn a_library_is_opened_with_version_path_and_texts() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compiled(&folder, "libnccl.so.2", &fake(23203, 0)) else { return };
    let library = open_at(&path).unwrap();
    assert_eq!(library.version(), Version::new(2, 32, 3));
    assert_eq!(library.version().to_string(), "2.32.3");
    assert_eq!(library.path(), Some(fs::canonicalize(&path).unwrap().as_path()));
    assert_eq!(library.error_string(NcclResult::SUCCESS), "no error");
    assert_eq!(library.error_string(NcclResult(77)), "(no text)");
    assert_eq!(library.error_string(NcclResult(5)), "caf\u{fffd}");
}

#[test]
fn a_function_that_a_library_lacks_is_named_with_the_version_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    // One function as it should be, and one that this version is not to have yet.
    let source = format!(
        "{} int ncclCommSplit(void) {{ return 0; }} int ncclCommShrink(void) {{ return 0; }}",
        fake(22105, 0)
    );
    let Some(path) = compiled(&folder, "libnccl.so.2", &source) else { return };
    let library = open_at(&path).unwrap();
    assert!(library.ncclCommSplit().is_ok());
    let missing = library.ncclCommShrink().unwrap_err();
    assert_eq!(missing.function, "ncclCommShrink");
    assert_eq!(missing.needs, Version::new(2, 27, 3));
    assert_eq!(missing.found, Version::new(2, 21, 5));
    let text = library.ncclAllReduce().unwrap_err().to_string();
    assert!(text.starts_with("ncclAllReduce needs NCCL 2."), "{text}");
    assert!(text.ends_with("is 2.21.5, but was built without it"), "{text}");
    let present: Vec<_> = library.functions().present().collect();
    assert_eq!(present, ["ncclGetVersion", "ncclGetErrorString", "ncclCommSplit"]);
}

#[test]
fn an_old_library_is_named_with_its_version() {
    let folder = tempfile::tempdir().unwrap();
    for (code, version) in [(2804, (2, 8, 4)), (21605, (2, 16, 5))] {
        let name = format!("libnccl.so.2.{code}");
        let Some(path) = compiled(&folder, &name, &fake(code, 0)) else { return };
        let (major, minor, patch) = version;
        let problem = problem(&path);
        assert_eq!(problem, Problem::TooOld(Version::new(major, minor, patch)));
        assert!(problem.to_string().contains("too old: 2.18.0 is needed"), "{problem}");
    }
}

#[test]
fn a_library_that_is_not_nccl_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compiled(&folder, "libother.so", "int foo(void) { return 1; }") else {
        return;
    };
    assert_eq!(problem(&path), Problem::MissingSymbol("ncclGetVersion"));
    let half = "int ncclGetVersion(int *v) { *v = 23203; return 0; }";
    let Some(path) = compiled(&folder, "libhalf.so", half) else { return };
    assert_eq!(problem(&path), Problem::MissingSymbol("ncclGetErrorString"));
}

#[test]
fn a_version_call_that_fails_or_lies_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compiled(&folder, "libfail.so", &fake(23203, 3)) else { return };
    assert_eq!(problem(&path), Problem::VersionCall(NcclResult::INTERNAL_ERROR));
    let Some(path) = compiled(&folder, "libzero.so", &fake(0, 0)) else { return };
    assert_eq!(problem(&path), Problem::NoVersion(0));
}

#[test]
fn a_library_with_a_missing_dependency_keeps_the_linkers_words() {
    let folder = tempfile::tempdir().unwrap();
    let source =
        format!("{} extern int nowhere(void); int f(void) {{ return nowhere(); }}", fake(23203, 0));
    let Some(path) = compiled(&folder, "libneedy.so", &source) else { return };
    let Problem::Linker(words) = problem(&path) else { panic!() };
    assert!(words.contains("undefined symbol: nowhere"), "{words}");
}

#[test]
fn every_truncation_is_an_error_and_no_crash() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compiled(&folder, "libnccl.so.2", &fake(23203, 0)) else { return };
    let whole = fs::read(&path).unwrap();
    let short = folder.path().join("libshort.so");
    // What is behind the last segment (section names) is not needed and may be missing.
    for length in (0..whole.len() * 9 / 10).step_by(997).chain([1, 3, 63, 64, 65]) {
        fs::write(&short, &whole[..length]).unwrap();
        let Problem::Refused(why) = problem(&short) else { panic!("{length} bytes") };
        let expected = ["truncated", "empty file", "no ELF header"];
        assert!(expected.iter().any(|words| why.contains(words)), "{length} bytes: {why}");
    }
}

#[test]
fn what_is_no_library_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libnccl.so.2");
    fs::write(&text, "INPUT(libnccl.so.2)\n").unwrap();
    for (path, expected) in [
        (text.as_path(), "no ELF header"),
        (folder.path(), "is a folder"),
        (Path::new("/no/such/libnccl.so.2"), "No such file"),
        (Path::new("/dev/null"), "no regular file"),
        (Path::new("./libnccl.so.2"), "relative path"),
    ] {
        let said = problem(path).to_string();
        assert!(said.contains(expected), "{}: {said}", path.display());
    }
}

#[test]
fn a_file_that_everybody_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compiled(&folder, "libnccl.so.2", &fake(23203, 0)) else { return };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
    assert!(problem(&path).to_string().contains("everybody may write"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(open_at(&path).is_ok());
}

#[test]
fn a_name_that_the_linker_does_not_know_keeps_its_words() {
    let Problem::Linker(words) = problem(Path::new("libnccl-of-nobody.so.9")) else { panic!() };
    assert!(words.contains("libnccl-of-nobody.so.9"), "{words}");
    assert!(words.contains("cannot open shared object file"), "{words}");
}

// ---- the environment, each in a process of its own ----

/// What a process says that opens libnccl in this environment.
fn opened_in(variables: &[(&str, &OsStr)]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "a_process_that_opens", "--nocapture"]);
    for name in [VARIABLE, "VIRTUAL_ENV", "CONDA_PREFIX", "HOME", "PATH", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{} {said}", output.status);
    said
}

/// Not a test of its own.
#[test]
#[ignore = "the process that other tests start"]
fn a_process_that_opens() {
    match Library::open() {
        Ok(library) => println!("opened {} at {:?}", library.version(), library.path()),
        Err(error) => println!("failed: {error}"),
    }
}

#[test]
fn the_variable_names_the_only_library_that_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compiled(&folder, "libnccl.so.2", &fake(22707, 0)) else { return };
    let said = opened_in(&[(VARIABLE, path.as_os_str())]);
    assert!(said.contains("opened 2.27.7"), "{said}");
    let folder = folder.path().as_os_str();
    let said = opened_in(&[(VARIABLE, "/no/lib.so".as_ref()), ("LD_LIBRARY_PATH", folder)]);
    assert!(said.contains("/no/lib.so (NCCL_RS_NCCL_LIB): No such file"), "{said}");
    assert!(said.contains("nothing else is tried"), "{said}");
    let said = opened_in(&[(VARIABLE, "".as_ref()), ("LD_LIBRARY_PATH", folder)]);
    assert!(said.contains("opened 2.27.7"), "{said}");
}

#[test]
fn without_a_library_every_place_is_listed() {
    let said = opened_in(&[("CONDA_PREFIX", "/no/conda".as_ref())]);
    if said.contains("opened") {
        eprintln!("skipped: this machine has a libnccl where the linker looks: {said}");
        return;
    }
    for expected in [
        "libnccl.so.2 already in this process: there is none",
        "libnccl.so.2: cannot open shared object file",
        "libnccl.so: cannot open shared object file",
        "$VIRTUAL_ENV: not set",
        "/no/conda/lib*",
        "set NCCL_RS_NCCL_LIB to the path",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
}

#[test]
fn an_old_library_of_the_linker_gives_way_to_a_newer_one_of_a_wheel() {
    let old = tempfile::tempdir().unwrap();
    let venv = tempfile::tempdir().unwrap();
    let Some(_) = compiled(&old, "libnccl.so.2", &fake(21605, 0)) else { return };
    let Some(new) = compiled(&venv, "new", &fake(23203, 0)) else { return };
    let lib = venv.path().join("lib/python3.12/site-packages/nvidia/nccl/lib");
    fs::create_dir_all(&lib).unwrap();
    fs::rename(new, lib.join("libnccl.so.2")).unwrap();
    let said = opened_in(&[
        ("LD_LIBRARY_PATH", old.path().as_os_str()),
        ("VIRTUAL_ENV", venv.path().as_os_str()),
    ]);
    assert!(said.contains("opened 2.32.3"), "{said}");
    assert!(said.contains("python3.12"), "{said}");
}

#[test]
fn a_truncated_library_in_the_linkers_way_does_not_end_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = compiled(&folder, "libnccl.so.2", &fake(23203, 0)) else { return };
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..9000]).unwrap();
    let said = opened_in(&[("LD_LIBRARY_PATH", folder.path().as_os_str())]);
    let expected = format!("the linker would take {}: it is truncated: 9000 bytes", path.display());
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_library_that_is_in_the_process_is_taken_before_others() {
    let loaded = tempfile::tempdir().unwrap();
    let Some(path) = compiled(&loaded, "anything.so", &fake(22503, 0)) else { return };
    let said = opened_in(&[("LD_PRELOAD", path.as_os_str())]);
    assert!(said.contains("opened 2.25.3"), "{said}");
    assert!(said.contains("anything.so"), "{said}");
}
