//! See `nccl::fuzzing::hostlists`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| nccl::fuzzing::hostlists(input));
