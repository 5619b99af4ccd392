//! See `nccl::fuzzing::mesh_hellos`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nccl::fuzzing::mesh_hellos(input));
