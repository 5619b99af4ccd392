//! See `nccl::fuzzing::store_files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nccl::fuzzing::store_files(input));
