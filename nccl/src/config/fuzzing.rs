//! Entries for `fuzz/`.

use crate::config::hostlist;

/// Host lists as Slurm and LSF write them, and lists of tasks per node.
pub fn hostlists(text: &str) {
    if let Ok(hosts) = hostlist::expand(text) {
        // A list without brackets is its parts.
        let parts = text.split(',').filter(|part| !part.is_empty()).count();
        assert!(text.contains('[') || hosts.len() <= parts.max(1), "{hosts:?}");
    }
    for at in [0, 1, 77, usize::MAX] {
        let _ = hostlist::tasks_on_node(text, at);
    }
}
