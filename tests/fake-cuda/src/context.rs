//! Contexts: one primary context per device, and each thread's stack of current ones.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::code::Code;
use crate::device;
use crate::registry::lock;

/// The handle of device 0's context; the others follow. Constant, so that it is known at once.
const FIRST: usize = 0x5fc0_0000_0000;
const STEP: usize = 4096;

/// How often each device's primary context is retained.
static RETAINED: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

thread_local! {
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Retains the primary context of a device, and gives its handle.
pub(crate) fn retain(ordinal: i32) -> Result<usize, Code> {
    let (at, _) = device::get(ordinal)?;
    *lock(&RETAINED).entry(at).or_default() += 1;
    Ok(FIRST + at * STEP)
}

/// Releases it.
pub(crate) fn release(ordinal: i32) -> Result<(), Code> {
    let (at, _) = device::get(ordinal)?;
    match lock(&RETAINED).get_mut(&at) {
        Some(count) if *count > 0 => *count -= 1,
        _ => return Err(Code::INVALID_CONTEXT),
    }
    Ok(())
}

/// Whether a device's primary context is there.
pub(crate) fn is_active(at: usize) -> bool {
    lock(&RETAINED).get(&at).is_some_and(|count| *count > 0)
}

/// The device of a context's handle.
pub(crate) fn device_of(handle: usize) -> Result<usize, Code> {
    let at = handle.checked_sub(FIRST).ok_or(Code::INVALID_CONTEXT)? / STEP;
    if is_active(at) && handle == FIRST + at * STEP { Ok(at) } else { Err(Code::INVALID_CONTEXT) }
}

/// The context of a device.
pub(crate) fn handle_of(device: usize) -> usize {
    FIRST + device * STEP
}

/// The thread's current context, 0 if there is none.
pub(crate) fn current() -> usize {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// The device of the thread's current context. Every call that works on memory or streams asks.
pub(crate) fn current_device() -> Result<usize, Code> {
    device::all()?;
    not_in_callback()?;
    device_of(current())
}

/// Makes a context current in place of the one on top; 0 takes the top away.
pub(crate) fn set_current(handle: usize) -> Result<(), Code> {
    device::all()?;
    if handle != 0 {
        device_of(handle)?;
    }
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if handle != 0 {
            stack.push(handle);
        }
    });
    Ok(())
}

/// Puts a context on top.
pub(crate) fn push(handle: usize) -> Result<(), Code> {
    device_of(handle)?;
    STACK.with_borrow_mut(|stack| stack.push(handle));
    Ok(())
}

/// Takes the top away, and gives it.
pub(crate) fn pop() -> Result<usize, Code> {
    STACK.with_borrow_mut(Vec::pop).ok_or(Code::INVALID_CONTEXT)
}

/// Runs a host function of a stream. CUDA forbids it any call of CUDA.
pub(crate) fn as_callback(body: impl FnOnce()) {
    IN_CALLBACK.set(true);
    body();
    IN_CALLBACK.set(false);
}

fn not_in_callback() -> Result<(), Code> {
    if IN_CALLBACK.get() { Err(Code::NOT_PERMITTED) } else { Ok(()) }
}
