//! The cases, by name.

mod children;
mod failures;
mod groups;
mod lifecycle;
mod memory;
mod process;
mod versions;

/// Every case: what a child runs.
pub(crate) const ALL: &[(&str, fn())] = &[
    ("split", children::split),
    ("split_blocking", children::split_blocking),
    ("split_in_progress", children::split_in_progress),
    ("split_alone", children::split_alone),
    ("shrink", children::shrink),
    ("shrink_misuse", children::shrink_misuse),
    ("shrink_abort", children::shrink_abort),
    ("grow", children::grow),
    ("suspend", children::suspend),
    ("revoke", children::revoke),
    ("facts", children::facts),
    ("all_devices", children::all_devices),
    ("all_devices_fail", children::all_devices_fail),
    ("registered", memory::registered),
    ("registered_outlives", memory::registered_outlives),
    ("allocated", memory::allocated),
    ("alloc_hangs", memory::alloc_hangs),
    ("window", memory::window),
    ("window_unsupported", memory::window_unsupported),
    ("window_misuse", memory::window_misuse),
    ("window_stuck", memory::window_stuck),
    ("grouped", groups::grouped),
    ("grouped_misuse", groups::grouped_misuse),
    ("grouped_failing", groups::grouped_failing),
    ("wrong_lengths", groups::wrong_lengths),
    ("grouped_torn", groups::grouped_torn),
    ("simulated", groups::simulated),
    ("call_config", groups::call_config),
    ("per_thread", groups::per_thread),
    ("per_thread_group", groups::per_thread_group),
    ("captured", groups::captured),
    ("captured_per_thread", groups::captured_per_thread),
    ("shared_device", groups::shared_device),
    ("init_stuck", lifecycle::init_stuck),
    ("never_comes", lifecycle::never_comes),
    ("ends", lifecycle::ends),
    ("unwinding", lifecycle::unwinding),
    ("abort_hangs", lifecycle::abort_hangs),
    ("destroy_hangs", lifecycle::destroy_hangs),
    ("abort_while_waiting", lifecycle::abort_while_waiting),
    ("abort_while_enqueued", lifecycle::abort_while_enqueued),
    ("from_raw", lifecycle::from_raw),
    ("unknown_code", failures::unknown_code),
    ("unknown_code_init", failures::unknown_code_init),
    ("async_error", failures::async_error),
    ("in_progress_everywhere", failures::in_progress_everywhere),
    ("leaked_level", failures::leaked_level),
    ("no_interface", failures::no_interface),
    ("busy_comm", failures::busy_comm),
    ("params", process::params),
    ("encryption", process::encryption),
    ("versions", versions::all),
];
