//! Every version, by the same program.

use crate::child::Child;

#[test]
fn with_the_fake_each_version_does_what_it_has_and_names_what_it_lacks() {
    for version in ["2.18.3", "2.23.4", "2.28.9", "2.32.3"] {
        Child::new("versions").version(version).with("EXPECTED_VERSION", version).run();
    }
}

#[test]
fn with_the_fake_the_versions_between_do_what_they_have_too() {
    for version in tests::fakes::VERSIONS.iter().filter(|version| **version != "2.16.5") {
        Child::new("versions").version(version).with("EXPECTED_VERSION", version).run();
    }
}
