//! One operation by name, as a test writes it: `all_reduce f32 1024 sum`, `broadcast i32 5 root 2`.

use core::fmt;

use nccl::Element;
use nccl::Error;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

/// An operation that a rank is to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    kind: String,
    dtype: String,
    count: usize,
    op: Option<String>,
    root: usize,
    /// The peer of a message.
    peer: usize,
    /// Counts by rank, for the forms that have them; the second list is that of the receives.
    counts: (Vec<usize>, Vec<usize>),
}

impl Call {
    /// Reads `kind [dtype count] [sum|prod|max|min] [root N] [peer N] [send 1,2] [recv 1,2]`.
    ///
    /// # Panics
    /// When the text is no call: it is written in a test.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut words = text.split(' ');
        let kind = words.next().unwrap_or_default().to_owned();
        let mut call = Self {
            kind,
            dtype: "u8".to_owned(),
            count: 0,
            op: None,
            root: 0,
            peer: 0,
            counts: (Vec::new(), Vec::new()),
        };
        let list = |word: Option<&str>| -> Vec<usize> {
            word.unwrap_or_default().split(',').map(|n| n.parse().expect("a count")).collect()
        };
        let number = |word: Option<&str>| word.and_then(|n| n.parse().ok()).expect("a number");
        while let Some(word) = words.next() {
            match word {
                "sum" | "prod" | "max" | "min" | "avg" => call.op = Some(word.to_owned()),
                "root" => call.root = number(words.next()),
                "peer" => call.peer = number(words.next()),
                "send" => call.counts.0 = list(words.next()),
                "recv" => call.counts.1 = list(words.next()),
                "f32" | "f64" | "i32" | "i64" | "u8" => {
                    call.dtype = word.to_owned();
                    call.count = number(words.next());
                }
                other => panic!("{other:?} in the call {text:?}"),
            }
        }
        call
    }

    /// How the library writes it as operation number `seq` of its group.
    #[must_use]
    pub fn described(&self, seq: usize) -> String {
        let Self { kind, dtype, count, op, root, .. } = self;
        let mut text = format!("#{seq} {kind}");
        match kind.as_str() {
            "barrier" => {}
            "all_to_all_v" => text.push_str(&format!(" {dtype}")),
            "all_gather_v" | "reduce_scatter_v" => {
                text.push_str(&format!(" {dtype} counts-digest "));
            }
            _ => text.push_str(&format!(" {dtype}\u{d7}{count}")),
        }
        if let Some(op) = op {
            text.push_str(&format!(" {op}"));
        }
        match kind.as_str() {
            "broadcast" | "reduce" | "gather" | "scatter" => {
                text.push_str(&format!(" root {root}"));
            }
            "send" | "recv" => text.push_str(" tag 0"),
            _ => {}
        }
        text
    }

    /// Calls it with zeroes.
    ///
    /// # Errors
    /// Those of the operation.
    ///
    /// # Panics
    /// When there is no such operation.
    pub fn run(&self, group: &ProcessGroup) -> Result<()> {
        match self.dtype.as_str() {
            "f32" => self.run_as::<f32>(group),
            "f64" => self.run_as::<f64>(group),
            "i32" => self.run_as::<i32>(group),
            "i64" => self.run_as::<i64>(group),
            _ => self.run_as::<u8>(group),
        }
    }

    fn run_as<T: Element + Default>(&self, group: &ProcessGroup) -> Result<()> {
        let (count, root) = (self.count, self.root);
        let (n, at_root) = (group.world_size(), group.rank() == root);
        let of = |count: usize| vec![T::default(); count];
        let if_root = |count: usize| of(if at_root { count } else { 0 });
        let (sends, recvs) = (&self.counts.0, &self.counts.1);
        match self.kind.as_str() {
            "barrier" => group.barrier(),
            "all_reduce" => group.all_reduce_in_place(&mut of(count), self.op()?),
            "broadcast" => group.broadcast(&mut of(count), root),
            "reduce" => group.reduce(&of(count), &mut if_root(count), self.op()?, root),
            "all_gather" => group.all_gather(&of(count), &mut of(n * count)),
            "reduce_scatter" => group.reduce_scatter(&of(n * count), &mut of(count), self.op()?),
            "all_to_all" => group.all_to_all(&of(n * count), &mut of(n * count)),
            "gather" => group.gather(&of(count), &mut if_root(n * count), root),
            "scatter" => group.scatter(&if_root(n * count), &mut of(count), root),
            "all_gather_v" => {
                let (own, all) = (recvs[group.rank()], recvs.iter().sum());
                group.all_gather_v(&of(own), &mut of(all), recvs)
            }
            "reduce_scatter_v" => {
                let (own, all) = (recvs[group.rank()], recvs.iter().sum());
                group.reduce_scatter_v(&of(all), &mut of(own), recvs, self.op()?)
            }
            "all_to_all_v" => {
                let (send, recv) = (sends.iter().sum(), recvs.iter().sum());
                group.all_to_all_v(&of(send), &mut of(recv), sends, recvs)
            }
            "send" => group.send(&of(count), self.peer),
            "recv" => group.recv(&mut of(count), self.peer),
            "nothing" => Ok(()),
            other => panic!("there is no operation {other:?}"),
        }
    }

    fn op(&self) -> Result<ReduceOp, Error> {
        Ok(match self.op.as_deref() {
            Some("prod") => ReduceOp::Product,
            Some("max") => ReduceOp::Max,
            Some("min") => ReduceOp::Min,
            Some("avg") => ReduceOp::Avg,
            _ => ReduceOp::Sum,
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.described(0))
    }
}
