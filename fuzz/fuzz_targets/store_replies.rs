//! See `nccl::fuzzing::store_replies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nccl::fuzzing::store_replies(input));
