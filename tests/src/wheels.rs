//! Headers and libraries of real NCCLs, from the wheels on PyPI.
//!
//! pip downloads a version once into `target/wheels/VERSION`, some 500 MB unpacked.
//! `NCCL_RS_WHEELS` is a list of the versions that tests use, or `all`, or `none`; by default the
//! oldest and the newest. Where that does not work, the tests say why and pass, unless
//! `NCCL_RS_REQUIRE` has the word `wheels`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// The versions that are tested if all are; each is the wheel `nvidia-nccl-cu12==VERSION`.
pub const VERSIONS: [&str; 6] = ["2.18.3", "2.21.5", "2.23.4", "2.27.7", "2.30.7", "2.32.3"];

/// The newest of [`VERSIONS`].
pub const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

const PACKAGE: &str = "nvidia-nccl-cu12";
const LIMIT: Duration = Duration::from_secs(400);

/// Takes the header and the library out of a wheel.
const UNPACK: &str = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in wheel.namelist():
        part = name.removeprefix('nvidia/nccl/')
        if part != name and part.startswith(('include/', 'lib/libnccl.so')):
            wheel.extract(name, sys.argv[2])
";

/// The versions that tests are to use here.
#[must_use]
pub fn chosen() -> Vec<String> {
    let asked = env::var("NCCL_RS_WHEELS").unwrap_or_default();
    match asked.trim() {
        "" => vec![VERSIONS[0].to_owned(), NEWEST.to_owned()],
        "all" => VERSIONS.map(str::to_owned).to_vec(),
        "none" => Vec::new(),
        list => list.split([',', ' ']).filter(|one| !one.is_empty()).map(str::to_owned).collect(),
    }
}

/// The folder with `nccl.h` of a version.
///
/// # Errors
/// Why there is none here, in words.
pub fn include(version: &str) -> Result<PathBuf, String> {
    unpacked(version).map(|folder| folder.join("include"))
}

/// `nccl.h` of a version.
///
/// # Errors
/// Why there is none here, in words.
pub fn header(version: &str) -> Result<PathBuf, String> {
    include(version).map(|folder| folder.join("nccl.h"))
}

/// `libnccl.so.2` of a version.
///
/// # Errors
/// Why there is none here, in words.
pub fn library(version: &str) -> Result<PathBuf, String> {
    unpacked(version).map(|folder| folder.join("lib/libnccl.so.2"))
}

/// Runs a test for each version that is to be used, or says why not.
///
/// # Panics
/// Where `NCCL_RS_REQUIRE` has `wheels` and a wheel is missing; and where the test does.
pub fn for_each(test: impl Fn(&str, &Path)) {
    let versions = chosen();
    assert!(!versions.is_empty() || !required("wheels"), "NCCL_RS_WHEELS has no version");
    for version in versions {
        match unpacked(&version) {
            Ok(folder) => test(&version, &folder),
            Err(why) => skipped("wheels", &why),
        }
    }
}

/// Whether a skip of this kind is a failure here.
#[must_use]
pub fn required(what: &str) -> bool {
    let words = env::var("NCCL_RS_REQUIRE").unwrap_or_default();
    words.split([',', ' ']).any(|word| word == what)
}

/// Says why a test is skipped.
///
/// # Panics
/// Where `NCCL_RS_REQUIRE` has the word.
pub fn skipped(what: &str, why: &str) {
    assert!(!required(what), "NCCL_RS_REQUIRE has {what}, but {why}");
    eprintln!("skipped: {why}");
}

/// The folder of a version, filled. What failed once in this process is not tried again.
fn unpacked(version: &str) -> Result<PathBuf, String> {
    static KNOWN: Mutex<BTreeMap<String, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("NCCL_RS_WHEELS: {version:?} is no version such as {NEWEST}"));
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .entry(version.to_owned())
        .or_insert_with(|| {
            fill(version).map_err(|why| format!("no wheel {PACKAGE}=={version} here: {why}"))
        })
        .clone()
}

fn fill(version: &str) -> Result<PathBuf, String> {
    let words = |error: std::io::Error| error.to_string();
    let cache = cache()?;
    let folder = cache.join(version);
    fs::create_dir_all(&cache).map_err(words)?;
    // One process downloads, others wait; the kernel drops the lock of one that is killed.
    let lock = File::create(cache.join(format!("{version}.lock"))).map_err(words)?;
    lock.lock().map_err(words)?;
    if folder.join("include/nccl.h").is_file() && folder.join("lib/libnccl.so.2").is_file() {
        return Ok(folder);
    }
    let scratch = tempfile::tempdir_in(&cache).map_err(words)?;
    let wheel = download(version, scratch.path())?;
    let unpacked = scratch.path().join("unpacked");
    finished(
        Command::new("python3").args(["-c", UNPACK]).arg(&wheel).arg(&unpacked),
        &scratch.path().join("unpack.log"),
    )?;
    let _ = fs::remove_dir_all(&folder);
    fs::rename(unpacked.join("nvidia/nccl"), &folder).map_err(words)?;
    Ok(folder)
}

/// `target/wheels`, found from where this program lies: `target/debug/deps/NAME`.
fn cache() -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let target = own.ancestors().nth(3).ok_or("this program lies in no target folder")?;
    Ok(target.join("wheels"))
}

fn download(version: &str, into: &Path) -> Result<PathBuf, String> {
    eprintln!("downloading {PACKAGE}=={version}, some 200 to 350 MB, once");
    finished(
        Command::new("python3")
            .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:"])
            .args(["--disable-pip-version-check", "--timeout", "20", "--retries", "1"])
            .args(["--no-cache-dir", "--progress-bar", "off", "--dest"])
            .arg(into)
            .arg(format!("{PACKAGE}=={version}")),
        &into.join("pip.log"),
    )?;
    let files = fs::read_dir(into).map_err(|error| error.to_string())?;
    files
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "whl"))
        .ok_or_else(|| "pip downloaded no wheel".to_owned())
}

/// Runs a program to its end, within a limit; its last words are the error.
fn finished(command: &mut Command, log: &Path) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let output = File::create(log).map_err(words)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(words)?)
        .stderr(output)
        .spawn()
        .map_err(|error| format!("cannot start python3: {error}"))?;
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(words)? {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it took more than {} s", LIMIT.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    };
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    Err(said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word of why").to_owned())
}
