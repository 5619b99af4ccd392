//! Hello, world of ranks: who am I, how many are we, and how do bytes get to the others?
//!
//! Run `nccl run -n 3 --example hello`; it prints
//!
//! ```text
//! [rank 0] rank 0 of 3 on node0, local rank 0, cpu; rank 1 by P2P/CMA, rank 2 by P2P/CMA
//! [rank 0] rank 1 of 3 on node0, local rank 1, cpu; rank 0 by P2P/CMA, rank 2 by P2P/CMA
//! [rank 0] rank 2 of 3 on node0, local rank 2, cpu; rank 0 by P2P/CMA, rank 1 by P2P/CMA
//! ```
//!
//! where `node0` is the host's name. `SHM/direct` stands instead of `P2P/CMA` where the system
//! forbids reading a neighbour's memory, and `NET/Socket/0` between hosts.

use examples::print_in_rank_order;
use nccl::ProcessGroup;
use nccl::Result;

fn main() -> Result<()> {
    let group = ProcessGroup::from_env()?;
    group.barrier()?; // connections are made when first needed

    let transport = |peer| Some(format!("rank {peer} by {}", group.transport_to(peer)?));
    let peers: Vec<String> = (0..group.world_size()).filter_map(transport).collect();
    let line = format!(
        "rank {} of {} on {}, local rank {}, {}; {}",
        group.rank(),
        group.world_size(),
        host(),
        group.local_rank(),
        group.backend_name(),
        if peers.is_empty() { "alone".to_owned() } else { peers.join(", ") },
    );
    print_in_rank_order(&group, &line)?;
    group.finalize()
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "a host".to_owned(), |name| name.trim().to_owned())
}
