//! See `nccl::fuzzing::launch_environments`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| nccl::fuzzing::launch_environments(input));
