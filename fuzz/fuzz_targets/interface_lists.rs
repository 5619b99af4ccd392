//! See `nccl::fuzzing::interface_lists`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| nccl::fuzzing::interface_lists(input));
