//! Which instructions this machine has, and loops compiled for each.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of functions compiled for instructions found at run time")
)]

use super::loops::Job;

/// A set of instructions to compile loops for.
///
/// The values other than `Base` are made by [`Isa::here`] and [`Isa::all`] only, after detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Base,
    /// AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL besides.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best of this machine; the question to the processor is asked once.
    pub(super) fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self(Level::Avx512);
            }
            if has_avx2() {
                return Self(Level::Avx2);
            }
        }
        Self(Level::Base)
    }

    /// Every one that this machine has.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self(Level::Base)];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                all.push(Self(Level::Avx2));
            }
            if has_avx512() {
                all.push(Self(Level::Avx512));
            }
        }
        all
    }

    /// Whether the conversions of `f16` are single instructions.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn has_f16c(self) -> bool {
        self.0 != Level::Base
    }

    /// Runs the copy of a loop that is compiled for it.
    pub(super) fn run<J: Job>(self, job: J) {
        match self.0 {
            Level::Base => job.run(),
            // SAFETY: the function needs AVX2 and F16C; the value is only made after
            // `has_avx2` said that the processor and the system have them.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(job) },
            // SAFETY: as above, with `has_avx512`.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { run_avx512(job) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn run_avx2<J: Job>(job: J) {
    job.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
fn run_avx512<J: Job>(job: J) {
    job.run();
}
