//! Values of serde types as messages.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ProcessGroup;
use crate::error::Error;
use crate::error::Result;

impl ProcessGroup {
    /// Gives every rank the `value` of `root`; the others' is ignored.
    ///
    /// # Errors
    /// As [`ProcessGroup::broadcast_bytes`]; a value that cannot be written or read names its rank.
    ///
    /// # Source
    /// `broadcast_object_list` of c10d, with postcard for pickle: no code comes off the wire.
    pub fn broadcast_object<T: Serialize + DeserializeOwned>(
        &self,
        value: Option<&T>,
        root: usize,
    ) -> Result<T> {
        const OP: &str = "broadcast_object";
        let mut bytes = match value {
            Some(value) if self.rank() == root => write(OP, value)?,
            None if self.rank() == root => {
                let problem = "the root must give a value".to_owned();
                return Err(Error::Usage { op: OP, problem });
            }
            _ => Vec::new(),
        };
        self.broadcast_bytes(&mut bytes, root)?;
        read(OP, &bytes, root)
    }

    /// Gathers the `value` of every rank on every rank, in rank order.
    ///
    /// # Errors
    /// As [`ProcessGroup::broadcast_object`].
    pub fn all_gather_object<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<Vec<T>> {
        const OP: &str = "all_gather_object";
        let all = self.all_gather_bytes(&write(OP, value)?)?;
        all.iter().enumerate().map(|(rank, bytes)| read(OP, bytes, rank)).collect()
    }

    /// Gathers the `value` of every rank on `root`; `None` on the others.
    ///
    /// # Errors
    /// As [`ProcessGroup::broadcast_object`].
    pub fn gather_object<T: Serialize + DeserializeOwned>(
        &self,
        value: &T,
        root: usize,
    ) -> Result<Option<Vec<T>>> {
        const OP: &str = "gather_object";
        let Some(all) = self.gather_bytes(&write(OP, value)?, root)? else { return Ok(None) };
        all.iter()
            .enumerate()
            .map(|(rank, bytes)| read(OP, bytes, rank))
            .collect::<Result<_>>()
            .map(Some)
    }

    /// Gives rank `r` the value `values[r]` of `root`; the others pass an empty list.
    ///
    /// # Errors
    /// As [`ProcessGroup::broadcast_object`].
    pub fn scatter_object<T: Serialize + DeserializeOwned>(
        &self,
        values: &[T],
        root: usize,
    ) -> Result<T> {
        const OP: &str = "scatter_object";
        let parts = values.iter().map(|value| write(OP, value)).collect::<Result<Vec<_>>>()?;
        read(OP, &self.scatter_bytes(&parts, root)?, root)
    }
}

fn write<T: Serialize>(op: &'static str, value: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|error| {
        let problem = format!("the value cannot be written as bytes: {error}");
        Error::Usage { op, problem }
    })
}

fn read<T: DeserializeOwned>(op: &'static str, bytes: &[u8], rank: usize) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|error| {
        let problem = format!("what rank {rank} sent is no value of this type: {error}");
        Error::Usage { op, problem }
    })
}
