//! One form of one cell on host memory.

use nccl::ProcessGroup;
use nccl::ReduceOp;

use crate::perf::Failure;
use crate::perf::args::Work;
use crate::perf::buffers::Buffer;
use crate::perf::buffers::corrupt;
use crate::perf::buffers::fill;
use crate::perf::cell::Place;
use crate::perf::check::Case;
use crate::perf::check::GUARD;
use crate::perf::issue;
use crate::perf::report::Measured;
use crate::perf::time::time;
use crate::perf::value::Value;

/// Checks it first, outside the timing, then times it.
///
/// # Errors
/// Those of the group; too little memory.
pub(crate) fn one<T: Value>(
    group: &ProcessGroup,
    work: &Work,
    case: &Case,
) -> Result<Measured, Failure> {
    let (input, output) = case.lengths();
    let mut inputs = Buffer::<T>::new(if case.place == Place::Out { input } else { 0 })?;
    let mut outputs = Buffer::<T>::new(output + GUARD)?;
    let (send, all) = (inputs.slice(), outputs.slice());
    let (cell, place) = (&case.cell, case.place);
    let wrong = if work.check {
        fill(case, send, all);
        let recv = all.get_mut(..output).unwrap_or_default();
        issue::once(group, cell, place, send, recv)?;
        if work.corrupt {
            corrupt(case, all);
        }
        let mut wrong = [case.wrong(all)];
        group.all_reduce_in_place(&mut wrong, ReduceOp::Sum)?;
        Some(wrong[0])
    } else {
        None
    };
    // Zeros stay zeros under every reduction, however often one runs in place.
    send.fill(T::from_bits(0));
    all.fill(T::from_bits(0));
    let recv = all.get_mut(..output).unwrap_or_default();
    let timing = time(group, cell, &work.effort, || issue::once(group, cell, place, send, recv))?;
    Ok(Measured { timing, wrong })
}
