//! The documents agree with the sources and with each other.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents, by their paths from the root.
fn documents() -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for folder in ["", "docs", "examples"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(Path::new(folder).join(name).to_string_lossy().into_owned());
            }
        }
    }
    for known in ["README.md", "docs/launchers.md", "examples/README.md"] {
        assert!(found.iter().any(|path| path == known), "{known} is missing: {found:?}");
    }
    found
}

/// The targets of `[text](target)` that are files here.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target).filter(|target| !target.contains("://")).collect()
}

/// As sites make them of titles: `## Where the ranks meet` is `where-the-ranks-meet`.
fn anchors(text: &str) -> Vec<String> {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let anchor = |line: &str| line.trim_start_matches('#').trim().to_lowercase();
    titles
        .map(|line| anchor(line).chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let folder = root().join(&document).parent().unwrap().to_owned();
        for link in links(&text(&document)) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { root().join(&document) } else { folder.join(file) };
            assert!(path.exists(), "{document}: {link}");
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&path).unwrap());
                assert!(anchors.iter().any(|one| one == anchor), "{document}: {link}: {anchors:?}");
            }
        }
    }
}

#[test]
fn the_readme_names_the_oldest_rust_of_the_manifest() {
    let manifest = text("Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("rust-version")).unwrap();
    let version = line.split('"').nth(1).unwrap();
    assert!(text("README.md").contains(&format!("Rust {version} or newer")), "{version}");
}

#[test]
fn the_readme_lists_every_element_type_and_no_other() {
    let all = nccl_types();
    let readme = text("README.md");
    let table = readme.split("| element type |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let first = |row: &str| row.split('|').nth(1).unwrap().to_owned();
    let mut listed: Vec<String> = rows
        .flat_map(|row| {
            first(row).split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    listed.sort();
    assert_eq!(listed, all);
}

/// The types for which the library implements `Element`.
fn nccl_types() -> Vec<String> {
    let source = text("nccl/src/dtype.rs");
    let list = source.split("elements! {\n").nth(1).unwrap().split('}').next().unwrap();
    let mut types: Vec<String> = list
        .split(',')
        .filter_map(|pair| pair.split_once("=>"))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    types.sort();
    assert_eq!(types.len(), 12);
    types
}
