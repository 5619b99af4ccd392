//! `ncclConfig_t`, read as the version that this library plays would read it.

use crate::fail::ARGUMENT;
use crate::fail::Outcome;
use crate::fail::fail;
use crate::ffi::Out;
use crate::version;
use crate::watch;

const MAGIC: u32 = 0xcafe_beef;
/// `NCCL_CONFIG_UNDEF_INT`
const UNDEF: i32 = i32::MIN;

/// The size of the structure from each version on.
const SIZES: [(i32, u64); 9] = [
    (21400, 24),
    (21700, 40),
    (21800, 48),
    (22700, 72),
    (22800, 80),
    (22900, 88),
    (23000, 96),
    (23100, 112),
    (23200, 120),
];

/// Whole numbers: name, offset, first version that has them.
const INTS: [(&str, u64, i32); 22] = [
    ("blocking", 16, 21400),
    ("cgaClusterSize", 20, 21400),
    ("minCTAs", 24, 21700),
    ("maxCTAs", 28, 21700),
    ("splitShare", 40, 21800),
    ("trafficClass", 44, 22600),
    ("collnetEnable", 56, 22700),
    ("CTAPolicy", 60, 22700),
    ("shrinkShare", 64, 22700),
    ("nvlsCTAs", 68, 22700),
    ("nChannelsPerNetPeer", 72, 22800),
    ("nvlinkCentricSched", 76, 22800),
    ("graphUsageMode", 80, 22900),
    ("numRmaCtx", 84, 22900),
    ("maxP2pPeers", 88, 23000),
    ("graphStreamOrdering", 92, 23000),
    ("launchOrderImplicit", 96, 23100),
    ("numRmaSig", 100, 23100),
    ("rmaEagerInit", 104, 23100),
    ("hostCftMode", 108, 23100),
    ("nvlsHostMode", 112, 23200),
    ("(padding)", 116, i32::MAX),
];

/// What matters here of a communicator's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) blocking: bool,
}

/// The structure's size in a version.
fn size_in(version: i32) -> u64 {
    SIZES.iter().rev().find(|(since, _)| *since <= version).map_or(24, |(_, size)| *size)
}

/// Reads the caller's configuration; none means the default.
pub(crate) fn read(config: Out<u8>) -> Outcome<Config> {
    let blocking_by_environment = match std::env::var("NCCL_COMM_BLOCKING").as_deref() {
        Ok("0") => Some(false),
        Ok("1") => Some(true),
        _ => None,
    };
    if config.is_null() {
        return Ok(Config { blocking: blocking_by_environment.unwrap_or(true) });
    }
    let (size, magic, written_for) =
        (config.cast::<u64>().get().unwrap_or(0), int(config, 8).cast_unsigned(), int(config, 12));
    if magic != MAGIC {
        return fail(ARGUMENT, "ncclConfig_t argument not initialized via NCCL_CONFIG_INITIALIZER");
    }
    check_shape(config, size, written_for);
    let known = size.min(size_in(version::code()));
    let field = |name: &str| {
        let row = INTS.iter().find(|row| row.0 == name);
        row.filter(|row| row.1 + 4 <= known && row.2 <= written_for)
            .map_or(UNDEF, |row| int(config, row.1))
    };
    check_ranges(&field)?;
    let blocking = field("blocking");
    let blocking = blocking_by_environment.unwrap_or(blocking != 0);
    Ok(Config { blocking })
}

/// Complains about a size that does not go with the version, or about settings that the loaded
/// library does not know and ignores without a word.
fn check_shape(config: Out<u8>, size: u64, written_for: i32) {
    if size != size_in(written_for) || !(21400..=23299).contains(&written_for) {
        watch::violation(&format!(
            "ncclConfig_t of {size} bytes for version {written_for}, whose structure has {}",
            size_in(written_for)
        ));
    }
    let known = size_in(version::code());
    let ignored = INTS.iter().filter(|row| {
        row.2 != i32::MAX
            && row.1 + 4 <= size
            && row.2 <= written_for
            && (row.1 >= known || row.2 / 100 > version::code() / 100)
            && int(config, row.1) != UNDEF
    });
    for (name, ..) in ignored {
        watch::violation(&format!(
            "ncclConfig_t.{name} is set, and version {} ignores it silently",
            version::code()
        ));
    }
}

fn check_ranges(field: &dyn Fn(&str) -> i32) -> Outcome {
    let bad = |name: &str| {
        fail(ARGUMENT, format!("Invalid config {name} attribute value {}", field(name)))
    };
    for name in ["blocking", "splitShare", "shrinkShare"] {
        if ![UNDEF, 0, 1].contains(&field(name)) {
            return bad(name);
        }
    }
    if field("cgaClusterSize") != UNDEF && !(0..=8).contains(&field("cgaClusterSize")) {
        return bad("cgaClusterSize");
    }
    for name in ["minCTAs", "maxCTAs"] {
        if field(name) != UNDEF && field(name) <= 0 {
            return bad(name);
        }
    }
    // With maxCTAs undefined, which is the least number, this refuses any minCTAs, as NCCL does.
    if field("minCTAs") > field("maxCTAs") && field("minCTAs") != UNDEF {
        return bad("minCTAs");
    }
    if field("CTAPolicy") != UNDEF && !(0..=3).contains(&field("CTAPolicy")) {
        return bad("CTAPolicy");
    }
    Ok(())
}

fn int(config: Out<u8>, offset: u64) -> i32 {
    let index = usize::try_from(offset / 4).unwrap_or(0);
    config.cast::<i32>().at(index).get().unwrap_or(UNDEF)
}
