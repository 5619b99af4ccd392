//! What a rank says of its NCCL and its device, for all ranks to compare.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use nccl_sys::Version;

use crate::backend::nccl::library::Nccl;
use crate::config::Env;
use crate::cuda::Device;
use crate::cuda::Uuid;
use crate::error::Result;

/// The first version in which several ranks may have one GPU.
const SHARING: Version = Version::new(2, 30, 3);
/// The variable that allows it; NCCL's own.
const SHARING_VARIABLE: &str = "NCCL_MULTI_RANK_GPU_ENABLE";

/// What must fit among ranks before any of them calls NCCL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// As `ncclGetVersion` gives it.
    pub(crate) version: i32,
    /// A digest of the library's file; 0 if it cannot be read.
    pub(crate) file: u64,
    /// The device.
    pub(crate) device: [u8; 16],
    /// Whether the device may be another rank's, too.
    pub(crate) may_share: bool,
}

impl Facts {
    /// How many words [`Facts::to_words`] gives.
    pub(crate) const WORDS: usize = 5;

    /// The facts of this rank.
    pub(crate) fn of(nccl: &Nccl, device: &Device, env: &Env) -> Result<Self> {
        let asked = env.get(SHARING_VARIABLE)?.is_some_and(|value| value.trim() == "1");
        Ok(Self {
            version: nccl.version().code(),
            file: nccl.path().map_or(0, digest),
            device: device.uuid()?.to_bytes(),
            may_share: asked && nccl.version() >= SHARING,
        })
    }

    /// For the other ranks.
    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        let [high, low] = halves(self.device);
        let version = u64::from(self.version.cast_unsigned());
        [version, self.file, high, low, u64::from(self.may_share)]
    }

    /// From another rank.
    pub(crate) fn from_words(words: &[u64]) -> Self {
        let word = |at: usize| words.get(at).copied().unwrap_or(0);
        let mut device = [0; 16];
        device[..8].copy_from_slice(&word(2).to_be_bytes());
        device[8..].copy_from_slice(&word(3).to_be_bytes());
        Self {
            version: i32::try_from(word(0)).unwrap_or(i32::MAX),
            file: word(1),
            device,
            may_share: word(4) == 1,
        }
    }

    /// `2.30.7`
    pub(crate) fn version_text(&self) -> String {
        let version = Version::from_code(self.version);
        version.map_or_else(|| self.version.to_string(), |version| version.to_string())
    }

    /// `GPU-...`
    pub(crate) fn device_text(&self) -> String {
        Uuid::from_bytes(self.device).to_string()
    }

    /// Whether this version knows how several ranks share a GPU.
    pub(crate) fn can_share(&self) -> bool {
        self.version >= SHARING.code()
    }
}

fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let value = u128::from_be_bytes(bytes);
    #[expect(clippy::cast_possible_truncation, reason = "each cast takes the half it names")]
    let halves = [(value >> 64) as u64, value as u64];
    halves
}

/// A digest of a file's length and of some of its pages: files of hundreds of megabytes are told
/// apart in a millisecond.
fn digest(path: &Path) -> u64 {
    const PIECES: u64 = 32;
    const PIECE_BYTES: usize = 4096;
    let read = || -> std::io::Result<u64> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ length;
        let mut piece = [0; PIECE_BYTES];
        for index in 0..PIECES {
            file.seek(SeekFrom::Start(length / PIECES * index))?;
            let count = file.read(&mut piece)?;
            for byte in piece.iter().take(count) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        Ok(hash)
    };
    read().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn facts_go_through_words_unchanged() {
        let device = core::array::from_fn(|at| u8::try_from(at).unwrap());
        let facts = Facts { version: 23203, file: u64::MAX, device, may_share: true };
        assert_eq!(Facts::from_words(&facts.to_words()), facts);
        assert_eq!(facts.version_text(), "2.32.3");
        assert!(facts.can_share() && !Facts { version: 22907, ..facts }.can_share());
    }

    #[test]
    fn files_that_differ_have_other_digests() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            File::create(&path).unwrap().write_all(bytes).unwrap();
            digest(&path)
        };
        let one = file("one", &[1; 100_000]);
        assert_eq!(one, file("same", &[1; 100_000]));
        assert_ne!(one, file("longer", &[1; 100_001]));
        let mut other = vec![1; 100_000];
        other[50_000] = 2;
        assert_ne!(one, file("other", &other));
        assert_eq!(digest(&folder.path().join("none")), 0);
    }
}
