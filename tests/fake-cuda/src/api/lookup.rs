//! `cuGetProcAddress`: functions by name, the newest version of each.

#![expect(unsafe_code, reason = "exports the driver's names")]

use std::ffi::c_char;
use std::ffi::c_void;
use std::sync::LazyLock;

use crate::api;
use crate::code::Code;
use crate::ffi;
use crate::ffi::Out;
use crate::ffi::api;

api! {
    fn cuGetProcAddress_v2(
        name: *const c_char,
        function: Out<*const c_void>,
        _version: i32,
        _flags: u64,
        status: Out<i32>,
    ) {
        let found = find(name)?;
        // 0 found, 1 not found.
        status.set_if_wanted(i32::from(found.is_none()));
        function.set(found.unwrap_or(std::ptr::null()))?;
        found.map(drop).ok_or(Code::NOT_FOUND)
    }

    fn cuGetProcAddress(
        name: *const c_char,
        function: Out<*const c_void>,
        _version: i32,
        _flags: u64,
    ) {
        let found = find(name)?;
        function.set(found.unwrap_or(std::ptr::null()))?;
        found.map(drop).ok_or(Code::NOT_FOUND)
    }
}

/// All functions, their addresses as numbers.
static ALL: LazyLock<Vec<(&'static str, usize)>> = LazyLock::new(|| {
    let tables = [
        api::device::table(),
        api::context::table(),
        api::memory::table(),
        api::copy::table(),
        api::stream::table(),
        api::event::table(),
        api::graph::table(),
        table(),
    ];
    tables.concat().into_iter().map(|(name, at)| (name, at.expose_provenance())).collect()
});

/// Names that this process shall not find, from `FAKE_CUDA_HIDE`.
static HIDDEN: LazyLock<Vec<String>> = LazyLock::new(|| {
    let list = std::env::var("FAKE_CUDA_HIDE").unwrap_or_default();
    list.split(',').map(str::to_owned).collect()
});

fn find(name: *const c_char) -> Result<Option<*const c_void>, Code> {
    let name = ffi::text(name).ok_or(Code::INVALID_VALUE)?;
    let found = [format!("{name}_v2"), name]
        .into_iter()
        .filter(|name| !HIDDEN.contains(name))
        .find_map(|name| ALL.iter().find(|row| row.0 == name));
    Ok(found.map(|row| std::ptr::with_exposed_provenance(row.1)))
}
