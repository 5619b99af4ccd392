//! See `nccl::fuzzing::peer_records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nccl::fuzzing::peer_records(input));
