//! The process's log: what is wanted, and where it goes.

use core::fmt;
use std::process;

use super::WARN;
use super::level::Level;
use super::line;
use super::line::Line;
use super::line::Place;
use super::sink::Sink;
use super::subsys::Subsys;

/// The process's log.
pub(super) struct Logger {
    level: Level,
    subsys: Subsys,
    host: String,
    sink: Sink,
    problems: Vec<String>,
}

impl Logger {
    /// The log that the three variables describe. A bad value is noted and does what it does in
    /// NCCL: an unknown level is silence, unknown subsystems are the default, and a file that
    /// cannot be opened is stdout.
    pub(super) fn new(debug: Option<&str>, subsys: Option<&str>, file: Option<&str>) -> Self {
        let host = line::host(&rustix::system::uname().nodename().to_string_lossy());
        let mut problems = Vec::new();
        let level = debug.and_then(Level::parse).unwrap_or(Level::None);
        let subsys = match subsys.map(Subsys::parse) {
            None => Subsys::DEFAULT,
            Some(Ok(subsys)) => subsys,
            Some(Err(token)) => {
                problems.push(format!(
                    "NCCL_DEBUG_SUBSYS={:?} names no subsystem with {token:?}, so the default \
                     INIT,BOOTSTRAP,ENV is used; names are separated by commas, one ^ may come \
                     first",
                    subsys.unwrap_or_default(),
                ));
                Subsys::DEFAULT
            }
        };
        let mut sink = Sink::stdout();
        if let Some(pattern) = file.filter(|file| !file.is_empty() && level > Level::Version) {
            let path = expand(pattern, &host, process::id());
            match Sink::file(&path) {
                Ok(file) => sink = file,
                Err(error) => problems.push(format!(
                    "NCCL_DEBUG_FILE={pattern:?}: cannot write {path:?}: {error}; log lines stay \
                     on stdout"
                )),
            }
        }
        Self { level, subsys, host, sink, problems }
    }

    /// What is wrong with the variables' values.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The bits of subsystems and of warnings that are written.
    pub(super) fn wanted(&self) -> u32 {
        let info = if self.level >= Level::Info { self.subsys.bits() } else { 0 };
        let warn = if self.level >= Level::Warn { WARN } else { 0 };
        info | warn
    }

    /// Writes an INFO line.
    pub(super) fn info(&self, dev: i32, text: fmt::Arguments<'_>) {
        self.sink.write(&Line::info(&self.place(), dev, text));
    }

    /// Writes a WARN line.
    pub(super) fn warn(&self, file: &str, at: u32, dev: i32, text: fmt::Arguments<'_>) {
        self.sink.write(&Line::warn(&self.place(), dev, (file, at), text));
    }

    /// Writes the version as NCCL does.
    pub(super) fn version(&self, rank: usize, dev: i32, text: fmt::Arguments<'_>) {
        if self.level >= Level::Info {
            self.info(dev, text);
        } else if self.level >= Level::Version && rank == 0 {
            self.sink.write(&Line::bare(text));
        }
    }

    /// Who writes now; asked every time, since a fork changes it.
    fn place(&self) -> Place<'_> {
        #[cfg(target_os = "linux")]
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        #[cfg(not(target_os = "linux"))]
        let tid = 0;
        Place { host: &self.host, pid: process::id(), tid }
    }
}

/// `NCCL_DEBUG_FILE` with `%h` and `%p` replaced; `%%` is a percent sign, others stay.
pub(super) fn expand(pattern: &str, host: &str, pid: u32) -> String {
    let mut path = String::new();
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        match char {
            '%' => match chars.next() {
                Some('h') => path.push_str(host),
                Some('p') => path.push_str(&pid.to_string()),
                Some('%') | None => path.push('%'),
                Some(other) => path.extend(['%', other]),
            },
            other => path.push(other),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What a log with these variables writes of an INFO, a WARN and two VERSION lines.
    fn written(debug: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let logger = Logger::new(Some(debug), Some("ALL"), file.to_str());
        assert!(logger.problems().is_empty());
        if logger.wanted() & Subsys::NET.bits() != 0 {
            logger.info(2, format_args!("hello"));
        }
        if logger.wanted() & WARN != 0 {
            logger.warn("a.rs", 9, 2, format_args!("beware"));
            logger.version(1, 2, format_args!("v"));
        }
        drop(logger);
        fs::read_to_string(file).unwrap_or_default()
    }

    #[test]
    fn every_level_writes_what_nccls_does() {
        let place = format!(
            "{}:{}:{}",
            line::host(&rustix::system::uname().nodename().to_string_lossy()),
            process::id(),
            rustix::thread::gettid().as_raw_nonzero()
        );
        for silent in ["NONE", "bogus", ""] {
            assert_eq!(written(silent), "");
        }
        assert_eq!(written("warn"), format!("\n{place} [2] a.rs:9 NCCL WARN beware\n"));
        let info = format!(
            "{place} [2] NCCL INFO hello\n\n{place} [2] a.rs:9 NCCL WARN beware\n\
             {place} [2] NCCL INFO v\n"
        );
        for level in ["INFO", "abort", "TRACE"] {
            assert_eq!(written(level), info);
        }
    }

    #[test]
    fn the_version_is_bare_and_of_rank_0_below_info() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let logger = Logger::new(Some("WARN"), None, file.to_str());
        logger.version(0, 0, format_args!("NCCL version 1.2.3"));
        logger.version(1, 0, format_args!("NCCL version 1.2.3"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "NCCL version 1.2.3\n");
    }

    #[test]
    fn the_file_is_not_touched_at_the_level_version() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let _logger = Logger::new(Some("VERSION"), None, file.to_str());
        assert!(!file.exists());
    }

    #[test]
    fn masks_come_from_level_and_subsystems() {
        let wanted = |debug, subsys| Logger::new(debug, subsys, None).wanted();
        assert_eq!(wanted(None, Some("ALL")), 0);
        assert_eq!(wanted(Some("VERSION"), Some("ALL")), 0);
        assert_eq!(wanted(Some("WARN"), Some("ALL")), WARN);
        assert_eq!(wanted(Some("INFO"), None), WARN | 0x1081);
        assert_eq!(wanted(Some("INFO"), Some("NET")), WARN | 0x10);
        assert_eq!(wanted(Some("INFO"), Some("NET,bogus")), WARN | 0x1081);
    }

    #[test]
    fn bad_values_are_noted_and_do_not_stop_anything() {
        let logger = Logger::new(Some("INFO"), Some("NETT"), Some("/no/such/folder/%h.log"));
        let [subsys, file] = logger.problems() else { panic!("{:?}", logger.problems()) };
        assert!(subsys.starts_with("NCCL_DEBUG_SUBSYS=\"NETT\""), "{subsys}");
        assert!(file.contains("\"/no/such/folder/%h.log\"") && file.contains("stdout"), "{file}");
    }

    #[test]
    fn file_names_are_expanded_as_nccl_does() {
        assert_eq!(expand("f.%h.%p.%x.%%", "vm", 18856), "f.vm.18856.%x.%");
        assert_eq!(expand("a%", "vm", 1), "a%");
        assert_eq!(expand("%%h%ph", "vm", 1), "%h1h");
    }
}
