//! The types of `nccl-sys` and the nccl.h of each version, as a C compiler sees it.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::mem::align_of;
use std::mem::offset_of;
use std::mem::size_of;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use nccl_sys as sys;
use nccl_sys::COLL_CONFIG_MEMBERS;
use nccl_sys::CONFIG_MEMBERS;
use nccl_sys::FUNCTIONS;
use nccl_sys::Member;
use nccl_sys::Version;
use tests::wheels;

/// What C prints, by name.
type Facts = BTreeMap<String, i64>;

fn version(text: &str) -> Version {
    let parts: Vec<u16> = text.split('.').map(|part| part.parse().unwrap()).collect();
    let [major, minor, patch] = parts[..] else { panic!("{text} is no version") };
    Version::new(major, minor, patch)
}

fn stubs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../nccl-sys/cuda-stub")
}

/// Compiles C that includes nccl.h of a wheel, and gives what the program prints, or the
/// compiler's words.
fn compiled(folder: &Path, source: &str) -> Result<String, String> {
    let scratch = tempfile::tempdir().unwrap();
    let (code, program) = (scratch.path().join("code.c"), scratch.path().join("program"));
    fs::write(&code, source).unwrap();
    let output = Command::new("cc")
        .args(["-std=gnu11", "-w", "-DNCCL_OS_LINUX=1", "-I"])
        .arg(folder.join("include"))
        .arg("-I")
        .arg(stubs())
        .arg("-o")
        .args([&program, &code])
        .output()
        .map_err(|error| format!("no C compiler `cc`: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success());
    Ok(String::from_utf8(output.stdout).unwrap())
}

/// Asks C for the values of expressions.
fn facts(folder: &Path, head: &str, expressions: &[String]) -> Facts {
    let mut source = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include <stdint.h>\n#include <nccl.h>\n",
    );
    source.push_str(head);
    source.push_str("int main(void) {\n");
    for one in expressions {
        writeln!(source, "printf(\"%lld\\n\", (long long)({one}));").unwrap();
    }
    source.push_str("return 0; }\n");
    let printed = compiled(folder, &source).unwrap_or_else(|why| panic!("{why}"));
    let values = printed.lines().map(|line| line.parse::<i64>().unwrap());
    let facts: Facts = expressions.iter().cloned().zip(values).collect();
    assert_eq!(printed.lines().count(), expressions.len());
    facts
}

/// Runs a test per version, where there is a C compiler.
fn for_each(test: impl Fn(&str, Version, &Path)) {
    if let Err(why) = Command::new("cc").arg("--version").output() {
        return wheels::skipped("wheels", &format!("no C compiler `cc`: {why}"));
    }
    wheels::for_each(|name, folder| test(name, version(name), folder));
}

#[track_caller]
fn same(name: &str, folder: &Path, head: &str, expected: &[(String, i64)]) {
    let expressions: Vec<String> = expected.iter().map(|(one, _)| one.clone()).collect();
    let found = facts(folder, head, &expressions);
    let expected: Facts = expected.iter().cloned().collect();
    assert_eq!(found, expected, "NCCL {name}: left C, right Rust");
}

fn as_i64(value: usize) -> i64 {
    i64::try_from(value).unwrap()
}

/// `a.b` as the struct and the member.
fn parts(member: &Member) -> (&str, &str) {
    member.name.split_once('.').unwrap()
}

#[test]
fn configs_have_size_offsets_and_unset_values_of_each_header() {
    for_each(|name, found, folder| {
        let config = sys::ncclConfig_t::new(found);
        assert_eq!(config.unsupported(Version::new(0, 0, 0)), None, "something is set");
        let head = "static const ncclConfig_t config = NCCL_CONFIG_INITIALIZER;\n";
        let mut expected = vec![
            ("sizeof(ncclConfig_t)".to_owned(), as_i64(config.size)),
            ("config.size".to_owned(), as_i64(config.size)),
            ("config.magic".to_owned(), i64::from(config.magic)),
            ("config.version".to_owned(), i64::from(config.version)),
        ];
        members(CONFIG_MEMBERS, "config", found, &mut expected);
        same(name, folder, head, &expected);
    });
}

#[test]
fn configs_of_collectives_are_as_in_each_header_that_has_them() {
    for_each(|name, found, folder| {
        if found < Version::new(2, 31, 2) {
            assert_eq!(sys::ncclCollConfig_t::bytes(found), 0);
            return;
        }
        let config = sys::ncclCollConfig_t::new(found);
        assert_eq!(config.unsupported(Version::new(0, 0, 0)), None, "something is set");
        let head = "static const ncclCollConfig_t coll = NCCL_COLLCONFIG_INITIALIZER;\n";
        let mut expected = vec![
            ("sizeof(ncclCollConfig_t)".to_owned(), as_i64(config.size)),
            ("coll.size".to_owned(), as_i64(config.size)),
            ("coll.magic".to_owned(), i64::from(config.magic)),
            ("coll.version".to_owned(), i64::from(config.version)),
        ];
        members(COLL_CONFIG_MEMBERS, "coll", found, &mut expected);
        same(name, folder, head, &expected);
    });
}

/// Place, length and unset value of each member that the version has.
fn members(all: &[Member], variable: &str, found: Version, expected: &mut Vec<(String, i64)>) {
    for member in all.iter().filter(|member| member.since <= found) {
        let (of, field) = parts(member);
        let unset = match (field, member.bytes) {
            ("forceAlgSelection", _) => 1,
            (_, 4) => i64::from(sys::NCCL_CONFIG_UNDEF_INT),
            _ => 0,
        };
        expected.push((format!("offsetof({of}, {field})"), as_i64(member.offset)));
        expected.push((format!("sizeof({variable}.{field})"), as_i64(member.bytes)));
        expected.push((format!("{variable}.{field}"), unset));
    }
}

#[test]
fn no_header_has_a_member_before_its_first_version() {
    for_each(|name, found, folder| {
        let text = fs::read_to_string(folder.join("include/nccl.h")).unwrap();
        let words: BTreeSet<&str> =
            text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        // `ext` and the like are words of comments too.
        for member in CONFIG_MEMBERS.iter().filter(|member| member.since > found) {
            let (_, field) = parts(member);
            assert!(!words.contains(field), "NCCL {name} has {}", member.name);
        }
        // 2.30.4 declares parameters, but in a form that changed.
        let early = |name: &str| name.starts_with("ncclParam") && found == Version::new(2, 30, 4);
        let later = FUNCTIONS.iter().filter(|function| function.since > found);
        for function in later.filter(|function| !early(function.name)) {
            assert!(!words.contains(function.name), "NCCL {name} has {}", function.name);
        }
    });
}

/// The size of a type, and its alignment.
macro_rules! type_facts {
    ($($type:ident),+) => {
        vec![$(
            (format!("sizeof({})", stringify!($type)), as_i64(size_of::<sys::$type>())),
            (format!("_Alignof({})", stringify!($type)), as_i64(align_of::<sys::$type>())),
        )+]
    };
}

/// The places of members.
macro_rules! member_facts {
    ($type:ident: $($field:ident),+) => {
        vec![$((
            format!("offsetof({}, {})", stringify!($type), stringify!($field)),
            as_i64(offset_of!(sys::$type, $field)),
        ),)+]
    };
}

/// The values of codes.
macro_rules! code_facts {
    ($type:ident: $($code:ident),+) => {
        vec![$((stringify!($code).to_owned(), i64::from(sys::$type::$code.0)),)+]
    };
}

#[test]
fn structs_are_as_in_each_header_that_has_them() {
    for_each(|name, found, folder| {
        let mut expected = type_facts!(
            ncclUniqueId,
            ncclComm_t,
            ncclResult_t,
            ncclDataType_t,
            ncclRedOp_t,
            ncclScalarResidence_t,
            cudaStream_t
        );
        let mut since = |minor, patch, facts: Vec<(String, i64)>| {
            if found >= Version::new(2, minor, patch) {
                expected.extend(facts);
            }
        };
        since(18, 0, member_facts!(ncclUniqueId: internal));
        since(22, 3, type_facts!(ncclSimInfo_t));
        since(22, 3, member_facts!(ncclSimInfo_t: size, magic, version, estimatedTime));
        since(27, 3, type_facts!(ncclWindow_t));
        since(29, 2, type_facts!(ncclWaitSignalDesc_t));
        since(29, 2, member_facts!(ncclWaitSignalDesc_t: opCnt, peer, sigIdx, ctx));
        since(29, 7, type_facts!(ncclCommMemStat_t));
        since(30, 7, type_facts!(ncclParamHandle_t));
        since(31, 2, type_facts!(ncclConfigExt_t, ncclHostCftMode_t));
        since(31, 2, member_facts!(ncclConfigExt_t: next, key, val));
        since(32, 3, type_facts!(ncclConfig_t, ncclCollConfig_t, ncclNvlsHostMode_t));
        since(32, 3, type_facts!(ncclEncryptionConfig_t));
        since(32, 3, member_facts!(ncclEncryptionConfig_t: size, magic, version, mode, psk));
        same(name, folder, "", &expected);
    });
}

/// The structs that are written by hand. The headers before 2.30.7 are no C.
#[test]
fn the_properties_of_a_communicator_are_as_in_each_header_that_is_c() {
    for_each(|name, found, folder| {
        if found < Version::new(2, 30, 7) {
            return;
        }
        let has_host = folder.join("include/nccl_device/host.h").is_file();
        let header = if has_host { "host.h" } else { "core.h" };
        let head = format!(
            "#include <nccl_device/core.h>\n#include <nccl_device/{header}>\n\
             static const ncclCommProperties_t props = NCCL_COMM_PROPERTIES_INITIALIZER;\n"
        );
        let props = sys::ncclCommProperties_t::new(found).unwrap();
        let mut expected = vec![
            ("sizeof(ncclCommProperties_t)".to_owned(), as_i64(props.size)),
            ("props.magic".to_owned(), i64::from(props.magic)),
            ("props.version".to_owned(), i64::from(props.version)),
        ];
        expected.extend(type_facts!(ncclTeam_t, ncclGinType_t));
        expected.extend(member_facts!(ncclTeam_t: nRanks, rank, stride));
        expected.extend(member_facts!(ncclCommProperties_t: size, magic, version, rank, nRanks));
        expected.extend(member_facts!(ncclCommProperties_t: cudaDev, nvmlDev, deviceApiSupport));
        expected.extend(member_facts!(ncclCommProperties_t: multimemSupport, ginType, nLsaTeams));
        expected.extend(member_facts!(ncclCommProperties_t: hostRmaSupport, railedGinType));
        if found >= Version::new(2, 31, 2) {
            expected.extend(member_facts!(ncclCommProperties_t: commHash, ginMinStride));
            expected.extend(member_facts!(ncclCommProperties_t: ginConnectionType, ginSupport));
            expected.extend(member_facts!(ncclCommProperties_t: devCommRuntimeVersionSize));
        }
        if found >= Version::new(2, 32, 3) {
            expected.extend(member_facts!(ncclCommProperties_t: cftSupport, cftMulticastSupport));
            expected.extend(member_facts!(ncclCommProperties_t: cftCountedSupport));
        }
        same(name, folder, &head, &expected);
    });
}

#[test]
fn codes_are_as_in_each_header_that_has_them() {
    for_each(|name, found, folder| {
        let result = |code: &str, value: sys::NcclResult| (code.to_owned(), i64::from(value.0));
        let mut expected: Vec<(String, i64)> = (0..=7)
            .map(sys::NcclResult)
            .map(|value| result(value.name().unwrap(), value))
            .collect();
        let mut since = |minor, patch, facts: Vec<(String, i64)>| {
            if found >= Version::new(2, minor, patch) {
                expected.extend(facts);
            }
        };
        since(18, 0, code_facts!(ncclRedOp_t: ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg));
        since(18, 0, code_facts!(ncclRedOp_t: ncclNumOps, ncclMaxRedOp));
        since(18, 0, code_facts!(ncclDataType_t: ncclInt8, ncclChar, ncclUint8, ncclInt32));
        since(18, 0, code_facts!(ncclDataType_t: ncclInt, ncclUint32, ncclInt64, ncclUint64));
        since(18, 0, code_facts!(ncclDataType_t: ncclFloat16, ncclHalf, ncclFloat32, ncclFloat));
        since(18, 0, code_facts!(ncclDataType_t: ncclFloat64, ncclDouble, ncclBfloat16));
        since(18, 0, code_facts!(ncclScalarResidence_t: ncclScalarDevice, ncclScalarHostImmediate));
        since(24, 3, code_facts!(ncclDataType_t: ncclFloat8e4m3, ncclFloat8e5m2));
        since(29, 7, code_facts!(ncclCommMemStat_t: ncclStatGpuMemSuspend, ncclStatGpuMemTotal));
        since(30, 4, vec![result("ncclTimeout", sys::NcclResult::TIMEOUT)]);
        same(name, folder, "", &expected);
    });
}

/// The declarations of functions, as text, without those of the profiler's names.
fn declarations(header: &str) -> BTreeMap<String, String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once("/*") {
        code.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, after)| after);
    }
    code.push_str(rest);
    let is_code = |line: &&str| !line.trim_start().starts_with(['#', '_']);
    let lines = code.lines().filter(is_code).map(|line| line.split("//").next().unwrap());
    let code: Vec<&str> = lines.collect();
    let code = code.join("\n");
    let declared = code.split([';', '}', '{']).filter_map(|one| {
        let (before, _) = one.split_once('(')?;
        let name = before.split_whitespace().next_back()?.trim_start_matches('*');
        let plain = name.strip_prefix("nccl")?.starts_with(char::is_uppercase);
        plain.then(|| (name.to_owned(), one.trim().to_owned()))
    });
    declared.collect()
}

#[test]
fn the_table_has_every_function_of_each_header() {
    for_each(|name, _, folder| {
        let text = fs::read_to_string(folder.join("include/nccl.h")).unwrap();
        let declared: BTreeSet<String> = declarations(&text).into_keys().collect();
        assert!(declared.len() > 20, "{declared:?}");
        let known = FUNCTIONS.iter().map(|function| function.name.to_owned());
        let known: BTreeSet<String> = known.collect();
        let unknown: Vec<_> = declared.difference(&known).collect();
        assert!(unknown.is_empty(), "NCCL {name} has more than the table: {unknown:?}");
    });
}

/// What the table of functions rests on: one type per name serves all versions.
#[test]
fn no_function_has_changed_its_signature() {
    let newest = match wheels::header(wheels::NEWEST) {
        Ok(path) => fs::read_to_string(path).unwrap(),
        Err(why) => return wheels::skipped("wheels", &why),
    };
    let newest = declarations(&newest);
    for_each(|name, found, folder| {
        let text = fs::read_to_string(folder.join("include/nccl.h")).unwrap();
        let mut source = String::from("#include <nccl.h>\n");
        let mut compared = 0;
        let settled = FUNCTIONS.iter().filter(|function| function.since <= found);
        let settled: BTreeSet<&str> = settled.map(|function| function.name).collect();
        for function in declarations(&text).keys().filter(|name| settled.contains(name.as_str())) {
            // C complains if the second declaration differs from the first.
            let other = newest.get(function).unwrap_or_else(|| panic!("{function} is gone"));
            writeln!(source, "{other};").unwrap();
            compared += 1;
        }
        source.push_str("int main(void) { return 0; }\n");
        assert!(compared > 20);
        compiled(folder, &source).unwrap_or_else(|why| panic!("NCCL {name}: {why}"));
        // And this would be seen.
        source.push_str("int ncclGroupStart(float different);\n");
        assert!(compiled(folder, &source).is_err());
    });
}
