//! Opens the real libnccl, where there is one. In a process of its own: elsewhere a fake that
//! another test opened would be taken as already loaded.

use std::env;

use nccl_sys::Library;
use nccl_sys::NcclResult;
use nccl_sys::Version;

#[test]
fn the_real_library_says_its_version() {
    let list = env::var("NCCL_RS_REQUIRE").unwrap_or_default();
    let required = list.split(',').any(|one| one == "nccl");
    match Library::open() {
        Ok(library) => {
            eprintln!("opened NCCL {} at {:?}", library.version(), library.path());
            assert!(library.version() >= Version::OLDEST);
            assert_eq!(library.error_string(NcclResult::SUCCESS), "no error");
            assert_eq!(library.error_string(NcclResult(-1)), "unknown result code");
        }
        Err(error) if required => panic!("NCCL_RS_REQUIRE=nccl, but {error}"),
        Err(error) => eprintln!("skipped: {error}"),
    }
}
