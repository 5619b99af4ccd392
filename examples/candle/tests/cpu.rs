//! Ranks as threads, on CPU tensors.

use std::sync::Arc;

use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use example_candle::AllReduce;
use example_candle::AllReduceInPlace;
use example_candle::ColumnParallel;
use example_candle::RowParallel;
use nccl::ProcessGroup;
use nccl::ReduceOp;

type Outcome = Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>>;

/// What each of `n` ranks gets.
fn ranks(n: usize, rank: impl Fn(Arc<ProcessGroup>) -> Outcome + Sync) -> Vec<Vec<f32>> {
    nccl::run_threads(n, |group| Ok(rank(Arc::new(group)).map_err(|error| error.to_string())))
        .unwrap()
        .into_iter()
        .map(|outcome| outcome.unwrap())
        .collect()
}

fn entries(rows: usize, columns: usize, seed: usize) -> Tensor {
    let all: Vec<f32> = (0..rows * columns).map(|at| ((at * 31 + seed) % 7) as f32 - 3.0).collect();
    Tensor::from_vec(all, (rows, columns), &Device::Cpu).unwrap()
}

#[test]
fn layers_spread_over_ranks_equal_those_of_one_rank() {
    let (x, first, second) = (entries(4, 8, 1), entries(8, 24, 2), entries(24, 8, 3));
    let alone = x.matmul(&first).unwrap().relu().unwrap().matmul(&second).unwrap();
    let alone: Vec<f32> = alone.flatten_all().unwrap().to_vec1().unwrap();
    assert!(alone.iter().any(|value| *value != 0.0));
    for n in [1, 2, 4] {
        let all = ranks(n, |group| {
            let columns = ColumnParallel::new(&group, &first)?;
            let rows = RowParallel::new(&group, &second)?;
            let out = rows.forward(&columns.forward(&x)?.relu()?)?;
            Ok(out.flatten_all()?.to_vec1()?)
        });
        assert_eq!(all, vec![alone.clone(); n], "{n} ranks");
    }
}

#[test]
fn a_part_of_a_storage_is_reduced_in_place_and_nothing_else() {
    let all = ranks(2, |group| {
        let tensor = Tensor::new(&[[1.0_f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
        let sum = AllReduceInPlace::new(&group, ReduceOp::Sum);
        tensor.narrow(0, 1, 1)?.inplace_op1(&sum)?;
        Ok(tensor.flatten_all()?.to_vec1()?)
    });
    assert_eq!(all, vec![vec![1.0, 2.0, 6.0, 8.0]; 2]);
}

#[test]
fn half_precision_and_other_reductions_are_the_groups() {
    let all = ranks(2, |group| {
        let mine = Tensor::new(&[group.rank() as f32, 4.0], &Device::Cpu)?.to_dtype(DType::BF16)?;
        let average = mine.apply_op1_no_bwd(&AllReduce::new(&group, ReduceOp::Avg))?;
        Ok(average.to_dtype(DType::F32)?.to_vec1()?)
    });
    assert_eq!(all, vec![vec![0.5, 4.0]; 2]);
}

#[test]
fn what_cannot_be_reduced_is_an_error_that_says_what_to_do() {
    let all = ranks(1, |group| {
        let tensor = entries(2, 3, 0).t()?;
        let sum = AllReduce::new(&group, ReduceOp::Sum);
        let error = tensor.apply_op1_no_bwd(&sum).unwrap_err().to_string();
        assert!(error.contains("call `contiguous()`"), "{error}");
        let shorts = tensor.contiguous()?.to_dtype(DType::I16)?;
        let error = shorts.apply_op1_no_bwd(&sum).unwrap_err().to_string();
        assert!(error.contains("no group reduces"), "{error}");
        Ok(Vec::new())
    });
    assert_eq!(all.len(), 1);
}
