//! Sums of floats are the same bits everywhere: on all ranks, over every transport, with every
//! algorithm, between threads and processes, and every time.

use nccl::DataType;
use nccl::Kind;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use tests::matrix;
use tests::matrix::Case;
use tests::oracle::Flavour;
use tests::processes;
use tests::processes::Processes;
use tests::threads::Threads;

const FLOATS: [DataType; 6] = [
    DataType::F16,
    DataType::BF16,
    DataType::F32,
    DataType::F64,
    DataType::F8E4M3,
    DataType::F8E5M2,
];
const OPS: [ReduceOp; 4] =
    [ReduceOp::Sum, ReduceOp::Product, ReduceOp::Avg, ReduceOp::PreMulSum(0.0)];

#[test]
fn a_rank_of_a_world_of_processes() {
    processes::serve(&[("digests", digests)]);
}

fn sum(kind: Kind, dtype: DataType, op: ReduceOp, count: usize, seed: u64) -> Case {
    Case { kind, dtype, op, count, root: 0, in_place: false, flavour: Flavour::Plain, seed }
}

/// Floating-point sums of many sizes, each twice, as digests that all ranks can compare.
fn digests(group: ProcessGroup) -> Result<String> {
    let mut digests = Vec::new();
    for dtype in FLOATS {
        for op in OPS {
            for count in [1, 63, 2048, 30_011] {
                let case = sum(Kind::AllReduce, dtype, op, count, 11);
                let first = matrix::bits(&group, &case)?;
                let again = matrix::bits(&group, &Case { in_place: true, ..case })?;
                assert!(first == again, "{case:?}: another time in place, other bits");
                digests.push(format!("{:016x}", digest(&first)));
            }
        }
    }
    group.finalize()?;
    Ok(digests.join(" "))
}

fn digest(bits: &[u64]) -> u64 {
    bits.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}

#[test]
fn sums_are_the_same_bits_whatever_carries_them() {
    for world_size in [2, 3, 6, 9] {
        let threads = || Threads::new(world_size);
        let processes = || Processes::new(world_size);
        let expected = threads().run(digests).unwrap().swap_remove(0);
        assert_eq!(expected.split(' ').count(), FLOATS.len() * OPS.len() * 4);
        let mut of_threads = vec![
            threads(), // another run
            threads().with("NCCL_P2P_DISABLE", "1"),
            threads().with("NCCL_RS_SHM_SLOT_BYTES", "2K").with("NCCL_P2P_DISABLE", "1"),
            threads().tcp(),
            threads().tcp().with("NCCL_SOCKET_NTHREADS", "2").with("NCCL_NSOCKS_PERTHREAD", "2"),
        ];
        of_threads.extend(["ring", "tree", "pat"].map(|name| threads().with("NCCL_ALGO", name)));
        for world in of_threads {
            let ranks = world.run(digests).unwrap();
            assert!(ranks.iter().all(|rank| *rank == expected), "{world:?}");
        }
        for world in [
            processes(),
            processes().with("NCCL_P2P_DISABLE", "1"),
            processes().with("NCCL_SHM_DISABLE", "1"),
            processes().with("NCCL_RS_TRANSPORT", "tcp").tcp_store(),
            processes().with("NCCL_RS_CMA_THRESHOLD", "1"),
        ] {
            let ranks = world.run("digests");
            assert!(ranks.iter().all(|rank| *rank == expected), "{world:?}");
        }
    }
}

#[test]
fn reduce_and_reduce_scatter_give_the_bits_of_all_reduce() {
    Threads::new(5)
        .run(|group| {
            let (rank, n) = (group.rank(), group.world_size());
            for dtype in FLOATS {
                for op in OPS {
                    for count in [1, 50, 7001] {
                        let whole = sum(Kind::AllReduce, dtype, op, n * count, 3);
                        let all = matrix::bits(&group, &whole)?;
                        let reduced =
                            matrix::bits(&group, &Case { kind: Kind::Reduce, root: 2, ..whole })?;
                        assert!(rank != 2 || reduced == all, "{whole:?}: reduce differs");
                        let part = sum(Kind::ReduceScatter, dtype, op, count, 3);
                        let part = matrix::bits(&group, &part)?;
                        assert!(part == all[rank * count..][..count], "{whole:?}: a part differs");
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

/// The order of ranks does matter: were the fold in another order, these tests would notice.
#[test]
fn another_order_of_ranks_is_another_sum() {
    Threads::new(5)
        .run(|group| {
            let reversed = group.subgroup_of(&[4, 3, 2, 1, 0])?.unwrap();
            let inputs: Vec<f32> = (0..1000)
                .map(|index| tests::oracle::Value::input(Flavour::Plain, group.rank(), index, 1))
                .collect();
            let (mut one, mut other) = (inputs.clone(), inputs);
            group.all_reduce_in_place(&mut one, ReduceOp::Sum)?;
            reversed.all_reduce_in_place(&mut other, ReduceOp::Sum)?;
            let differ = one.iter().zip(&other).filter(|(a, b)| a.to_bits() != b.to_bits());
            assert!(differ.count() > 100);
            Ok(())
        })
        .unwrap();
}
