//! See `nccl::fuzzing::control_messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nccl::fuzzing::control_messages(input));
