//! Expert parallelism: every rank holds one expert and some tokens, a router picks an expert for
//! each token, and the tokens travel there and back. How many go where differs by pair of ranks.
//!
//! Run `nccl run -n 4 --example expert_parallel`; it prints
//!
//! ```text
//! [rank 0] rank 0 sent [1, 2, 1, 1] tokens, received [1, 1, 2, 1]
//! [rank 0] rank 1 sent [1, 3, 1, 1] tokens, received [2, 3, 2, 3]
//! [rank 0] rank 2 sent [2, 2, 0, 3] tokens, received [1, 1, 0, 2]
//! [rank 0] rank 3 sent [1, 3, 2, 2] tokens, received [1, 1, 3, 2]
//! [rank 0] 26 of 26 tokens came back from the right expert
//! ```

use examples::print_in_rank_order;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

/// Numbers per token: its identity, and what the experts work on.
const WIDTH: usize = 2;

fn main() -> Result<()> {
    let group = ProcessGroup::from_env()?;
    let (rank, world_size) = (group.rank(), group.world_size());

    // The router's work: tokens in the order of their experts.
    let mut tokens: Vec<usize> = (0..5 + rank).map(|i| 100 * rank + i).collect();
    tokens.sort_by_key(|token| expert(*token, world_size));
    let count_for = |to| tokens.iter().filter(|token| expert(**token, world_size) == to).count();
    let sent: Vec<u64> = (0..world_size).map(|to| count_for(to) as u64).collect();

    // How many come from whom is known only to the senders.
    let mut received = vec![0; world_size];
    group.all_to_all(&sent, &mut received)?;

    // There, through this rank's expert, and back with the counts exchanged.
    let (there, back) = (elements(&sent), elements(&received));
    let send: Vec<f32> = tokens.iter().flat_map(|token| [*token as f32, value(*token)]).collect();
    let mut work = vec![0.0; back.iter().sum()];
    group.all_to_all_v(&send, &mut work, &there, &back)?;
    for token in work.chunks_exact_mut(WIDTH) {
        token[1] = apply(rank, token[1]);
    }
    let mut result = vec![f32::NAN; send.len()];
    group.all_to_all_v(&work, &mut result, &back, &there)?;

    // The tokens are back in the order in which they left, each changed by its expert.
    let right = |(token, result): (&usize, &[f32])| {
        result == [*token as f32, apply(expert(*token, world_size), value(*token))]
    };
    let good = tokens.iter().zip(result.chunks_exact(WIDTH)).filter(|pair| right(*pair)).count();
    let mut total = [good as u64, tokens.len() as u64];
    group.all_reduce_in_place(&mut total, ReduceOp::Sum)?;

    let line = format!("rank {rank} sent {sent:?} tokens, received {received:?}");
    print_in_rank_order(&group, &line)?;
    if rank == 0 {
        println!("{} of {} tokens came back from the right expert", total[0], total[1]);
    }
    group.finalize()
}

/// The router: which rank's expert a token goes to. Uneven on purpose.
fn expert(token: usize, world_size: usize) -> usize {
    (token * token / 3 + token) % world_size
}

fn value(token: usize) -> f32 {
    (token % 50) as f32 / 2.0
}

/// What the expert of `rank` does to a token.
fn apply(rank: usize, value: f32) -> f32 {
    value * (rank + 1) as f32 - 1.0
}

/// Elements for so many tokens each; the counts are small.
fn elements(tokens: &[u64]) -> Vec<usize> {
    tokens.iter().map(|count| usize::try_from(*count).unwrap_or(0) * WIDTH).collect()
}
