//! Data-parallel training: every rank learns from its part of the data, and the gradients are
//! averaged; all ranks keep the same parameters without ever sending them.
//!
//! A network of 2 inputs, 16 hidden units and 1 output learns whether two numbers have the same
//! sign. The gradient of the last layer travels while that of the first one is still computed: that
//! is what [`ProcessGroup::scope`] is for.
//!
//! Run `nccl run -n 4 --example train`; it prints
//!
//! ```text
//! [rank 0] step   0: loss 1.1537
//! [rank 0] step 100: loss 0.4129
//! [rank 0] step 200: loss 0.3150
//! [rank 0] step 300: loss 0.2909
//! [rank 0] step 400: loss 0.2748
//! [rank 0] right: 233 of 240
//! [rank 0] ranks with the same parameters, bit for bit: 4 of 4
//! [rank 0] checksum e61866f0eb20502f
//! ```
//!
//! The parameters are the same bits on all ranks and from run to run, because sums are taken in rank
//! order; another number of ranks sums in another order and gives (slightly) other parameters.

use examples::part;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

const HIDDEN: usize = 16;
const SAMPLES: usize = 240; // the same number on each of 1, 2, 3, 4, 5, 6 or 8 ranks
const STEPS: usize = 400;
const RATE: f32 = 0.1;

fn main() -> Result<()> {
    let group = ProcessGroup::from_env()?;
    let mut random = Random(7);
    let data: Vec<[f32; 2]> = (0..SAMPLES).map(|_| [random.next(), random.next()]).collect();
    let mut model = Model::new(&mut random);
    let mine = &data[part(&group, SAMPLES)];

    for step in 0..=STEPS {
        let (mut last, mut first) = (vec![0.0; HIDDEN + 1], vec![0.0; 3 * HIDDEN]);
        let mut loss = [0.0_f32];
        let hidden: Vec<Vec<f32>> = mine.iter().map(|sample| model.hidden(sample)).collect();
        let errors = model.last_gradient(mine, &hidden, &mut last, &mut loss);
        group.scope(|scope| {
            scope.all_reduce(&mut last, ReduceOp::Avg)?; // under way from here on
            model.first_gradient(mine, &hidden, &errors, &mut first);
            scope.all_reduce(&mut first, ReduceOp::Avg)?;
            scope.all_reduce(&mut loss, ReduceOp::Avg)
        })?;
        model.learn(&first, &last);
        if group.rank() == 0 && step % 100 == 0 {
            println!("step {step:3}: loss {:.4}", loss[0]);
        }
    }

    let mut right = [mine.iter().filter(|sample| model.is_right(sample)).count() as u64];
    group.all_reduce_in_place(&mut right, ReduceOp::Sum)?;
    let all = group.all_gather_bytes(&model.bytes())?;
    let equal = all.iter().filter(|bytes| **bytes == all[0]).count();
    if group.rank() == 0 {
        println!("right: {} of {SAMPLES}", right[0]);
        println!("ranks with the same parameters, bit for bit: {equal} of {}", all.len());
        println!("checksum {:016x}", checksum(&all[0]));
    }
    group.finalize()
}

/// The parameters of both layers; the last of each row is a bias.
struct Model {
    first: Vec<f32>,
    last: Vec<f32>,
}

impl Model {
    fn new(random: &mut Random) -> Self {
        let first = (0..3 * HIDDEN).map(|_| random.next()).collect();
        let last = (0..=HIDDEN).map(|_| random.next() / 4.0).collect();
        Self { first, last }
    }

    fn hidden(&self, [x, y]: &[f32; 2]) -> Vec<f32> {
        let relu = |unit: &[f32]| (unit[0] * x + unit[1] * y + unit[2]).max(0.0);
        self.first.chunks_exact(3).map(relu).collect()
    }

    fn output(&self, hidden: &[f32]) -> f32 {
        let products = hidden.iter().zip(&self.last).map(|(value, weight)| value * weight);
        products.sum::<f32>() + self.last[HIDDEN]
    }

    /// Adds up the last layer's gradient and the loss; returns each sample's error.
    fn last_gradient(
        &self,
        samples: &[[f32; 2]],
        hidden: &[Vec<f32>],
        gradient: &mut [f32],
        loss: &mut [f32; 1],
    ) -> Vec<f32> {
        let share = 1.0 / samples.len() as f32;
        let mut errors = Vec::with_capacity(samples.len());
        for (sample, hidden) in samples.iter().zip(hidden) {
            let error = (self.output(hidden) - target(sample)) * share;
            loss[0] += error * error / share;
            for (sum, value) in gradient.iter_mut().zip(hidden.iter().chain(&[1.0])) {
                *sum += error * value;
            }
            errors.push(error);
        }
        errors
    }

    fn first_gradient(
        &self,
        samples: &[[f32; 2]],
        hidden: &[Vec<f32>],
        errors: &[f32],
        gradient: &mut [f32],
    ) {
        for ((sample, hidden), error) in samples.iter().zip(hidden).zip(errors) {
            let units = gradient.chunks_exact_mut(3).zip(hidden).zip(&self.last);
            for ((sums, _), weight) in units.filter(|((_, value), _)| **value > 0.0) {
                let back = error * weight;
                sums[0] += back * sample[0];
                sums[1] += back * sample[1];
                sums[2] += back;
            }
        }
    }

    fn learn(&mut self, first: &[f32], last: &[f32]) {
        let step = |(parameter, gradient): (&mut f32, &f32)| *parameter -= RATE * gradient;
        self.first.iter_mut().zip(first).for_each(step);
        self.last.iter_mut().zip(last).for_each(step);
    }

    fn is_right(&self, sample: &[f32; 2]) -> bool {
        self.output(&self.hidden(sample)) * target(sample) > 0.0
    }

    fn bytes(&self) -> Vec<u8> {
        self.first.iter().chain(&self.last).flat_map(|parameter| parameter.to_le_bytes()).collect()
    }
}

/// What is to be learnt: 1 if both have the same sign, else -1.
fn target([x, y]: &[f32; 2]) -> f32 {
    if x * y > 0.0 { 1.0 } else { -1.0 }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Numbers from -1 to 1, the same on all ranks and machines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }
}
