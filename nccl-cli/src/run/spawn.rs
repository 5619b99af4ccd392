//! Starts one rank in a process group of its own that does not outlive the launcher.
#![expect(unsafe_code, reason = "pre_exec runs our code between fork and exec")]

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;

/// Starts `command` with piped output, no input, and its own process group.
///
/// To be called from the thread that lives as long as the launcher: the kernel sends the
/// parent-death signal when the *thread* that forked ends.
///
/// # Errors
/// What `exec` or `fork` said.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    die_with_parent(command);
    command.spawn()
}

/// Has the kernel send SIGKILL to the child when the launcher is gone.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let launcher: Pid = rustix::process::getpid();
    let set = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // If the launcher died before the call above, nobody will ever send that signal.
        if rustix::process::getppid() != Some(launcher) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child of a process with several threads, where only
    // async-signal-safe work is allowed. It makes two system calls (prctl, getppid) through
    // rustix, which calls the kernel directly; it takes no lock and allocates nothing: both error
    // values hold a number. It owns one integer and touches no descriptor or other memory of the
    // parent. All of it is in view above.
    unsafe {
        command.pre_exec(set);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// Why a program could not be started, for people, and the exit code that shells use for it.
pub(crate) fn explain(program: &OsStr, why: &io::Error) -> (String, u8) {
    let shown = program.to_string_lossy();
    let is_path = shown.contains('/');
    match why.kind() {
        io::ErrorKind::NotFound if is_path && std::fs::metadata(program).is_ok() => (
            format!(
                "cannot start {shown}: the file is there, but the interpreter or loader it names is not"
            ),
            127,
        ),
        io::ErrorKind::NotFound if is_path => (format!("cannot start {shown}: no such file"), 127),
        io::ErrorKind::NotFound => (
            format!(
                "cannot start {shown}: not found in PATH (write ./{shown} for a file in this folder)"
            ),
            127,
        ),
        io::ErrorKind::PermissionDenied => {
            let what = if std::fs::metadata(program).is_ok_and(|meta| meta.is_dir()) {
                "it is a folder"
            } else {
                "not executable (chmod +x), or its folder forbids it"
            };
            (format!("cannot start {shown}: {what}: {why}"), 126)
        }
        _ if why.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => (
            format!(
                "cannot start {shown}: not a program for this machine, nor a script with a #! line"
            ),
            126,
        ),
        _ => {
            (format!("cannot start {shown}: {why}; check `ulimit -n`, `ulimit -u` and memory"), 126)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_words_and_code() {
        let temp = tempfile::tempdir().unwrap();
        let script = temp.path().join("script");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        let not_found = io::Error::from(io::ErrorKind::NotFound);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let said = |program: &OsStr, why| explain(program, why);
        assert!(said("prog".as_ref(), &not_found).0.contains("not found in PATH"));
        assert!(said("./prog".as_ref(), &not_found).0.contains("no such file"));
        assert!(said(script.as_os_str(), &not_found).0.contains("interpreter"));
        assert!(said(temp.path().as_os_str(), &denied).0.contains("folder"));
        assert_eq!(said("prog".as_ref(), &not_found).1, 127);
        assert_eq!(said(script.as_os_str(), &denied).1, 126);
    }
}
