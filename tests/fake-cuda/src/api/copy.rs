//! Copies and fills, in a stream's order or waited for.

#![expect(unsafe_code, reason = "exports the driver's names")]

use std::ffi::c_uchar;
use std::ffi::c_uint;
use std::ffi::c_ushort;
use std::sync::Arc;

use crate::capture;
use crate::code::Code;
use crate::ffi::api;
use crate::memory;
use crate::stream;
use crate::stream::Op;
use crate::stream::Submitted;

api! {
    fn cuMemcpyHtoDAsync_v2(to: usize, from: usize, size_bytes: usize, stream: usize) {
        to_device(to, from, size_bytes, stream)
    }

    fn cuMemcpyHtoD_v2(to: usize, from: usize, size_bytes: usize) {
        capture::not_now()?;
        to_device(to, from, size_bytes, 0)?;
        wait_for_default()
    }

    fn cuMemcpyDtoHAsync_v2(to: usize, from: usize, size_bytes: usize, stream: usize) {
        to_host(to, from, size_bytes, stream)
    }

    fn cuMemcpyDtoH_v2(to: usize, from: usize, size_bytes: usize) {
        capture::not_now()?;
        to_host(to, from, size_bytes, 0)?;
        wait_for_default()
    }

    fn cuMemcpyDtoDAsync_v2(to: usize, from: usize, size_bytes: usize, stream: usize) {
        on_device(to, from, size_bytes, stream)
    }

    fn cuMemcpyDtoD_v2(to: usize, from: usize, size_bytes: usize) {
        capture::not_now()?;
        on_device(to, from, size_bytes, 0)?;
        wait_for_default()
    }

    fn cuMemcpyPeerAsync(
        to: usize,
        _to_context: usize,
        from: usize,
        _from_context: usize,
        size_bytes: usize,
        stream: usize,
    ) {
        on_device(to, from, size_bytes, stream)
    }

    /// The kinds of both sides follow from the addresses.
    fn cuMemcpyAsync(to: usize, from: usize, size_bytes: usize, stream: usize) {
        match (memory::find(to).is_some(), memory::find(from).is_some()) {
            (true, true) => on_device(to, from, size_bytes, stream),
            (true, false) => to_device(to, from, size_bytes, stream),
            (false, true) => to_host(to, from, size_bytes, stream),
            (false, false) => Err(Code::INVALID_VALUE),
        }
    }

    fn cuMemsetD8Async(to: usize, value: c_uchar, count: usize, stream: usize) {
        fill(to, &[value], count, stream)
    }

    fn cuMemsetD8_v2(to: usize, value: c_uchar, count: usize) {
        capture::not_now()?;
        fill(to, &[value], count, 0)?;
        wait_for_default()
    }

    fn cuMemsetD16Async(to: usize, value: c_ushort, count: usize, stream: usize) {
        fill(to, &value.to_ne_bytes(), count, stream)
    }

    fn cuMemsetD32Async(to: usize, value: c_uint, count: usize, stream: usize) {
        fill(to, &value.to_ne_bytes(), count, stream)
    }
}

/// From memory that is not pinned the driver copies before it returns.
fn to_device(to: usize, from: usize, size_bytes: usize, stream: usize) -> Result<(), Code> {
    let stream = stream::get(stream)?;
    if size_bytes == 0 {
        return Ok(());
    }
    memory::on_device(to, size_bytes)?;
    memory::on_host(from)?;
    let op: Op = if memory::is_pageable(from) && stream.capture().is_none() {
        let staged = memory::stage(from, size_bytes);
        Arc::new(move || {
            memory::copy(to, staged.as_ptr().expose_provenance(), size_bytes, [true, false]);
        })
    } else {
        Arc::new(move || memory::copy(to, from, size_bytes, [true, false]))
    };
    stream::submit(&stream, op).map(drop)
}

/// Into memory that is not pinned the driver copies before it returns.
fn to_host(to: usize, from: usize, size_bytes: usize, stream: usize) -> Result<(), Code> {
    let stream = stream::get(stream)?;
    if size_bytes == 0 {
        return Ok(());
    }
    memory::on_device(from, size_bytes)?;
    memory::on_host(to)?;
    let op = move || memory::copy(to, from, size_bytes, [false, true]);
    match stream::submit(&stream, Arc::new(op))? {
        Submitted::Queued(point) if memory::is_pageable(to) => point.wait(),
        _ => {}
    }
    Ok(())
}

fn on_device(to: usize, from: usize, size_bytes: usize, stream: usize) -> Result<(), Code> {
    let stream = stream::get(stream)?;
    if size_bytes == 0 {
        return Ok(());
    }
    memory::on_device(to, size_bytes)?;
    memory::on_device(from, size_bytes)?;
    let op = move || memory::copy(to, from, size_bytes, [true, true]);
    stream::submit(&stream, Arc::new(op)).map(drop)
}

fn fill(to: usize, value: &[u8], count: usize, stream: usize) -> Result<(), Code> {
    let stream = stream::get(stream)?;
    if count == 0 {
        return Ok(());
    }
    let size_bytes = value.len().checked_mul(count).ok_or(Code::INVALID_VALUE)?;
    memory::on_device(to, size_bytes)?;
    let value = value.to_vec();
    stream::submit(&stream, Arc::new(move || memory::fill(to, &value, count))).map(drop)
}

fn wait_for_default() -> Result<(), Code> {
    stream::get(0)?.tail().wait();
    Ok(())
}
