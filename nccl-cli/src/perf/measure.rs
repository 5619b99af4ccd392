//! What each rank does: joins, checks and times every cell, and tells the reporter.

use nccl::ProcessGroup;
use nccl::ReduceOp;

use crate::perf::Failure;
use crate::perf::args::Work;
use crate::perf::cell::Cell;
use crate::perf::cell::Place;
use crate::perf::check::Case;
use crate::perf::check::GUARD;
use crate::perf::issue;
use crate::perf::matrix;
use crate::perf::report::Measured;
use crate::perf::report::Report;
use crate::perf::report::Row;
use crate::perf::time::time;
use crate::perf::value::Value;
use crate::perf::value::with_type;

/// Buffers begin at pages, as those of the benchmarks we compare with do.
const ALIGN_BYTES: usize = 4096;

/// Measures all cells; the number of wrong elements on all ranks together.
///
/// Only rank 0 has a report.
///
/// # Errors
/// Those of the group, a report that cannot be written, too little memory.
pub(crate) fn measure(
    group: &ProcessGroup,
    work: &Work,
    mut report: Option<&mut Report>,
) -> Result<u64, Failure> {
    let world = matrix::explore(group)?;
    if let Some(report) = &mut report {
        report.begin(&world, work)?;
    }
    let mut wrong = 0;
    let cells: &[Cell] = if work.matrix_only { &[] } else { &work.cells };
    for (number, cell) in cells.iter().enumerate() {
        let row = with_type!(cell.dtype, T => row::<T>(group, work, cell, number)).unwrap_or_else(
            || Err(Failure::other(format!("no test data of type {}", cell.dtype))),
        )?;
        let found = row.forms.iter().flatten().filter_map(|form| form.wrong);
        wrong += found.sum::<u64>();
        if let Some(report) = &mut report {
            report.row(row)?;
        }
    }
    Ok(wrong)
}

/// Both forms of one cell.
fn row<T: Value>(
    group: &ProcessGroup,
    work: &Work,
    cell: &Cell,
    number: usize,
) -> Result<Row, Failure> {
    let mut row = Row { cell: *cell, forms: [None, None] };
    for (form, place) in row.forms.iter_mut().zip([Place::Out, Place::In]) {
        if work.places.contains(&place) && cell.collective.places().contains(&place) {
            let case = Case { cell: *cell, place, rank: group.rank(), seed: number as u64 };
            *form = Some(one::<T>(group, work, &case)?);
        }
    }
    Ok(row)
}

/// One form of one cell: the check first, outside the timing.
fn one<T: Value>(group: &ProcessGroup, work: &Work, case: &Case) -> Result<Measured, Failure> {
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

/// Puts this rank's input where the call reads it, and wrong values where it writes.
fn fill<T: Value>(case: &Case, send: &mut [T], all: &mut [T]) {
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
fn corrupt<T: Value>(case: &Case, all: &mut [T]) {
    if let Some(element) = case.first_promised().and_then(|at| all.get_mut(at)) {
        *element = T::from_bits(!element.bits());
    }
}

/// Elements that begin at a page.
struct Buffer<T> {
    all: Vec<T>,
    begin: usize,
    len: usize,
}

impl<T: Value> Buffer<T> {
    fn new(len: usize) -> Result<Self, Failure> {
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

    fn slice(&mut self) -> &mut [T] {
        self.all.get_mut(self.begin..self.begin + self.len).unwrap_or_default()
    }
}
