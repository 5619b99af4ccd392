//! Whether the kernel's out-of-memory killer was at work in this process's memory cgroup.

use std::fs;
use std::path::PathBuf;

/// The number of kills at one moment, to compare with later.
#[derive(Clone, Debug)]
pub(crate) struct OomWatch {
    file: Option<PathBuf>,
    kills: u64,
}

impl OomWatch {
    /// Remembers how many kills there were so far.
    pub(crate) fn start() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let file = candidates(&groups).into_iter().find(|file| kills_in(file).is_some());
        let kills = file.as_ref().and_then(kills_in).unwrap_or(0);
        Self { file, kills }
    }

    /// How many kills there were since; none where nothing can be read.
    pub(crate) fn kills_since(&self) -> u64 {
        self.file.as_ref().and_then(kills_in).unwrap_or(0).saturating_sub(self.kills)
    }
}

/// Where version 2 and version 1 keep the count, from the text of `/proc/self/cgroup`.
fn candidates(groups: &str) -> Vec<PathBuf> {
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            if controllers.is_empty() {
                Some(PathBuf::from(format!("/sys/fs/cgroup{path}/memory.events")))
            } else if controllers.split(',').any(|name| name == "memory") {
                Some(PathBuf::from(format!("/sys/fs/cgroup/memory{path}/memory.oom_control")))
            } else {
                None
            }
        })
        .collect()
}

fn kills_in(file: &PathBuf) -> Option<u64> {
    parse_kills(&fs::read_to_string(file).ok()?)
}

fn parse_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_cgroups_are_found() {
        let v1 = "5:cpu,cpuacct:/a\n4:memory:/job/7\n0::/\n";
        assert_eq!(
            candidates(v1),
            [
                PathBuf::from("/sys/fs/cgroup/memory/job/7/memory.oom_control"),
                PathBuf::from("/sys/fs/cgroup//memory.events"),
            ]
        );
        assert!(candidates("nonsense").is_empty());
    }

    #[test]
    fn the_kills_are_read_and_not_the_other_counts() {
        assert_eq!(parse_kills("oom 4\noom_kill 3\noom_group_kill 1\n"), Some(3));
        assert_eq!(parse_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(parse_kills("low 0\n"), None);
    }
}
