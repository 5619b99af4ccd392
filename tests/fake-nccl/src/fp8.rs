//! The 8-bit floats by their definition: a table of all values, and a search for the nearest.

use std::sync::LazyLock;

/// One of the two formats.
#[derive(Debug)]
pub(crate) struct Format {
    /// The finite values without sign, in the order of their codes.
    values: Vec<f32>,
    infinity: Option<u8>,
    nan: u8,
}

/// E4M3: no infinity, largest 448.
pub(crate) static E4M3: LazyLock<Format> = LazyLock::new(|| Format::new(3, 7, 0x7e, None, 0x7f));

/// E5M2: as IEEE, largest 57344.
pub(crate) static E5M2: LazyLock<Format> =
    LazyLock::new(|| Format::new(2, 15, 0x7b, Some(0x7c), 0x7e));

impl Format {
    fn new(mantissa: u8, bias: i32, top: u8, infinity: Option<u8>, nan: u8) -> Self {
        let value = |code: u8| {
            let (exponent, fraction) = (code >> mantissa, f32::from(code % (1 << mantissa)));
            let scale =
                |exponent: u8| 2.0_f32.powi(i32::from(exponent) - bias - i32::from(mantissa));
            match exponent {
                0 => fraction * scale(1),
                _ => (fraction + f32::from(1_u8 << mantissa)) * scale(exponent),
            }
        };
        Self { values: (0..=top).map(value).collect(), infinity, nan }
    }

    /// The value of a code.
    pub(crate) fn widen(&self, code: u8) -> f32 {
        let magnitude = code & 0x7f;
        let value = match self.values.get(usize::from(magnitude)) {
            Some(value) => *value,
            None if Some(magnitude) == self.infinity => f32::INFINITY,
            None => return f32::NAN,
        };
        if code & 0x80 == 0 { value } else { -value }
    }

    /// The code nearest to a value, ties to the even one; beyond the largest, the largest.
    pub(crate) fn narrow(&self, x: f32) -> u8 {
        if x.is_nan() {
            return self.nan;
        }
        let sign = if x.is_sign_negative() { 0x80 } else { 0 };
        let above = self.values.partition_point(|value| *value <= x.abs());
        let below = above.saturating_sub(1);
        let nearest = match self.values.get(above) {
            None => below,
            Some(more) => {
                let (up, down) = (more - x.abs(), x.abs() - self.values[below]);
                if up < down || (up == down && below % 2 == 1) { above } else { below }
            }
        };
        sign | u8::try_from(nearest).unwrap_or(self.nan)
    }
}
