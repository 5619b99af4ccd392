//! What holds for all communicators of the process.

use crate::world::nccl;
use crate::world::ranks;

pub(crate) fn params() {
    let all = nccl().params().unwrap();
    let find = |name: &str| all.iter().find(|param| param.name == name).unwrap().value.clone();
    assert_eq!(find("NCCL_BUFFSIZE"), "4194304");
    assert_eq!(find("NCCL_P2P_DISABLE"), "0");
    ranks(4, |_| {
        for param in nccl().params().unwrap() {
            assert_eq!(nccl().param(&param.name).unwrap(), param.value);
        }
    });
    assert!(nccl().param("NCCL_NO_SUCH_THING").is_err());
    assert!(nccl().param("A\0B").unwrap_err().to_string().contains("zero byte"));
}

pub(crate) fn encryption() {
    let nccl = nccl();
    nccl.set_encryption(Some("0123456789abcdef0123456789abcdef")).unwrap();
    nccl.set_encryption(None).unwrap();
    let error = nccl.set_encryption(Some("short")).unwrap_err().to_string();
    assert!(error.contains("a key of 5 bytes; NCCL wants 32"), "{error}");
    let zero = "0123456789abcdef\x000123456789abcdef";
    assert!(nccl.set_encryption(Some(zero)).unwrap_err().to_string().contains("zero byte"));
    nccl.reset_debug().unwrap();
}
