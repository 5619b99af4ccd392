//! The table of NCCL's functions in docs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn table() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nccl-functions.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `nccl"));
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_table_has_every_function_of_nccl_once_with_the_version_that_it_needs() {
    let listed: Vec<String> =
        table().iter().map(|row| row[1].trim_matches('`').to_owned()).collect();
    let names: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(names.len(), listed.len(), "one stands there twice");
    let mut known: BTreeSet<String> =
        nccl_sys::FUNCTIONS.iter().map(|function| function.name.to_owned()).collect();
    known.extend(nccl_sys::LEFT_OUT.iter().map(|(name, _)| (*name).to_owned()));
    assert_eq!(names, known, "left: docs/nccl-functions.md, right: nccl-sys");
    for row in table() {
        let name = row[1].trim_matches('`');
        let function = nccl_sys::FUNCTIONS.iter().find(|function| function.name == name);
        let expected =
            function.map_or_else(|| "-".to_owned(), |function| function.since.to_string());
        assert_eq!(row[3], expected, "{name}");
    }
}
