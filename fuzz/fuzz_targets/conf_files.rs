//! See `nccl::fuzzing::conf_files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nccl::fuzzing::conf_files(input));
