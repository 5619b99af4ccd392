//! Sizes of messages: the series between two of them.

/// Sizes of `nccl perf` where none are asked for.
const FIRST_BYTES: usize = 8;
/// The end of that series.
const LAST_BYTES: usize = 4 << 20;
/// From one size of it to the next.
const FACTOR: usize = 8;
/// More sizes than anybody waits for.
const MOST_SIZES: usize = 10_000;

/// What was asked for, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    /// `-b`.
    pub(crate) min: Option<usize>,
    /// `-e`.
    pub(crate) max: Option<usize>,
    /// `-f`.
    pub(crate) factor: Option<usize>,
    /// `-i`.
    pub(crate) step: Option<usize>,
    /// `--sizes`; empty for none.
    pub(crate) list: Vec<usize>,
}

impl Series {
    /// Every size, in the order they are measured.
    ///
    /// # Errors
    /// Names the option that cannot be.
    pub(crate) fn sizes(&self) -> Result<Vec<usize>, String> {
        if !self.list.is_empty() {
            return Ok(self.list.clone());
        }
        let first = self.min.unwrap_or_else(|| FIRST_BYTES.min(self.max.unwrap_or(FIRST_BYTES)));
        let last = self.max.unwrap_or_else(|| LAST_BYTES.max(first));
        if first > last {
            return Err(format!("-b {first} is larger than -e {last}"));
        }
        let next: Box<dyn Fn(usize) -> Option<usize>> = match (self.factor, self.step) {
            (_, Some(0)) => return Err("-i 0 never gets from -b to -e".to_owned()),
            (_, Some(step)) => Box::new(move |size: usize| size.checked_add(step)),
            (Some(factor @ (0 | 1)), None) => {
                return Err(format!("-f {factor} never gets from -b to -e; use 2 or more"));
            }
            (_, None) if first == 0 && last > 0 => {
                return Err("-b 0 times any -f stays 0; begin at 1 or use -i".to_owned());
            }
            (factor, None) => {
                let factor = factor.unwrap_or(FACTOR);
                Box::new(move |size: usize| size.checked_mul(factor))
            }
        };
        let within = |size: &usize| Some(*size).filter(|size| *size <= last);
        let after =
            |size: &usize| next(*size).filter(|more| more > size).and_then(|more| within(&more));
        let sizes: Vec<usize> =
            std::iter::successors(Some(first), after).take(MOST_SIZES + 1).collect();
        if sizes.len() > MOST_SIZES {
            return Err(format!("-b, -e and -i make more than {MOST_SIZES} sizes"));
        }
        Ok(sizes)
    }
}

/// `8 B`, `4 KiB`, `1.5 MiB`: for people.
pub(crate) fn show(bytes: usize) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift > 0 {
            let whole = bytes >> shift;
            let tenths = ((bytes - (whole << shift)) * 10) >> shift;
            let part = if tenths > 0 { format!(".{tenths}") } else { String::new() };
            return format!("{whole}{part} {unit}");
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(min: usize, max: usize, factor: Option<usize>, step: Option<usize>) -> Series {
        Series { min: Some(min), max: Some(max), factor, step, list: Vec::new() }
    }

    #[test]
    fn a_series_grows_by_factor_or_step_and_holds_both_ends() {
        assert_eq!(series(8, 64, Some(2), None).sizes(), Ok(vec![8, 16, 32, 64]));
        assert_eq!(series(8, 63, Some(2), None).sizes(), Ok(vec![8, 16, 32]));
        assert_eq!(series(10, 40, None, Some(15)).sizes(), Ok(vec![10, 25, 40]));
        assert_eq!(series(7, 7, Some(2), None).sizes(), Ok(vec![7]));
        assert_eq!(series(usize::MAX - 1, usize::MAX, Some(2), None).sizes().unwrap().len(), 1);
        let list = Series { list: vec![5, 3], ..Series::default() };
        assert_eq!(list.sizes(), Ok(vec![5, 3]));
    }

    #[test]
    fn one_end_alone_moves_the_other() {
        let default = Series::default().sizes().unwrap();
        assert_eq!((default.first(), default.last()), (Some(&8), Some(&(2 << 20))));
        let small = Series { max: Some(4), ..Series::default() };
        assert_eq!(small.sizes(), Ok(vec![4]));
        let large = Series { min: Some(8 << 20), ..Series::default() };
        assert_eq!(large.sizes(), Ok(vec![8 << 20]));
    }

    #[test]
    fn a_series_without_end_is_refused() {
        for (series, said) in [
            (series(9, 8, None, None), "-b 9 is larger than -e 8"),
            (series(8, 9, Some(1), None), "-f 1"),
            (series(8, 9, None, Some(0)), "-i 0"),
            (series(0, 8, Some(2), None), "-b 0"),
            (series(0, 1 << 30, None, Some(1)), "more than 10000"),
        ] {
            let why = series.sizes().unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn sizes_are_shown_with_their_unit() {
        let all = [8, 4096, 1536, 2 << 20, 5 << 29].map(show);
        assert_eq!(all, ["8 B", "4 KiB", "1.5 KiB", "2 MiB", "2.5 GiB"]);
    }
}
