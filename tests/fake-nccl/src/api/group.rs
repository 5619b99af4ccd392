//! Groups.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use crate::fail::ARGUMENT;
use crate::fail::fail;
use crate::ffi::Out;
use crate::ffi::api;
use crate::group;

/// `ncclSimInfo_t.magic`
const SIM_MAGIC: u32 = 0x7468_5283;

api! {
    fn ncclGroupStart() {
        group::start();
        Ok(())
    }

    fn ncclGroupEnd() { group::end() }

    fn ncclGroupSimulateEnd(info: Out<u32>) {
        // size 8 bytes, magic, version, estimated time.
        if !info.is_null() {
            if info.at(2).get() != Some(SIM_MAGIC) {
                return fail(
                    ARGUMENT,
                    "ncclSimInfo_t argument not initialized via NCCL_SIM_INFO_INITIALIZER",
                );
            }
            info.at(4).cast::<f32>().set("GroupSimulateEnd", 10.0)?;
        }
        group::discard()
    }
}
