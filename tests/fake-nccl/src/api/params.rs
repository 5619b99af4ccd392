//! The API of parameters (2.30): a few of them, read from the environment.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_char;
use std::sync::Mutex;

use crate::fail::ARGUMENT;
use crate::fail::Outcome;
use crate::fail::fail;
use crate::fail::lock;
use crate::ffi::Out;
use crate::ffi::api;

/// Names as the API gives them, and values without a variable.
const KEYS: [(&CStr, &str); 4] = [
    (c"NCCL_BUFFSIZE", "-2"),
    (c"NCCL_MAX_CTAS", "-2"),
    (c"NCCL_MULTI_RANK_GPU_ENABLE", "0"),
    (c"NCCL_P2P_DISABLE", "0"),
];

/// Texts that were handed out. They stay, as the program may keep them.
static TEXTS: Mutex<BTreeMap<usize, CString>> = Mutex::new(BTreeMap::new());

macro_rules! getters {
    ($($name:ident: $type:ty),*) => {
        api! {
            fn ncclParamBind(handle: Out<usize>, key: Out<c_char>) {
                handle.set("ParamBind", find(key)? + 1)
            }

            fn ncclParamGetStr(handle: usize, text: Out<*const c_char>) {
                text.set("ParamGetStr", text_of(handle)?.0)
            }

            fn ncclParamGetParameter(key: Out<c_char>, value: Out<*const c_char>, len: Out<i32>) {
                let (text, length) = text_of(find(key)? + 1)?;
                value.set("ParamGetParameter", text)?;
                len.set("ParamGetParameter", length)
            }

            fn ncclParamGet(handle: usize, out: Out<u8>, max: i32, len: Out<i32>) {
                let value = value(handle)?;
                let kept = value.as_bytes();
                let kept = &kept[..kept.len().min(usize::try_from(max).unwrap_or(0))];
                for (at, byte) in kept.iter().enumerate() {
                    out.at(at).set("ParamGet", *byte)?;
                }
                len.set("ParamGet", i32::try_from(kept.len()).unwrap_or(0))
            }

            fn ncclParamGetAllParameterKeys(table: Out<*const *const c_char>, len: Out<i32>) {
                static ALL: Table = Table(
                    [KEYS[0].0.as_ptr(), KEYS[1].0.as_ptr(), KEYS[2].0.as_ptr(), KEYS[3].0.as_ptr()],
                );
                table.set("ParamGetAllParameterKeys", ALL.0.as_ptr())?;
                len.set("ParamGetAllParameterKeys", 4)
            }

            $(fn $name(handle: usize, out: Out<$type>) {
                let value = value(handle)?;
                match value.parse() {
                    Ok(number) => out.set(stringify!($name), number),
                    Err(_) => fail(ARGUMENT, format!("{value} is not of the type asked for")),
                }
            })*
        }
    };
}
getters!(
    ncclParamGetI8: i8,
    ncclParamGetI16: i16,
    ncclParamGetI32: i32,
    ncclParamGetI64: i64,
    ncclParamGetU8: u8,
    ncclParamGetU16: u16,
    ncclParamGetU32: u32,
    ncclParamGetU64: u64
);

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclParamDumpAll() {
    for (key, _) in KEYS {
        println!("{}", key.to_string_lossy());
    }
}

/// The keys as C wants them.
struct Table([*const c_char; 4]);

// SAFETY: pointers to texts that live and never change.
unsafe impl Sync for Table {}

fn find(key: Out<c_char>) -> Outcome<usize> {
    let mut name = Vec::new();
    while let Some(byte) = key.cast::<u8>().at_if_any(name.len()).filter(|byte| *byte != 0) {
        name.push(byte);
    }
    match KEYS.iter().position(|(key, _)| key.to_bytes() == name) {
        Some(at) => Ok(at),
        None => fail(ARGUMENT, format!("no parameter {}", String::from_utf8_lossy(&name))),
    }
}

fn value(handle: usize) -> Outcome<String> {
    match handle.checked_sub(1).and_then(|at| KEYS.get(at)) {
        Some((key, default)) => {
            let set = std::env::var(key.to_string_lossy().as_ref());
            Ok(set.unwrap_or_else(|_| (*default).to_owned()))
        }
        None => fail(ARGUMENT, "no such parameter"),
    }
}

fn text_of(handle: usize) -> Outcome<(*const c_char, i32)> {
    let text = CString::new(value(handle)?).unwrap_or_default();
    let length = i32::try_from(text.as_bytes().len()).unwrap_or(0);
    let mut texts = lock(&TEXTS);
    let kept = texts.entry(handle).or_insert(text);
    Ok((kept.as_ptr(), length))
}
