//! The arguments of `nccl perf`, checked and completed: every cell in the order of the report.

use std::path::PathBuf;
use std::time::Duration;

use nccl::DataType;
use nccl::ReduceOp;
use nccl::config::BackendChoice;
use nccl::config::TransportChoice;

use crate::perf::Args;
use crate::perf::cell::Cell;
use crate::perf::cell::Collective;
use crate::perf::cell::Place;
use crate::perf::memory::Memory;
use crate::perf::sizes::Series;
use crate::perf::time::Effort;

/// What all ranks do.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// In order.
    pub(crate) cells: Vec<Cell>,
    /// The forms asked for.
    pub(crate) places: Vec<Place>,
    /// Which buffers, if it was said.
    pub(crate) memory: Option<Memory>,
    /// How long.
    pub(crate) effort: Effort,
    /// Whether results are compared.
    pub(crate) check: bool,
    /// Whether one element is made wrong, to see that it is found.
    pub(crate) corrupt: bool,
    /// Only who reaches whom how.
    pub(crate) matrix_only: bool,
    /// What is left out, one sentence each.
    pub(crate) notes: Vec<String>,
    /// Of the builder.
    pub(crate) settings: Settings,
}

/// How the group is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) backend: Option<BackendChoice>,
    pub(crate) transport: Option<TransportChoice>,
    pub(crate) timeout: Option<Duration>,
}

/// Where the report goes.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) json: Option<PathBuf>,
    pub(crate) csv: Option<PathBuf>,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) peer: String,
    /// Whether lines on standard error say how far it is.
    pub(crate) progress: bool,
}

impl Work {
    /// Checks what clap cannot, for a world of `world_size`.
    ///
    /// # Errors
    /// Names the option and says what to write.
    pub(crate) fn new(args: &Args, world_size: usize) -> Result<Self, String> {
        let series = Series {
            min: args.min,
            max: args.max,
            factor: args.factor,
            step: args.step,
            list: args.sizes.clone(),
        };
        let sizes = series.sizes()?;
        let places = match (args.in_place, args.out_of_place) {
            (true, false) => vec![Place::In],
            (false, true) => vec![Place::Out],
            _ => vec![Place::Out, Place::In],
        };
        let mut notes = Vec::new();
        let collectives =
            with_places(collectives(&args.collectives)?, &places, &args.collectives, &mut notes)?;
        let reductions =
            Reductions::new(args, collectives.iter().any(|one| one.reduces()), &mut notes)?;
        let roots = roots(&args.root, world_size)?;
        let mut cells = Vec::new();
        for collective in collectives {
            for dtype in &reductions.dtypes {
                for op in reductions.of(collective, *dtype) {
                    let all = if collective.is_rooted() { roots.clone() } else { vec![None] };
                    for root in all {
                        let barrier = collective == Collective::Barrier;
                        let sizes = if barrier { &[0][..] } else { &sizes };
                        cells.extend(sizes.iter().map(|asked_bytes| Cell {
                            collective,
                            asked_bytes: *asked_bytes,
                            dtype: *dtype,
                            op,
                            root,
                            world_size,
                        }));
                    }
                }
                if collective == Collective::Barrier {
                    break;
                }
            }
        }
        let budget = args.budget;
        let effort = Effort { iters: args.iters, warmup: args.warmup, budget };
        let settings =
            Settings { backend: args.backend, transport: args.transport, timeout: args.timeout };
        Ok(Self {
            cells,
            places,
            memory: args.memory,
            effort,
            check: args.check == 1,
            corrupt: args.corrupt,
            matrix_only: args.matrix,
            notes,
            settings,
        })
    }
}

fn is_all(text: &str) -> bool {
    text.eq_ignore_ascii_case("all")
}

fn collectives(names: &[String]) -> Result<Vec<Collective>, String> {
    if names.iter().any(|name| is_all(name)) {
        return Ok(Collective::ALL.to_vec());
    }
    if names.is_empty() {
        return Ok(vec![Collective::AllReduce]);
    }
    let mut chosen = Vec::new();
    for name in names {
        let one = Collective::from_name(name).ok_or_else(|| {
            let known: Vec<&str> = Collective::ALL.into_iter().map(Collective::name).collect();
            format!("{name:?} is no collective; there are {} and all", known.join(", "))
        })?;
        if !chosen.contains(&one) {
            chosen.push(one);
        }
    }
    Ok(chosen)
}

/// Leaves out what has no form that was asked for.
fn with_places(
    chosen: Vec<Collective>,
    places: &[Place],
    names: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<Collective>, String> {
    let mut kept = Vec::new();
    for one in chosen {
        let form = if places == [Place::In] { "in place" } else { "out of place" };
        if one.places().iter().any(|place| places.contains(place)) {
            kept.push(one);
        } else if names.iter().any(|name| is_all(name)) {
            notes.push(format!("{} is left out: it does not exist {form}", one.name()));
        } else {
            return Err(format!("{} does not exist {form}", one.name()));
        }
    }
    Ok(kept)
}

/// The types and the reductions asked for.
struct Reductions {
    dtypes: Vec<DataType>,
    ops: Vec<ReduceOp>,
}

impl Reductions {
    /// The combinations that do not exist are left out under `all`, else an error.
    fn new(args: &Args, reduces: bool, notes: &mut Vec<String>) -> Result<Self, String> {
        let dtypes = list(&args.dtype, &DataType::ALL, "-d", "type", dtype, DataType::name)?;
        let ops = list(&args.op, &OPS, "-o", "reduction", op, ReduceOp::name)?;
        let by_all = is_all(&args.dtype) || is_all(&args.op);
        let bad = |op: &ReduceOp| {
            let bad = dtypes.iter().filter(|dtype| !exists(*op, **dtype));
            let names: Vec<&str> = bad.map(|dtype| dtype.name()).collect();
            (!names.is_empty()).then(|| {
                let name = op.name();
                let of = if name == "mulsum" { "floating-point types" } else { "integers" };
                format!("-o {name} exists for {of} only, not for {}", names.join(", "))
            })
        };
        for problem in ops.iter().filter_map(bad).filter(|_| reduces) {
            if !by_all {
                return Err(problem);
            }
            notes.push(format!("{problem}; left out"));
        }
        let reductions = Self { dtypes, ops };
        let any = reductions
            .ops
            .iter()
            .any(|op| reductions.dtypes.iter().any(|dtype| exists(*op, *dtype)));
        if reduces && !any {
            return Err(format!("no -o {} exists for -d {}", args.op, args.dtype));
        }
        Ok(reductions)
    }

    fn of(&self, collective: Collective, dtype: DataType) -> Vec<Option<ReduceOp>> {
        if !collective.reduces() {
            return vec![None];
        }
        self.ops.iter().filter(|op| exists(**op, dtype)).map(|op| Some(*op)).collect()
    }
}

/// Every reduction. The factor of `mulsum` is each rank's own, see [`crate::perf::check::factor`].
const OPS: [ReduceOp; 9] = [
    ReduceOp::Sum,
    ReduceOp::Product,
    ReduceOp::Min,
    ReduceOp::Max,
    ReduceOp::Avg,
    ReduceOp::PreMulSum(2.0),
    ReduceOp::BitAnd,
    ReduceOp::BitOr,
    ReduceOp::BitXor,
];

fn exists(op: ReduceOp, dtype: DataType) -> bool {
    match op {
        ReduceOp::PreMulSum(_) => !dtype.is_integer(),
        ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor => dtype.is_integer(),
        _ => true,
    }
}

/// Reads `all` or names with commas between them.
fn list<T: Copy>(
    text: &str,
    all: &[T],
    option: &str,
    noun: &str,
    read: fn(&str) -> Option<T>,
    name: impl Fn(T) -> &'static str,
) -> Result<Vec<T>, String> {
    if is_all(text) {
        return Ok(all.to_vec());
    }
    let one = |word: &str| {
        read(word.trim()).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|one| name(*one)).collect();
            format!("{option} {word:?} is no {noun}; there are {} and all", known.join(", "))
        })
    };
    text.split(',').map(one).collect()
}

/// The type of that name; nccl-tests' names count too.
fn dtype(name: &str) -> Option<DataType> {
    let name = name.to_ascii_lowercase();
    let nccl_tests = match name.as_str() {
        "int8" => "i8",
        "uint8" => "u8",
        "int32" | "int" => "i32",
        "uint32" => "u32",
        "int64" => "i64",
        "uint64" => "u64",
        "half" | "float16" => "f16",
        "float" | "float32" => "f32",
        "double" | "float64" => "f64",
        "bfloat16" => "bf16",
        "fp8_e4m3" => "f8e4m3",
        "fp8_e5m2" => "f8e5m2",
        other => other,
    };
    DataType::ALL.into_iter().find(|one| one.name() == nccl_tests)
}

fn op(name: &str) -> Option<ReduceOp> {
    OPS.into_iter().find(|one| one.name().eq_ignore_ascii_case(name))
}

/// Every root asked for.
fn roots(text: &str, world_size: usize) -> Result<Vec<Option<usize>>, String> {
    if is_all(text) || text == "-1" {
        return Ok((0..world_size).map(Some).collect());
    }
    let root: usize = text.parse().map_err(|_| format!("-r {text:?} is neither a rank nor all"))?;
    if root >= world_size {
        let last = world_size.saturating_sub(1);
        return Err(format!("-r {root} is not one of the {world_size} ranks, 0 to {last}"));
    }
    Ok(vec![Some(root)])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn work(line: &str) -> Result<Work, String> {
        let words = std::iter::once("perf").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|why| why.to_string())?;
        Work::new(&cli.args, 4)
    }

    #[test]
    fn a_sum_of_f32_at_the_default_sizes_unless_told_otherwise() {
        let work = work("").unwrap();
        assert_eq!(work.cells.len(), 7);
        for cell in &work.cells {
            let of = (cell.collective, cell.dtype, cell.op, cell.root);
            assert_eq!(of, (Collective::AllReduce, DataType::F32, Some(ReduceOp::Sum), None));
        }
        assert!(work.check && !work.corrupt && work.notes.is_empty());
    }

    #[test]
    fn all_is_every_combination_that_exists() {
        let work = work("all -d all -o all -r all --sizes 8").unwrap();
        let of = |one| work.cells.iter().filter(|cell| cell.collective == one).count();
        // 6 integer types with 8 reductions, 6 floats with 6; 12 types; 4 roots.
        assert_eq!(of(Collective::AllReduce), 84);
        assert_eq!(of(Collective::Reduce), 84 * 4);
        assert_eq!(of(Collective::AllGather), 12);
        assert_eq!(of(Collective::Broadcast), 48);
        assert_eq!(of(Collective::Barrier), 1);
        assert_eq!(work.notes.len(), 4, "{:?}", work.notes);
    }

    #[test]
    fn names_of_nccl_tests_are_understood() {
        let work = work("alltoall -d bfloat16,half --sizes 8").unwrap();
        let dtypes: Vec<DataType> = work.cells.iter().map(|cell| cell.dtype).collect();
        assert_eq!(dtypes, [DataType::BF16, DataType::F16]);
    }

    #[test]
    fn what_cannot_be_is_named_with_what_can() {
        for (line, said) in [
            ("all_reduced", "\"all_reduced\" is no collective; there are all_reduce, all_gather"),
            ("-d f33", "-d \"f33\" is no type; there are i8"),
            ("-o summ", "-o \"summ\" is no reduction; there are sum"),
            ("-o band", "-o band exists for integers only, not for f32"),
            ("-o mulsum -d i8,f32", "-o mulsum exists for floating-point types only, not for i8"),
            ("-r 4", "-r 4 is not one of the 4 ranks, 0 to 3"),
            ("-r x", "-r \"x\" is neither a rank nor all"),
            ("-b 8 -e 4", "-b 8 is larger than -e 4"),
            ("-b 8X", "not a size"),
            ("-f 2 -i 8", "cannot be used with"),
            ("--sizes 8 -b 4", "cannot be used with"),
            ("broadcast --out-of-place", "broadcast does not exist out of place"),
            ("gather --in-place", "gather does not exist in place"),
            ("-c 2", "2 is not in 0..=1"),
            ("--iters 0", "0 is not in 1.."),
            ("--budget -1", "unexpected argument '-1'"),
            ("--transport ib", "must be shm or tcp"),
            ("--backend gloo", "must be auto, cpu or nccl"),
            ("--memory gpu", "must be host or device"),
        ] {
            let why = work(line).map(|work| work.cells.len()).unwrap_err();
            assert!(why.contains(said), "{line}: {why}");
        }
    }
}
