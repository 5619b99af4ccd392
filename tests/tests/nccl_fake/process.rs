//! What holds for all communicators of the process.

use crate::child::Child;

#[test]
fn with_the_fake_parameters_are_read_by_name_and_all() {
    Child::new("params").with("NCCL_BUFFSIZE", "4194304").run();
}

#[test]
fn with_the_fake_encryption_wants_a_long_key() {
    Child::new("encryption").run();
}
