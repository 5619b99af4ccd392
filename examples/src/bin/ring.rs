//! Messages between two ranks: a token goes round the ring, then everybody sends at once.
//!
//! Run `nccl run -n 4 --example ring`; it prints
//!
//! ```text
//! [rank 0] the token came back with 0 + 1 + 2 + 3 = 6
//! [rank 0] rank 0 got [300, 301] from rank 3
//! [rank 0] rank 1 got [0, 1] from rank 0
//! [rank 0] rank 2 got [100, 101] from rank 1
//! [rank 0] rank 3 got [200, 201] from rank 2
//! ```

use examples::print_in_rank_order;
use nccl::ProcessGroup;
use nccl::Result;

fn main() -> Result<()> {
    let group = ProcessGroup::from_env()?;
    let (rank, world_size) = (group.rank(), group.world_size());
    let (right, left) = ((rank + 1) % world_size, (rank + world_size - 1) % world_size);

    // One after the other: a rank sends once it has received. Alone, it is its own neighbour.
    let mut token = [0_u64];
    if rank > 0 {
        group.recv(&mut token, left)?;
    }
    token[0] += rank as u64;
    group.send(&token, right)?;
    if rank == 0 {
        group.recv(&mut token, left)?;
        let ranks: Vec<String> = (0..world_size).map(|rank| rank.to_string()).collect();
        println!("the token came back with {} = {}", ranks.join(" + "), token[0]);
    }

    // All at once: in a batch no send waits for its receive, so nobody waits for each other.
    let mine = [100 * rank as u64, 100 * rank as u64 + 1];
    let mut got = [0_u64; 2];
    group.batch().send(&mine, right)?.recv(&mut got, left)?.run()?;

    print_in_rank_order(&group, &format!("rank {rank} got {got:?} from rank {left}"))?;
    group.finalize()
}
