//! See `nccl::fuzzing::frame_heads`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nccl::fuzzing::frame_heads(input));
