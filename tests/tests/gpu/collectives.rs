//! Every collective, with every type and every reduction that NCCL has, compared exactly.

use nccl::DataType;
use nccl::F8E4M3;
use nccl::F8E5M2;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::bf16;
use nccl::cuda::DeviceVec;
use nccl::cuda::Stream;
use nccl::f16;
use tests::processes::Rank;

use crate::PATIENCE;
use crate::exact;
use crate::exact::Exact;
use crate::stream;
use crate::together;
use crate::world::How;
use crate::world::World;

pub(crate) const CASES: [(&str, Rank); 3] =
    [("collectives", collectives), ("some_collectives", some), ("large", large)];

/// Elements per part: one, and more than a warp, no multiple of anything.
const COUNTS: [usize; 2] = [1, 1237];

#[test]
fn every_collective_is_right_in_threads_that_share_the_gpu() {
    for size in [1, 2, 3, 4] {
        let Some(world) = World::new(How::Threads, size) else { return };
        world.run("collectives");
    }
}

#[test]
fn collectives_are_right_in_processes_that_share_the_gpu() {
    for size in [2, 3] {
        let Some(world) = World::new(How::Processes, size) else { return };
        world.run("some_collectives");
    }
}

#[test]
fn calls_that_may_wait_inside_nccl_give_the_same() {
    let Some(world) = World::new(How::Processes, 2) else { return };
    world.with("NCCL_RS_NCCL_BLOCKING", "1").run("some_collectives");
}

#[test]
fn every_collective_is_right_through_host_memory() {
    for (how, size) in [(How::Threads, 3), (How::Processes, 4)] {
        let Some(world) = World::new(how, size) else { return };
        let world = world.with("NCCL_RS_BACKEND", "cpu");
        assert!(world.run("collectives").iter().all(|text| text.starts_with("cpu: ")));
    }
}

#[test]
fn an_older_nccl_serves_one_rank() {
    let Some(machine) = crate::machine::machine() else { return };
    let Some(library) = &machine.old_nccl else {
        return tests::wheels::skipped("gpu_old", "NCCL_RS_GPU_OLD_NCCL_LIB names no NCCL 2.28.9");
    };
    let Some(world) = World::new(How::Processes, 1) else { return };
    let texts = world.with("NCCL_RS_NCCL_LIB", &library.display().to_string()).run("collectives");
    assert!(texts[0].ends_with(" NCCL 2.28.9"), "{texts:?}");
}

#[test]
fn large_sums_are_right() {
    for backend in ["nccl", "cpu"] {
        let Some(world) = World::new(How::Threads, 2) else { return };
        world.with("NCCL_RS_BACKEND", backend).run("large");
    }
}

/// All of them.
fn collectives(group: ProcessGroup) -> Result<String> {
    macro_rules! all {
        ($($type:ident),*) => { [$(Check::<$type>::all),*] };
    }
    let all = all![i8, u8, i32, u32, i64, u64, f16, bf16, f32, f64, F8E4M3, F8E5M2];
    assert_eq!(all.len(), DataType::ALL.len());
    checked(group, &all)
}

/// Of three types: ranks in processes take turns on the GPU, which is slow.
fn some(group: ProcessGroup) -> Result<String> {
    checked(group, &[Check::<f32>::all, Check::<bf16>::all, Check::<i64>::all])
}

fn checked(
    group: ProcessGroup,
    all: &[fn(&ProcessGroup, &Stream) -> Result<usize>],
) -> Result<String> {
    let stream = stream(&group)?;
    let mut calls = 0;
    for check in all {
        calls += check(&group, &stream)?;
    }
    group.barrier()?;
    let name = group.backend_name();
    let version = match name {
        "nccl" => format!(" NCCL {}", nccl::comm::Nccl::get()?.version()),
        _ => String::new(),
    };
    group.finalize()?;
    Ok(format!("{name}: {calls} calls,{version}"))
}

/// 64 MiB, summed three times.
fn large(group: ProcessGroup) -> Result<String> {
    const COUNT: usize = 16 << 20;
    let stream = stream(&group)?;
    let mine: Vec<f32> = (0..COUNT).map(|at| ((group.rank() + at) % 7) as f32).collect();
    let mut buf = DeviceVec::from_slice(&stream, &mine, PATIENCE)?;
    together(&group, &stream, || {
        (0..3).try_for_each(|_| group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum))
    })?;
    let n = group.world_size();
    let again = (n * n) as f32;
    let sum = |at: usize| (0..n).map(|rank| ((rank + at) % 7) as f32).sum::<f32>() * again;
    let got = buf.to_vec(&stream, PATIENCE)?;
    let wrong = got.iter().enumerate().find(|(at, got)| **got != sum(*at));
    assert!(wrong.is_none(), "{wrong:?}");
    drop(buf);
    group.barrier()?;
    group.finalize()?;
    Ok(format!("{} MiB", (COUNT * 4) >> 20))
}

/// The calls of one type and count.
struct Check<'a, T> {
    group: &'a ProcessGroup,
    stream: &'a Stream,
    count: usize,
    calls: usize,
    element: core::marker::PhantomData<T>,
}

impl<T: Exact> Check<'_, T> {
    fn all(group: &ProcessGroup, stream: &Stream) -> Result<usize> {
        let mut calls = 0;
        for count in COUNTS {
            let element = core::marker::PhantomData;
            let mut check = Check::<T> { group, stream, count, calls: 0, element };
            check.moves()?;
            for op in exact::ops(T::DTYPE, group.world_size()) {
                check.reduces(op)?;
            }
            calls += check.calls;
        }
        Ok(calls)
    }

    fn up(&self, count: usize, number: impl Fn(usize) -> f32) -> Result<DeviceVec<T>> {
        let all: Vec<T> = (0..count).map(|at| T::of(number(at))).collect();
        DeviceVec::from_slice(self.stream, &all, PATIENCE)
    }

    /// An output: no number of these tests.
    fn junk(&self, count: usize) -> Result<DeviceVec<T>> {
        self.up(count, |_| 12.0)
    }

    fn call(&self, call: impl FnOnce() -> Result<()>) -> Result<()> {
        together(self.group, self.stream, call)
    }

    #[track_caller]
    fn same(&mut self, what: &str, got: &DeviceVec<T>, number: impl Fn(usize) -> f32) {
        self.calls += 1;
        let got = got.to_vec(self.stream, PATIENCE).unwrap();
        let wrong = |(at, got): &(usize, &T)| got.bits() != T::of(number(*at)).bits();
        if let Some((at, got)) = got.iter().enumerate().find(wrong) {
            let (dtype, count, member) = (T::DTYPE, self.count, self.group.member());
            let expected = number(at);
            panic!("{what} {dtype}x{count} {member:?}: [{at}] is {got:?}, expected {expected}");
        }
    }

    fn reduces(&mut self, op: ReduceOp) -> Result<()> {
        let (on, n, count) = (self.group.on(self.stream), self.group.world_size(), self.count);
        let rank = self.group.rank();
        let mine = |at| exact::input(op, rank, at, n);
        let out = |at| exact::output(op, at, n, T::DTYPE.is_integer());
        let name = |what: &str| format!("{what} {op}");

        let (send, mut recv) = (self.up(count, mine)?, self.junk(count)?);
        self.call(|| on.all_reduce(&send, &mut recv, op))?;
        self.same(&name("all_reduce"), &recv, out);
        let mut buf = self.up(count, mine)?;
        self.call(|| on.all_reduce_in_place(&mut buf, op))?;
        self.same(&name("all_reduce_in_place"), &buf, out);

        for root in [0, n - 1] {
            let mut recv = self.junk(count)?;
            let is_root = rank == root;
            self.call(|| on.reduce(&send, is_root.then_some(&mut recv), op, root))?;
            self.same(&name("reduce"), &recv, |at| if is_root { out(at) } else { 12.0 });
        }

        let wide = self.up(count * n, mine)?;
        self.call(|| on.reduce_scatter(&wide, &mut recv, op))?;
        self.same(&name("reduce_scatter"), &recv, |at| out(rank * count + at));
        let counts: Vec<usize> = (0..n).map(|rank| rank * count).collect();
        let begin: usize = counts[..rank].iter().sum();
        let uneven = self.up(counts.iter().sum(), mine)?;
        let mut recv = self.junk(counts[rank])?;
        self.call(|| on.reduce_scatter_v(&uneven, &mut recv, &counts, op))?;
        self.same(&name("reduce_scatter_v"), &recv, |at| out(begin + at));
        Ok(())
    }

    fn moves(&mut self) -> Result<()> {
        let (on, n, count) = (self.group.on(self.stream), self.group.world_size(), self.count);
        let rank = self.group.rank();
        let number = |rank: usize, at: usize| ((3 * rank + at) % 8) as f32;
        let (send, mut recv) = (self.up(count, |at| number(rank, at))?, self.junk(count)?);
        let wide = self.up(count * n, |at| number(rank, at))?;
        let mut all = self.junk(count * n)?;

        for root in [0, n - 1] {
            let mut buf = self.up(count, |at| number(rank, at))?;
            self.call(|| on.broadcast(&mut buf, root))?;
            self.same("broadcast", &buf, |at| number(root, at));
            let is_root = rank == root;
            let mut gathered = self.junk(count * n)?;
            self.call(|| on.gather(&send, is_root.then_some(&mut gathered), root))?;
            let of = |at: usize| if is_root { number(at / count, at % count) } else { 12.0 };
            self.same("gather", &gathered, of);
            self.call(|| on.scatter(is_root.then_some(&wide), &mut recv, root))?;
            self.same("scatter", &recv, |at| number(root, rank * count + at));
        }

        self.call(|| on.all_gather(&send, &mut all))?;
        self.same("all_gather", &all, |at| number(at / count, at % count));
        self.call(|| on.all_to_all(&wide, &mut all))?;
        self.same("all_to_all", &all, |at| number(at / count, rank * count + at % count));

        let (right, left) = ((rank + 1) % n, (rank + n - 1) % n);
        self.call(|| on.batch().send(&send, right)?.recv(&mut recv, left)?.run())?;
        self.same("a ring", &recv, |at| number(left, at));
        self.uneven(number)
    }

    fn uneven(&mut self, number: impl Fn(usize, usize) -> f32) -> Result<()> {
        let (on, n, count) = (self.group.on(self.stream), self.group.world_size(), self.count);
        let rank = self.group.rank();
        let counts: Vec<usize> = (0..n).map(|rank| rank * count).collect();
        let total: usize = counts.iter().sum();
        let part = self.up(counts[rank], |at| number(rank, at))?;
        let mut all = self.junk(total)?;
        self.call(|| on.all_gather_v(&part, &mut all, &counts))?;
        let expected: Vec<f32> = (0..n)
            .flat_map(|from| (0..counts[from]).map(move |at| (from, at)))
            .map(|(from, at)| number(from, at))
            .collect();
        self.same("all_gather_v", &all, |at| expected[at]);

        // Rank a sends rank b a * count elements; it gets from every rank what that one's is.
        let sends = vec![counts[rank]; n];
        let wide = self.up(counts[rank] * n, |at| number(rank, at))?;
        self.call(|| on.all_to_all_v(&wide, &mut all, &sends, &counts))?;
        let expected: Vec<f32> = (0..n)
            .flat_map(|from| (0..counts[from]).map(move |at| (from, rank * from * count + at)))
            .map(|(from, at)| number(from, at))
            .collect();
        self.same("all_to_all_v", &all, |at| expected[at]);
        Ok(())
    }
}
