//! See `nccl::fuzzing::debug_files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| nccl::fuzzing::debug_files(input));
