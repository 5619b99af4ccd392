//! `cargo xtask bindgen`: nccl.h to Rust.
//!
//! bindgen reads the header with stubs in place of CUDA's headers. What it writes is changed in
//! three ways: functions become types of pointers (nothing is linked), items get our docs, and
//! `ncclResult_t` is the type that `nccl-sys` writes by hand.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use crate::bindings_docs;

/// Writes `nccl-sys/src/bindings.rs` from a header.
///
/// # Errors
/// Why not, in words.
pub(crate) fn write(header: &Path) -> Result<(), String> {
    let path = root().join("nccl-sys/src/bindings.rs");
    fs::write(&path, generate(header)?)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Makes the text of `bindings.rs`.
///
/// # Errors
/// Why not, in words.
pub(crate) fn generate(header: &Path) -> Result<String, String> {
    if !header.is_file() {
        return Err(format!("there is no header {}", header.display()));
    }
    let raw = bindgen::Builder::default()
        .header(header.display().to_string())
        .clang_args(["-x", "c", "-DNCCL_OS_LINUX=1"])
        .clang_arg(format!("-I{}", root().join("nccl-sys/cuda-stub").display()))
        .allowlist_item("nccl.*|NCCL_.*")
        .blocklist_item("pnccl.*|ncclResult_t|ncclRedOp_dummy_t|NCCL_SUFFIX|NCCL_API_MAGIC|NCCL_UNDEF_FLOAT|NCCL_OS_.*")
        .default_enum_style(bindgen::EnumVariation::NewType { is_bitfield: false, is_global: false })
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(false)
        .use_core()
        .derive_default(false)
        .derive_eq(true)
        .derive_hash(false)
        .formatter(bindgen::Formatter::Rustfmt)
        .disable_header_comment()
        .parse_callbacks(Box::new(Names))
        .generate()
        .map_err(|error| format!("bindgen: {error}"))?
        .to_string();
    formatted(&rewritten(&raw)?)
}

/// The structs without the version in their names.
#[derive(Debug)]
struct Names;

impl bindgen::callbacks::ParseCallbacks for Names {
    fn item_name(&self, item: bindgen::callbacks::ItemInfo<'_>) -> Option<String> {
        let (name, version) = item.name.split_once("_v")?;
        let versioned = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        (name.starts_with("nccl") && versioned).then(|| format!("{name}_t"))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Turns declared functions into types, and adds docs.
fn rewritten(raw: &str) -> Result<String, String> {
    let mut types = String::from(HEAD);
    let mut functions = String::new();
    let mut lines = raw.lines();
    while let Some(line) = lines.next() {
        if line.trim_end().ends_with("extern \"C\" {") {
            let block: Vec<&str> =
                lines.by_ref().take_while(|line| *line != "}").map(str::trim).collect();
            let block = block.join(" ");
            for function in block.split(';').map(str::trim).filter(|one| !one.is_empty()) {
                functions.push_str(&pointer(function)?);
            }
            continue;
        }
        if let Some(doc) = defined(line).and_then(bindings_docs::of) {
            insert_doc(&mut types, doc);
        }
        types.push_str(line);
        types.push('\n');
    }
    Ok(format!("{types}\n{FUNCTIONS_HEAD}{functions}}}\n"))
}

/// `pub fn f(a: A) -> B` as the type of a pointer to it.
fn pointer(function: &str) -> Result<String, String> {
    let wrong = || format!("bindgen wrote a function in an unknown way: {function}");
    let start = function.find("pub fn ").ok_or_else(wrong)?;
    let (name, rest) = function[start + 7..].split_once('(').ok_or_else(wrong)?;
    Ok(format!("/// Points to `{name}`.\npub type {name} = unsafe extern \"C\" fn({rest};\n"))
}

/// The name of the item that begins on this line.
fn defined(line: &str) -> Option<&str> {
    let rest = ["pub struct ", "pub union ", "pub type ", "pub const "]
        .iter()
        .find_map(|start| line.strip_prefix(start))?;
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    rest.get(..end)
}

/// Puts a doc comment before the attributes that were just written.
fn insert_doc(text: &mut String, doc: &str) {
    let mut at = text.len();
    while let Some(start) = text[..at.saturating_sub(1)].rfind('\n').map(|end| end + 1) {
        if !text[start..at].trim_start().starts_with("#[") {
            break;
        }
        at = start;
    }
    text.insert_str(at, &format!("/// {doc}\n"));
}

fn formatted(text: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot run rustfmt: {error}");
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--config-path"])
        .arg(root().join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Read after everything is written: rustfmt reads all of its input first.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(format!("rustfmt: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

const HEAD: &str = "\
//! The types of nccl.h. Written by `cargo xtask bindgen`; do not edit.

#![allow(non_camel_case_types, reason = \"the names of nccl.h\")]
#![allow(non_snake_case, reason = \"the names of nccl.h\")]
#![allow(non_upper_case_globals, reason = \"the names of nccl.h\")]
#![allow(missing_docs, reason = \"members are named, and meant, as in nccl.h\")]
#![allow(missing_debug_implementations, reason = \"unions have none\")]
#![allow(unused_qualifications, reason = \"bindgen writes whole paths\")]
#![allow(clippy::all, clippy::use_self, reason = \"as bindgen writes it\")]

use crate::result::ncclResult_t;

";

const FUNCTIONS_HEAD: &str = "\
/// The type of each function of nccl.h, under the name of the function.
pub(crate) mod functions {
    use super::*;

";

#[cfg(test)]
mod tests {
    use std::env;
    use std::panic;

    use super::*;

    /// The header of `NCCL_RS_NCCL_HEADER`, or that which the tests with wheels have downloaded.
    fn header() -> Result<PathBuf, String> {
        if let Some(path) = env::var_os("NCCL_RS_NCCL_HEADER") {
            return Ok(path.into());
        }
        let own = env::current_exe().map_err(|error| error.to_string())?;
        let target = own.ancestors().nth(3).ok_or("this program lies in no target folder")?;
        let text = fs::read_to_string(root().join("nccl-sys/src/bindings.rs"))
            .map_err(|error| error.to_string())?;
        let number = |name: &str| {
            let start = format!("pub const NCCL_{name}: i32 = ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.map(|value| value.trim_end_matches(';')).unwrap_or_default()
        };
        let version = ["MAJOR", "MINOR", "PATCH"].map(number).join(".");
        let path = target.join("wheels").join(&version).join("include/nccl.h");
        let hint = "run `cargo test -p tests --test nccl_header`, or set NCCL_RS_NCCL_HEADER";
        path.is_file()
            .then_some(path.clone())
            .ok_or_else(|| format!("there is no {}: {hint}", path.display()))
    }

    /// The bindings made anew, or why that is not possible here.
    fn made() -> Result<String, String> {
        let header = header()?;
        // bindgen has no other way to say that there is no libclang.
        panic::catch_unwind(|| generate(&header))
            .map_err(|_| "bindgen finds no libclang: install it, or set LIBCLANG_PATH".to_owned())?
    }

    #[test]
    fn the_bindings_are_those_of_the_header() {
        match made() {
            Ok(text) => {
                let path = root().join("nccl-sys/src/bindings.rs");
                let checked_in = fs::read_to_string(path).expect("the bindings");
                let lines = text.lines().zip(checked_in.lines()).enumerate();
                for (at, (made, checked_in)) in lines {
                    assert_eq!(made, checked_in, "line {}: run `cargo xtask bindgen`", at + 1);
                }
                assert_eq!(text.len(), checked_in.len(), "run `cargo xtask bindgen`");
            }
            Err(why) => {
                let words = env::var("NCCL_RS_REQUIRE").unwrap_or_default();
                let required = words.split([',', ' ']).any(|word| word == "bindgen");
                assert!(!required, "NCCL_RS_REQUIRE has bindgen, but {why}");
                eprintln!("skipped: {why}");
            }
        }
    }

    #[test]
    fn a_declared_function_becomes_a_pointer() {
        let made = rewritten(
            "unsafe extern \"C\" {\n    pub fn ncclF(\n        a: u8,\n    ) -> u16;\n}\n",
        );
        let expected = "pub type ncclF = unsafe extern \"C\" fn( a: u8, ) -> u16;";
        assert!(made.as_ref().is_ok_and(|text| text.contains(expected)), "{made:?}");
        assert!(pointer("pub static X: u8").is_err());
    }

    #[test]
    fn docs_stand_before_attributes() {
        let mut text = String::from("pub struct A;\n#[repr(C)]\n#[derive(Debug)]\n");
        insert_doc(&mut text, "B.");
        assert_eq!(text, "pub struct A;\n/// B.\n#[repr(C)]\n#[derive(Debug)]\n");
    }

    #[test]
    fn a_header_that_is_not_there_is_an_error() {
        assert!(generate(Path::new("/no/nccl.h")).is_err());
    }
}
