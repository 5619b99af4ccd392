//! The documentation of the variables, written from their table.

use core::fmt::Write;

use crate::config::var::OnBad;
use crate::config::var::Row;
use crate::config::vars;

/// Returns the text of `docs/environment.md`.
#[must_use]
pub fn environment_markdown() -> String {
    let mut text = String::from(
        "# Environment variables\n\n\
         <!-- Written by `cargo xtask env-docs` from nccl/src/config/vars.rs; do not edit. -->\n\n\
         The library reads them once, when a process group is made. What launchers set (`RANK`,\n\
         `OMPI_COMM_WORLD_RANK`, `SLURM_PROCID`, ...) is in [launchers.md](launchers.md).\n\n\
         A variable may also stand in `$NCCL_CONF_FILE` (else `~/.nccl.conf`) or in\n\
         `/etc/nccl.conf`, one `NAME=value` a line, without spaces around `=`; `#` in the first\n\
         column makes a comment. The environment wins over the user's file, that one over the\n\
         system's. The process's own environment is not changed by it.\n",
    );
    let ours = |row: &Row| row.name.starts_with("NCCL_RS_");
    section(
        &mut text,
        "Of this library",
        "A value that cannot be is an error that names the variable, the value and the rule; it is\n\
         never replaced by the default.",
        vars::table().filter(ours),
    );
    section(
        &mut text,
        "Of NCCL, with NCCL's meaning, for both backends",
        "A value that NCCL ignores is ignored with a warning, and so is an empty one. Only a wrong\n\
         `NCCL_COMM_ID` is an error.",
        vars::table().filter(|row| !ours(row)),
    );
    text
}

fn section(text: &mut String, title: &str, rule: &str, rows: impl Iterator<Item = Row>) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\n## {title}\n\n{rule}\n\n");
    text.push_str("| name | values | unit | default | meaning |\n|---|---|---|---|---|\n");
    for row in rows {
        debug_assert!(row.on_bad == OnBad::Refuse || !row.name.starts_with("NCCL_RS_"));
        let unit = if row.unit.is_empty() { "-" } else { row.unit };
        let _ = writeln!(
            text,
            "| `{}` | {} | {unit} | {} | {} |",
            row.name,
            cell(row.values),
            cell(row.default),
            cell(row.help)
        );
    }
}

/// A text that may stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_file_in_docs_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/environment.md");
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            file == environment_markdown(),
            "docs/environment.md is not what the table says; run `cargo xtask env-docs`"
        );
    }

    #[test]
    fn every_variable_is_documented() {
        let text = environment_markdown();
        for row in vars::table() {
            assert!(text.contains(&format!("| `{}` |", row.name)), "{}", row.name);
        }
    }
}
