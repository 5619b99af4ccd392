//! Types of elements.

use core::fmt;

mod fp8;
pub(crate) mod narrow;

pub use fp8::F8E4M3;
pub use fp8::F8E5M2;
pub use half::bf16;
pub use half::f16;

/// The type of the elements of a buffer.
///
/// # Source
/// `ncclDataType_t` of nccl.h, and its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum DataType {
    /// `i8`, `ncclInt8`
    I8 = 0,
    /// `u8`, `ncclUint8`
    U8 = 1,
    /// `i32`, `ncclInt32`
    I32 = 2,
    /// `u32`, `ncclUint32`
    U32 = 3,
    /// `i64`, `ncclInt64`
    I64 = 4,
    /// `u64`, `ncclUint64`
    U64 = 5,
    /// [`struct@f16`], `ncclFloat16`
    F16 = 6,
    /// `f32`, `ncclFloat32`
    F32 = 7,
    /// `f64`, `ncclFloat64`
    F64 = 8,
    /// [`bf16`], `ncclBfloat16`
    BF16 = 9,
    /// [`F8E4M3`], `ncclFloat8e4m3`
    F8E4M3 = 10,
    /// [`F8E5M2`], `ncclFloat8e5m2`
    F8E5M2 = 11,
}

impl DataType {
    /// Every type, in the order of NCCL's numbers.
    pub const ALL: [Self; 12] = [
        Self::I8,
        Self::U8,
        Self::I32,
        Self::U32,
        Self::I64,
        Self::U64,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::BF16,
        Self::F8E4M3,
        Self::F8E5M2,
    ];

    /// Bytes of one element.
    #[must_use]
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::F8E4M3 | Self::F8E5M2 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Whether bitwise operations exist for it.
    #[must_use]
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::I8 | Self::U8 | Self::I32 | Self::U32 | Self::I64 | Self::U64)
    }

    /// The Rust name in lower case: `f32`, `bf16`, `f8e4m3`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::BF16 => "bf16",
            Self::F8E4M3 => "f8e4m3",
            Self::F8E5M2 => "f8e5m2",
        }
    }

    /// The type of a number of NCCL's, if there is one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        if (code as usize) < Self::ALL.len() { Some(Self::ALL[code as usize]) } else { None }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    /// No type outside this crate is an element.
    #[expect(unnameable_types, reason = "so that nobody can implement it")]
    pub trait Sealed {}
}

/// A type whose values can travel between ranks: plain data, every bit pattern valid.
///
/// Sealed; the twelve types of [`DataType`] implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an element type",
    note = "elements are i8 u8 i32 u32 i64 u64 f16 bf16 f32 f64 F8E4M3 F8E5M2"
)]
pub trait Element: sealed::Sealed + Copy + Send + Sync + fmt::Debug + PartialEq + 'static {
    /// The type's name at run time.
    const DTYPE: DataType;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DataType = {
                assert!(size_of::<$type>() == DataType::$dtype.size_bytes());
                DataType::$dtype
            };
        }
    )*};
}

elements! {
    i8 => I8, u8 => U8, i32 => I32, u32 => U32, i64 => I64, u64 => U64,
    f16 => F16, f32 => F32, f64 => F64, bf16 => BF16, F8E4M3 => F8E4M3, F8E5M2 => F8E5M2,
}
