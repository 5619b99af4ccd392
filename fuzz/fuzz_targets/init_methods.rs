//! See `nccl::fuzzing::init_methods`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| nccl::fuzzing::init_methods(input));
