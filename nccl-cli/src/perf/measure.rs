//! What each rank does: joins, checks and times every cell, and tells the reporter.

use nccl::ProcessGroup;

use crate::perf::Failure;
use crate::perf::args::Work;
use crate::perf::cell::Cell;
use crate::perf::cell::Place;
use crate::perf::check::Case;
use crate::perf::device;
use crate::perf::gpu::Gpu;
use crate::perf::host;
use crate::perf::matrix;
use crate::perf::memory::Memory;
use crate::perf::report::Report;
use crate::perf::report::Row;
use crate::perf::value::Value;
use crate::perf::value::with_type;

/// Measures all cells; the number of wrong elements on all ranks together.
///
/// Only rank 0 has a report.
///
/// # Errors
/// Those of the group, a report that cannot be written, too little memory, a rank without a
/// device where device memory is measured.
pub(crate) fn measure(
    group: &ProcessGroup,
    work: &Work,
    mut report: Option<&mut Report>,
) -> Result<u64, Failure> {
    let gpu = match Memory::choose(work.memory, group) {
        Memory::Device => Some(Gpu::open_on_all(group)?),
        Memory::Host => None,
    };
    let world = matrix::explore(group, gpu.as_ref())?;
    if let Some(report) = &mut report {
        report.begin(&world, work)?;
    }
    let mut wrong = 0;
    let cells: &[Cell] = if work.matrix_only { &[] } else { &work.cells };
    for (number, cell) in cells.iter().enumerate() {
        let row = with_type!(cell.dtype, T => row::<T>(group, gpu.as_ref(), work, cell, number))
            .unwrap_or_else(|| {
                Err(Failure::other(format!("no test data of type {}", cell.dtype)))
            })?;
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
    gpu: Option<&Gpu>,
    work: &Work,
    cell: &Cell,
    number: usize,
) -> Result<Row, Failure> {
    let mut row = Row { cell: *cell, forms: [None, None], refusals: [None, None] };
    let forms = row.forms.iter_mut().zip(&mut row.refusals);
    for ((form, refusal), place) in forms.zip([Place::Out, Place::In]) {
        if work.places.contains(&place) && cell.collective.places().contains(&place) {
            let case = Case { cell: *cell, place, rank: group.rank(), seed: number as u64 };
            let outcome = match gpu {
                None => Ok(host::one::<T>(group, work, &case)?),
                Some(gpu) => device::one::<T>(group, gpu, work, &case)?,
            };
            match outcome {
                Ok(measured) => *form = Some(measured),
                Err(why) => *refusal = Some(why),
            }
        }
    }
    Ok(row)
}
