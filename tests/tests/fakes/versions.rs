//! Copies of the fake libnccl that look like older versions.

use tests::fakes;
use tests::fakes::NAMES;
use tests::fakes::VERSIONS;

use crate::api::Api;

#[test]
fn a_copy_has_exactly_the_functions_of_its_version_and_reports_it() {
    for version in VERSIONS {
        let api = Api::open(&fakes::cuda(), &fakes::nccl_as(version));
        let parts: Vec<i32> = version.split('.').map(|part| part.parse().unwrap()).collect();
        let code = parts[0] * 10000 + parts[1] * 100 + parts[2];
        let mut reported = 0;
        assert_eq!(api.ncclGetVersion(&mut reported), 0);
        assert_eq!(reported, code);
        for (name, since) in NAMES {
            let since: Vec<i32> = since.split('.').map(|part| part.parse().unwrap()).collect();
            assert_eq!(api.has(name), since <= parts, "{name} in {version}");
        }
        let timeout = api.error_string(8);
        assert_eq!(timeout == "timeout", code >= 23003, "{version}: {timeout}");
    }
}

#[test]
fn a_library_can_lack_single_functions() {
    let nccl = fakes::nccl_without(&["ncclCommAbort"]);
    let cuda = fakes::cuda_without(&["cuLaunchHostFunc"]);
    let api = Api::open(&fakes::cuda(), &nccl);
    assert!(!api.has("ncclCommAbort") && api.has("ncclCommDestroy"));
    assert_ne!(cuda, fakes::cuda());
}

#[test]
fn the_folder_has_the_names_that_programs_look_for() {
    let folder = fakes::Folder::with(&fakes::cuda(), &fakes::nccl_as("2.21.5"));
    let (cuda, nccl) = (folder.path().join("libcuda.so.1"), folder.path().join("libnccl.so.2"));
    let mut version = 0;
    assert_eq!(Api::open(&cuda, &nccl).ncclGetVersion(&mut version), 0);
    assert_eq!(version, 22105);
    assert_eq!(folder.env().len(), 3);
}
