//! Parts of device memory of our own.

use core::marker::PhantomData;
use core::ops::Bound;
use core::ops::RangeBounds;

use crate::cuda::device::Device;
use crate::cuda::device_vec::DeviceVec;
use crate::dtype::Element;
use crate::error::Error;
use crate::error::Result;

/// Some consecutive elements of a [`DeviceVec`].
#[derive(Clone, Copy, Debug)]
pub struct DeviceSlice<'a, T: Element> {
    part: Part<'a>,
    elements: PhantomData<&'a [T]>,
}

/// Some consecutive elements of a [`DeviceVec`], that may be written.
#[derive(Debug)]
pub struct DeviceSliceMut<'a, T: Element> {
    part: Part<'a>,
    elements: PhantomData<&'a mut [T]>,
}

/// Where a part is.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    at: u64,
    count: usize,
    device: &'a Device,
}

impl<T: Element> DeviceVec<T> {
    /// Borrows a range of elements.
    ///
    /// # Errors
    /// [`Error::Usage`] if the range is not inside.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<DeviceSlice<'_, T>> {
        let part = part_of::<T>(self.whole(), &range)?;
        Ok(DeviceSlice { part, elements: PhantomData })
    }

    /// Borrows a range of elements to write to.
    ///
    /// # Errors
    /// [`Error::Usage`] if the range is not inside.
    pub fn slice_mut(&mut self, range: impl RangeBounds<usize>) -> Result<DeviceSliceMut<'_, T>> {
        let part = part_of::<T>(self.whole(), &range)?;
        Ok(DeviceSliceMut { part, elements: PhantomData })
    }

    /// Borrows the elements before `count` and those from there on.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are not so many.
    pub fn split_at_mut(
        &mut self,
        count: usize,
    ) -> Result<(DeviceSliceMut<'_, T>, DeviceSliceMut<'_, T>)> {
        let first = part_of::<T>(self.whole(), &(..count))?;
        let rest = part_of::<T>(self.whole(), &(count..))?;
        let slice = |part| DeviceSliceMut { part, elements: PhantomData };
        Ok((slice(first), slice(rest)))
    }

    fn whole(&self) -> Part<'_> {
        Part { at: self.as_raw(), count: self.count(), device: self.device() }
    }
}

macro_rules! accessors {
    ($($slice:ident)*) => {$(
        impl<T: Element> $slice<'_, T> {
            /// Returns how many elements it has.
            #[must_use]
            pub fn count(&self) -> usize {
                self.part.count
            }

            /// Returns its address on the device.
            #[must_use]
            pub fn as_raw(&self) -> u64 {
                self.part.at
            }

            /// Returns the device it is on.
            #[must_use]
            pub fn device(&self) -> &Device {
                self.part.device
            }
        }
    )*};
}

accessors! { DeviceSlice DeviceSliceMut }

/// A range of elements of a part.
fn part_of<'a, T: Element>(whole: Part<'a>, range: &impl RangeBounds<usize>) -> Result<Part<'a>> {
    let usage = || {
        let problem = format!(
            "{:?}..{:?} is no range of a buffer of {} elements",
            range.start_bound(),
            range.end_bound(),
            whole.count
        );
        Error::Usage { op: "slice", problem }
    };
    let start = match range.start_bound() {
        Bound::Unbounded => Some(0),
        Bound::Included(at) => Some(*at),
        Bound::Excluded(at) => at.checked_add(1),
    };
    let end = match range.end_bound() {
        Bound::Unbounded => Some(whole.count),
        Bound::Included(at) => at.checked_add(1),
        Bound::Excluded(at) => Some(*at),
    };
    let (start, end) = start.zip(end).ok_or_else(usage)?;
    if end > whole.count {
        return Err(usage());
    }
    let count = end.checked_sub(start).ok_or_else(usage)?;
    // Inside of an allocation, so it fits.
    let offset = start.saturating_mul(size_of::<T>()) as u64;
    Ok(Part { at: whole.at.saturating_add(offset), count, device: whole.device })
}
