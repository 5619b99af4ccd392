//! The 8-bit floats once more, by the definition and by search, so that the library's bit tricks
//! are compared with something else.

use std::sync::LazyLock;

/// One of the two formats.
#[derive(Debug)]
pub struct Format {
    /// The values of the codes without sign, from 0 to the largest finite one.
    values: Vec<f32>,
    /// The code of infinity, if there is one.
    infinity: Option<u8>,
    /// The NaN that comes out of computations.
    pub nan: u8,
}

/// E4M3: no infinity, largest 448.
pub static E4M3: LazyLock<Format> = LazyLock::new(|| Format::new(3, 7, 0x7e, None, 0x7f));

/// E5M2: as IEEE, largest 57344.
pub static E5M2: LazyLock<Format> = LazyLock::new(|| Format::new(2, 15, 0x7b, Some(0x7c), 0x7e));

impl Format {
    fn new(mantissa: i32, bias: i32, top: u8, infinity: Option<u8>, nan: u8) -> Self {
        let value = |code: u8| {
            let (exponent, fraction) =
                (i32::from(code) >> mantissa, i32::from(code) % (1 << mantissa));
            let scale = |e: i32| 2.0_f32.powi(e - bias - mantissa);
            match exponent {
                0 => fraction as f32 * scale(1),
                _ => (fraction + (1 << mantissa)) as f32 * scale(exponent),
            }
        };
        Self { values: (0..=top).map(value).collect(), infinity, nan }
    }

    /// The value of a code.
    #[must_use]
    pub fn widen(&self, code: u8) -> f32 {
        let magnitude = code & 0x7f;
        let value = match self.values.get(usize::from(magnitude)) {
            Some(value) => *value,
            None if Some(magnitude) == self.infinity => f32::INFINITY,
            None => return f32::NAN,
        };
        if code & 0x80 == 0 { value } else { -value }
    }

    /// The code nearest to a value, ties to the even one, saturating.
    #[must_use]
    pub fn narrow(&self, x: f32) -> u8 {
        if x.is_nan() {
            return self.nan;
        }
        let magnitude = x.abs();
        let above = self.values.partition_point(|value| *value <= magnitude);
        let below = above - 1;
        let at = match self.values.get(above) {
            None => below,
            Some(more) => {
                let down = f64::from(magnitude) - f64::from(self.values[below]);
                let up = f64::from(*more) - f64::from(magnitude);
                if up < down || (up == down && below % 2 == 1) { above } else { below }
            }
        };
        let code = u8::try_from(at).unwrap_or(self.nan);
        if x.is_sign_negative() { code | 0x80 } else { code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_and_the_largest_are_those_of_the_standard() {
        for (format, top, largest) in [(&E4M3, 0x7e, 448.0), (&E5M2, 0x7b, 57344.0)] {
            assert!(format.widen(top) == largest);
            for code in (0..=top).chain(0x80..=0x80 + top) {
                assert_eq!(format.narrow(format.widen(code)), code);
            }
            assert_eq!(format.narrow(1.0e30), top);
            assert_eq!(format.narrow(f32::NEG_INFINITY), top | 0x80);
            assert_eq!(format.narrow(f32::NAN), format.nan);
            assert!(format.widen(format.nan).is_nan());
        }
        assert!(E5M2.widen(0x7c) == f32::INFINITY);
    }

    #[test]
    fn ties_go_to_the_even_code() {
        assert_eq!(E4M3.narrow(1.0625), E4M3.narrow(1.0));
        assert_eq!(E4M3.narrow(1.1875), E4M3.narrow(1.25));
        assert_eq!(E5M2.narrow(-1.125), E5M2.narrow(-1.0));
    }
}
