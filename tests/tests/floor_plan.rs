//! The floor plan, read off the sources: who may use whom, where `unsafe` may stand, and what no
//! file may contain.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// The floors of `nccl/src`. A module uses modules of lower floors only.
const FLOORS: [&[&str]; 8] = [
    &["rank", "dtype", "op", "desc"],
    &["error"],
    &["clock", "config", "count", "buffer", "debug"],
    &["wire", "schedule", "kernel", "trace", "net", "cuda"],
    &["store", "transport", "control", "device"],
    &["backend"],
    &["group"],
    &["fuzzing"],
];

/// Neighbours on one floor that may use each other nevertheless: the first the second.
const NEIGHBOURS: [(&str, &str, &str); 3] = [
    ("desc", "dtype", "a description names the type of the elements"),
    ("desc", "op", "a description names the reduction"),
    ("control", "store", "ranks find each other's control ports in the store"),
];

/// Files with `unsafe` outside of tests, for as long as ARCHITECTURE.md does not list them in its
/// section "Unsafe".
const UNSAFE: [&str; 7] = [
    "nccl/src/buffer.rs",
    "nccl/src/config/launch/pmi.rs",
    "nccl/src/kernel/f16c.rs",
    "nccl/src/kernel/isa.rs",
    "nccl/src/net/interfaces.rs",
    "nccl/src/transport/mod.rs",
    "nccl/src/transport/tcp/mod.rs",
];

const LINES_MAX: usize = 800;

/// One source file: its path from the repository's root, and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below `folder` that are text, without build results and git's own.
fn texts(folder: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || ["target", ".git"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            texts(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}

/// The sources of both libraries.
fn libraries() -> Vec<Source> {
    let mut found = library();
    texts(&root().join("nccl-sys/src"), &mut found);
    found.retain(|source| source.path.ends_with(".rs"));
    found
}

/// The library's sources.
fn library() -> Vec<Source> {
    let mut found = Vec::new();
    texts(&root().join("nccl/src"), &mut found);
    found.retain(|source| source.path.ends_with(".rs"));
    assert!(found.len() > 10, "where are the sources? {}", root().display());
    found
}

impl Source {
    /// `transport` for `nccl/src/transport/tcp/mod.rs`.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("nccl/src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn is_test(&self) -> bool {
        let inside = ["nccl/src/", "tests/"].iter().find_map(|top| self.path.strip_prefix(top));
        let inside = inside.unwrap_or(&self.path);
        inside.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The lines that are compiled into the library: no comments, no texts, no tests (which stand
    /// last), each with its number.
    fn code(&self) -> Vec<(usize, String)> {
        if self.is_test() {
            return Vec::new();
        }
        let ends = |line: &str| line.starts_with("mod tests {");
        self.text
            .lines()
            .take_while(|line| !ends(line))
            .map(without_comment_and_texts)
            .enumerate()
            .map(|(at, line)| (at + 1, line))
            .collect()
    }
}

/// A line without what follows `//` and without what stands between quotes.
fn without_comment_and_texts(line: &str) -> String {
    let mut code = String::new();
    let mut inside = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if inside => {
                chars.next();
            }
            '"' => inside = !inside,
            '/' if !inside && chars.peek() == Some(&'/') => break,
            _ if !inside => code.push(char),
            _ => {}
        }
    }
    code
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The modules named by `crate::module` in a line.
fn uses(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// Whether a line has an unsafe block, function, implementation or trait. Function types and
/// attributes alone are no duty of anybody's.
fn has_unsafe(line: &str) -> bool {
    line.match_indices("unsafe").any(|(at, word)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].trim_start();
        let is_type =
            after.strip_prefix("extern").is_some_and(|rest| rest.trim_start().starts_with("fn("));
        !is_type
            && !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && (after.is_empty()
                || ["{", "fn ", "impl ", "impl<", "trait ", "extern "]
                    .iter()
                    .any(|start| after.starts_with(start)))
    })
}

/// The files of the library named in the section "Unsafe" of ARCHITECTURE.md.
fn listed_unsafe() -> Option<BTreeSet<String>> {
    let is_file = |name: &String| {
        (name.starts_with("nccl/src/") || name.starts_with("nccl-sys/src/"))
            && name.ends_with(".rs")
    };
    Some(named_unsafe()?.into_iter().filter(is_file).collect())
}

/// What stands in backquotes in that section.
fn named_unsafe() -> Option<BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).ok()?;
    let is_title = |line: &str| line.starts_with('#');
    let section = text
        .lines()
        .skip_while(|line| !(is_title(line) && line.trim_start_matches('#').trim() == "Unsafe"))
        .skip(1)
        .take_while(|line| !is_title(line));
    let names = section.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned));
    Some(names.collect())
}

/// The packages below `tests`, as `tests/NAME/`, with their sources.
fn packages_of_tests() -> Vec<(String, Vec<Source>)> {
    let mut found = Vec::new();
    texts(&root().join("tests"), &mut found);
    let manifest = |source: &Source| {
        let package = source.path.strip_suffix("Cargo.toml")?;
        (package != "tests/").then(|| package.to_owned())
    };
    let packages: Vec<String> = found.iter().filter_map(manifest).collect();
    let sources = |package: &String| {
        let mut own = Vec::new();
        texts(&root().join(package), &mut own);
        own.retain(|source| source.path.ends_with(".rs"));
        own
    };
    packages.into_iter().map(|package| (package.clone(), sources(&package))).collect()
}

#[test]
fn modules_use_lower_floors_only() {
    let mut wrong = Vec::new();
    for source in library() {
        let module = source.module().to_owned();
        if module == "lib" {
            continue;
        }
        let Some(own) = floor(&module) else {
            wrong.push(format!("{}: the module stands on no floor", source.path));
            continue;
        };
        for (at, line) in source.code() {
            for used in uses(&line).filter(|used| *used != module) {
                let Some(other) = floor(used) else { continue };
                let pair = |(from, to, _): &(&str, &str, &str)| *from == module && *to == used;
                if other >= own && !NEIGHBOURS.iter().any(pair) {
                    wrong.push(format!(
                        "{}:{at}: {module} (floor {own}) uses {used} (floor {other})",
                        source.path
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_floors_name_every_module_of_the_library_once() {
    let text = fs::read_to_string(root().join("nccl/src/lib.rs")).unwrap();
    let modules: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| {
            line.trim_start_matches("pub ").strip_prefix("mod ").and_then(|m| m.strip_suffix(';'))
        })
        .collect();
    let floors: Vec<&str> = FLOORS.concat();
    assert_eq!(floors.iter().copied().collect::<BTreeSet<_>>(), modules);
    assert_eq!(floors.len(), modules.len());
}

#[test]
fn unsafe_stands_only_in_the_listed_files() {
    let found: BTreeSet<String> = libraries()
        .iter()
        .filter(|source| source.code().iter().any(|(_, line)| has_unsafe(line)))
        .map(|source| source.path.clone())
        .collect();
    match listed_unsafe() {
        Some(listed) => {
            assert_eq!(found, listed, "left: the code, right: ARCHITECTURE.md, section Unsafe");
        }
        None => {
            let allowed: BTreeSet<String> = UNSAFE.iter().map(ToString::to_string).collect();
            let more: Vec<_> = found.difference(&allowed).collect();
            assert!(more.is_empty(), "unsafe in {more:?}; say why in ARCHITECTURE.md");
        }
    }
}

/// They are lists of C functions, so they are listed as a whole; but each of their files says why.
#[test]
fn unsafe_in_packages_of_tests_is_listed_by_package() {
    let packages = packages_of_tests();
    let is_unsafe = |source: &&Source| source.code().iter().any(|(_, line)| has_unsafe(line));
    let found: BTreeSet<String> = packages
        .iter()
        .filter(|(_, sources)| sources.iter().any(|source| is_unsafe(&source)))
        .map(|(package, _)| package.clone())
        .collect();
    assert!(found.len() >= 2, "where are the fakes? {found:?}");
    let listed = named_unsafe().unwrap_or_default();
    let listed: BTreeSet<String> = listed
        .into_iter()
        .filter(|name| name.starts_with("tests/") && name.ends_with('/'))
        .collect();
    assert_eq!(found, listed, "left: the code, right: ARCHITECTURE.md, section Unsafe");
    for source in packages.iter().flat_map(|(_, sources)| sources).filter(is_unsafe) {
        assert!(source.text.contains("#![expect(unsafe_code, reason = "), "{}", source.path);
    }
}

#[test]
fn no_source_file_is_too_long_to_read() {
    let packages = packages_of_tests();
    let of_tests = packages.iter().flat_map(|(_, sources)| sources);
    let long: Vec<String> = library()
        .iter()
        .chain(of_tests)
        .filter(|source| source.text.lines().count() > LINES_MAX)
        .map(|source| source.path.clone())
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:?}");
}

#[test]
fn only_config_reads_the_environment() {
    let mut wrong = Vec::new();
    for source in library().iter().filter(|source| source.module() != "config") {
        for (at, line) in source.code() {
            if line.contains("std::env") || line.contains(" env::") || line.contains("(env::") {
                wrong.push(format!("{}:{at}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "environment read outside of config: {wrong:?}");
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    // In pieces, so that this file passes.
    let places = [
        concat!("/wo", "rk/"),
        concat!("sparse", "+http"),
        concat!("source", ".crates-io"),
        concat!("replace", "-with"),
        concat!("index", ".crates.io"),
    ];
    let registry = concat!("registry", "+https://github.com/rust-lang/crates.io-index");
    let mut found = Vec::new();
    texts(&root(), &mut found);
    assert!(found.iter().any(|source| source.path == "Cargo.toml"));
    let mut wrong = Vec::new();
    for source in &found {
        for (at, line) in source.text.lines().enumerate() {
            let place = places.iter().any(|place| line.contains(place));
            let other = line.contains(concat!("registry", "+")) && !line.contains(registry);
            if place || (other && source.path == "Cargo.lock") {
                wrong.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_sources_sees_what_it_must() {
    assert_eq!(without_comment_and_texts("a(\"crate::x \\\" //\"); // crate::y"), "a(); ");
    assert_eq!(uses("use crate::net::A; crate::wire").collect::<Vec<_>>(), ["net", "wire"]);
    for line in ["let x = unsafe { f() };", "unsafe impl Send for X {}", "pub unsafe fn f()"] {
        assert!(has_unsafe(line), "{line}");
    }
    for line in [
        "#![expect(unsafe_code)]",
        "type F = unsafe extern  fn(a: u8);",
        "type F = unsafe_fn;",
        "fn not_unsafe {}",
    ] {
        assert!(!has_unsafe(line), "{line}");
    }
}
