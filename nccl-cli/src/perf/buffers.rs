//! Host memory of one cell, and what is in it.

use crate::perf::Failure;
use crate::perf::cell::Place;
use crate::perf::check::Case;
use crate::perf::value::Value;

/// Buffers begin at pages, as those of the benchmarks we compare with do.
const ALIGN_BYTES: usize = 4096;

/// Puts this rank's input where the call reads it, and wrong values where it writes.
pub(crate) fn fill<T: Value>(case: &Case, send: &mut [T], all: &mut [T]) {
    let (input, _) = case.lengths();
    case.spoil(all);
    let place = match case.place {
        Place::Out => send,
        Place::In => all.get_mut(case.input_at()..).unwrap_or_default(),
    };
    for (index, element) in place.iter_mut().take(input).enumerate() {
        *element = case.input(index);
    }
}

/// Makes one element wrong.
pub(crate) fn corrupt<T: Value>(case: &Case, all: &mut [T]) {
    if let Some(element) = case.first_promised().and_then(|at| all.get_mut(at)) {
        *element = T::from_bits(!element.bits());
    }
}

/// Elements that begin at a page.
pub(crate) struct Buffer<T> {
    all: Vec<T>,
    begin: usize,
    len: usize,
}

impl<T: Value> Buffer<T> {
    /// Zeros.
    ///
    /// # Errors
    /// Too little memory.
    pub(crate) fn new(len: usize) -> Result<Self, Failure> {
        let mut all = Vec::new();
        let more = ALIGN_BYTES / size_of::<T>();
        all.try_reserve_exact(len.saturating_add(more)).map_err(|why| {
            Failure::other(format!("no memory for {len} elements of {}: {why}", T::DTYPE))
        })?;
        all.resize(len + more, T::from_bits(0));
        let begin = all.as_ptr().align_offset(ALIGN_BYTES);
        // Where the offset cannot be told, an unaligned buffer is as good a measurement.
        Ok(Self { begin: if begin <= more { begin } else { 0 }, all, len })
    }

    /// All of them.
    pub(crate) fn slice(&mut self) -> &mut [T] {
        self.all.get_mut(self.begin..self.begin + self.len).unwrap_or_default()
    }
}
