//! Operations and subgroups.

use nccl::DataType;
use nccl::Kind;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::comm::Nccl;
use nccl::comm::Version;
use nccl::cuda::DeviceVec;
use tests::cases;
use tests::matrix::Case;

use tests::matrix::device;
use tests::oracle::Flavour;

use super::PATIENCE;
use super::filled;
use super::numbers;
use super::stream;
use super::world;

#[test]
fn every_operation_runs_on_the_fake_nccl_of_each_version() {
    for version in ["2.18.3", "2.23.4", "2.28.9", "2.32.3"] {
        let library = tests::fakes::nccl_as(version);
        for world_size in [1, 2, 3, 4] {
            let (world, _folder) = world(world_size);
            let world = world.with("NCCL_RS_NCCL_LIB", &library.display().to_string());
            let expected = vec![format!("nccl {version}"); world_size];
            assert_eq!(world.run("every_operation"), expected, "{world_size} ranks");
        }
    }
}

#[test]
fn calls_that_may_wait_inside_the_fake_nccl_give_the_same() {
    let (world, _folder) = world(3);
    let world = world.with("NCCL_RS_NCCL_BLOCKING", "1");
    assert_eq!(world.run("every_operation"), ["nccl 2.32.3"; 3]);
}

#[test]
fn subgroups_have_communicators_of_their_own_on_the_fake_nccl() {
    let (world, _folder) = world(4);
    assert_eq!(world.run("subgroups"), ["8", "10", "8", "10"]);
}

#[test]
fn the_matrix_of_collectives_gives_the_oracles_results_on_the_fake_nccl_of_each_version() {
    let mut checked = 0;
    for (version, sizes) in
        [("2.18.3", &[3][..]), ("2.23.4", &[2]), ("2.28.9", &[4]), ("2.32.3", &[1, 2, 3, 5])]
    {
        let library = tests::fakes::nccl_as(version);
        for world_size in sizes {
            let (world, _folder) = world(*world_size);
            let world = world.with("NCCL_RS_NCCL_LIB", &library.display().to_string());
            // A thread for each call would be most of the time.
            let texts = world.with("NCCL_RS_NCCL_BLOCKING", "1").run("matrix");
            let count: usize = texts[0].parse().unwrap();
            assert!(count > 1000, "{version}, {world_size} ranks: {count} cases");
            assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
            checked += count;
        }
    }
    println!("fake NCCL: {checked} cases");
}

/// What NCCL has of the cases of all backends; compared with the oracle.
pub(super) fn matrix(group: ProcessGroup) -> Result<String> {
    let fp8 = Nccl::get()?.version() >= Version::new(2, 24, 3);
    let here = |case: &Case| {
        let bitwise = matches!(case.op, ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor);
        let narrow = matches!(case.dtype, DataType::F8E4M3 | DataType::F8E5M2);
        case.kind != Kind::Barrier
            && !bitwise
            && (fp8 || !narrow)
            && !(case.kind == Kind::AllToAll && case.in_place)
            // NCCL says nothing of NaNs, of the sign of a zero that is a minimum or maximum, and
            // takes a factor as an element of the type.
            && matches!(case.flavour, Flavour::Plain)
            && !(matches!(case.op, ReduceOp::Min | ReduceOp::Max) && !case.dtype.is_integer())
            && !(matches!(case.op, ReduceOp::PreMulSum(_)) && case.dtype.size_bytes() < 4)
            && case.count < 10_000
    };
    let cases: Vec<Case> = cases::matrix(group.world_size()).into_iter().filter(here).collect();
    let checked = device::check_all(&group, &stream(&group)?, &cases)?;
    group.finalize()?;
    Ok(checked.to_string())
}

/// Every operation once, with checked results.
pub(super) fn every_operation(group: ProcessGroup) -> Result<String> {
    let (rank, size) = (group.rank(), group.world_size());
    let stream = stream(&group)?;
    let on = group.on(&stream);
    let n = 5;
    let all: Vec<Vec<f32>> = (0..size).map(|rank| numbers(rank, n)).collect();
    let sum = |at: usize| all.iter().map(|one| one[at]).sum::<f32>();
    let read = |buf: &DeviceVec<f32>| buf.to_vec(&stream, PATIENCE);
    let blocks = |count: usize| -> Vec<Vec<f32>> {
        (0..size).map(|rank| numbers(rank, count * size)).collect()
    };

    let mine = filled(&stream, rank, n)?;
    let mut out = filled(&stream, 99, n)?;
    on.all_reduce(&mine, &mut out, ReduceOp::Sum)?;
    assert_eq!(read(&out)?, (0..n).map(sum).collect::<Vec<f32>>(), "all_reduce");
    on.all_reduce(&mine, &mut out, ReduceOp::PreMulSum(0.5))?;
    assert_eq!(read(&out)?, (0..n).map(|at| sum(at) * 0.5).collect::<Vec<f32>>(), "factors");
    on.all_reduce(&mine, &mut out, ReduceOp::Max)?;
    assert_eq!(read(&out)?, numbers(size - 1, n), "max");

    let mut buf = filled(&stream, rank, n)?;
    on.broadcast(&mut buf, size - 1)?;
    assert_eq!(read(&buf)?, numbers(size - 1, n), "broadcast");

    let mut gathered = filled(&stream, 99, n * size)?;
    on.all_gather(&mine, &mut gathered)?;
    assert_eq!(read(&gathered)?, all.concat(), "all_gather");

    let wide = filled(&stream, rank, n * size)?;
    on.reduce_scatter(&wide, &mut out, ReduceOp::Sum)?;
    let part = |at: usize| blocks(n).iter().map(|one| one[rank * n + at]).sum::<f32>();
    assert_eq!(read(&out)?, (0..n).map(part).collect::<Vec<f32>>(), "reduce_scatter");

    on.all_to_all(&wide, &mut gathered)?;
    let expected: Vec<f32> =
        blocks(n).iter().flat_map(|one| one[rank * n..(rank + 1) * n].to_vec()).collect();
    assert_eq!(read(&gathered)?, expected, "all_to_all");

    let (right, left) = ((rank + 1) % size, (rank + size - 1) % size);
    if size > 1 {
        on.batch().send(&mine, right)?.recv(&mut out, left)?.run()?;
        assert_eq!(read(&out)?, numbers(left, n), "ring");
    }

    // The host's side of the same group.
    group.barrier()?;
    let mut host = [rank as f64];
    group.all_reduce_in_place(&mut host, ReduceOp::Sum)?;
    assert_eq!(host, [(0..size).sum::<usize>() as f64]);
    let text = format!("{} {}", group.backend_name(), Nccl::get()?.version());
    group.finalize()?;
    Ok(text)
}

/// Sums in subgroups of even and odd ranks, and in the world reversed.
pub(super) fn subgroups(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let color = u32::try_from(group.rank() % 2).unwrap();
    let half = group.split(Some(color), 0)?.unwrap();
    let value = |value: usize| DeviceVec::from_slice(&stream, &[value as f32], PATIENCE);
    let mut sum = value(group.rank() + 3)?;
    half.on(&stream).all_reduce_in_place(&mut sum, ReduceOp::Sum)?;
    let half_sum = sum.to_vec(&stream, PATIENCE)?[0];
    // Beside it the world's own communicator works on, in the same stream.
    let mut world = value(1)?;
    group.on(&stream).all_reduce_in_place(&mut world, ReduceOp::Sum)?;
    assert_eq!(world.to_vec(&stream, PATIENCE)?, [4.0]);
    // Rank i of the reversed group is rank 3 - i of the world: its member order is NCCL's.
    let reversed = group.split(Some(0), -i64::try_from(group.rank()).unwrap())?.unwrap();
    let mut all = DeviceVec::from_slice(&stream, &[0.0_f32; 4], PATIENCE)?;
    reversed.on(&stream).all_gather(&value(group.rank())?, &mut all)?;
    assert_eq!(all.to_vec(&stream, PATIENCE)?, [3.0, 2.0, 1.0, 0.0]);
    reversed.finalize()?;
    half.finalize()?;
    group.finalize()?;
    Ok(half_sum.to_string())
}
