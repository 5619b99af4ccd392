//! What a stream does when it comes to an operation: exchanges bytes with the other ranks.

use std::sync::Arc;

use crate::comm::Comm;
use crate::data;
use crate::fold::fold;
use crate::frame;
use crate::frame::Desc;
use crate::frame::Head;
use crate::knobs;
use crate::mesh::Aborted;
use crate::mesh::Mesh;
use crate::mesh::Message;
use crate::mesh::Receiver;
use crate::op::Call;
use crate::op::Kind;
use crate::pairs;

/// Runs the operations of one group on one communicator.
pub(crate) fn run(comm: &Arc<Comm>, calls: &[Call], ticket: Option<u64>) {
    let begun = comm.begin(ticket);
    if begun.is_ok()
        && let Ok(mesh) = comm.mesh()
    {
        let _ = perform(comm, mesh, calls);
    }
    comm.end(ticket, begun.is_ok());
}

fn perform(comm: &Comm, mesh: &Mesh, calls: &[Call]) -> Result<(), Aborted> {
    // After an abort or a revocation nobody keeps the buffers any more.
    mesh.wait(|_| Some(()))?;
    for call in calls {
        if knobs::hangs(call.function, comm.rank) {
            return Err(mesh.hang());
        }
        let delay = knobs::delay(call.function, comm.rank);
        if !delay.is_zero() {
            mesh.pause(delay)?;
        }
    }
    let pairs: Vec<&Call> = calls.iter().filter(|call| call.is_pair()).collect();
    pairs::exchange(comm, mesh, &pairs)?;
    for call in calls {
        match call.kind {
            Kind::Send | Kind::Recv => {}
            Kind::PutSignal | Kind::Signal | Kind::WaitSignal => pairs::one_sided(mesh, call)?,
            _ => collective(comm, mesh, call)?,
        }
    }
    Ok(())
}

fn collective(comm: &Comm, mesh: &Mesh, call: &Call) -> Result<(), Aborted> {
    let desc = Desc::of(call);
    let seq = comm.next_collective();
    announce(comm, mesh, seq, desc)?;
    let one = call.count * call.element();
    let (in_bytes, _) = call.sizes_bytes(comm.world_size, comm.rank);
    let input = data::read(call.send, in_bytes).unwrap_or_else(|| vec![0; in_bytes]);
    let head = Head { what: frame::COLLECTIVE, seq, desc, extra: factor(call) };
    for peer in 0..comm.world_size {
        mesh.send(peer, &head, piece(call, comm.rank, peer, &input, one));
    }
    let mut inputs: Vec<Message> = Vec::new();
    for peer in (0..comm.world_size).filter(|peer| needs(call, comm.rank, *peer)) {
        let message = mesh.wait(|inbox| inbox.collectives.remove(&(seq, peer)))?;
        if message.0.desc != desc {
            return Err(mesh.hang());
        }
        inputs.push(message);
    }
    if inputs.is_empty() {
        return Ok(());
    }
    if call.reduces() {
        let inputs: Vec<_> =
            inputs.iter().map(|(head, bytes)| (head.extra, bytes.as_slice())).collect();
        data::write(call.recv, &fold(call.dtype, call.op, &inputs));
    } else {
        let pieces: Vec<&[u8]> = inputs.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        data::write(call.recv, &pieces.concat());
    }
    Ok(())
}

/// Notes what this rank calls, and compares it with what others have called already. If they
/// differ, NCCL would hang, or worse; here it hangs.
fn announce(comm: &Comm, mesh: &Mesh, seq: u64, desc: Desc) -> Result<(), Aborted> {
    let differing = mesh.with(|inbox| {
        inbox.own.retain(|old, _| old + 1024 > seq);
        inbox.own.insert(seq, desc);
        inbox.collectives.retain(|(old, _), _| *old >= seq);
        let others = inbox.collectives.range((seq, 0)..(seq + 1, 0));
        let mut differing = others.filter(|(_, message)| message.0.desc != desc);
        differing.next().map(|((_, peer), message)| (*peer, message.0.desc))
    });
    if let Some((peer, other)) = differing {
        comm.differs(peer, seq, &desc, &other);
        // The others shall know, too.
        let head = Head { what: frame::COLLECTIVE, seq, desc, extra: 0 };
        mesh.peers().for_each(|peer| mesh.send(peer, &head, &[]));
        return Err(mesh.hang());
    }
    Ok(())
}

/// What a peer gets of this rank's input.
fn piece<'a>(call: &Call, rank: usize, peer: usize, input: &'a [u8], one: usize) -> &'a [u8] {
    let root = usize::try_from(call.root).unwrap_or(0);
    match call.kind {
        Kind::AllReduce | Kind::AllGather => input,
        Kind::Broadcast if rank == root => input,
        Kind::Reduce | Kind::Gather if peer == root => input,
        Kind::ReduceScatter | Kind::AllToAll => &input[peer * one..(peer + 1) * one],
        Kind::Scatter if rank == root => &input[peer * one..(peer + 1) * one],
        _ => &[],
    }
}

/// Whether this rank's output depends on a peer's input.
fn needs(call: &Call, rank: usize, peer: usize) -> bool {
    let root = usize::try_from(call.root).unwrap_or(0);
    match call.kind {
        Kind::Broadcast | Kind::Scatter => peer == root,
        Kind::Reduce | Kind::Gather => rank == root,
        _ => true,
    }
}

/// The factor of a pre-multiplied sum, as it is now if it lies on the device.
fn factor(call: &Call) -> u64 {
    match call.own {
        Some(op) if op.on_device => {
            let mut bits = [0; 8];
            let bytes = data::read(usize::try_from(op.value).unwrap_or(0), call.element());
            let bytes = bytes.unwrap_or_default();
            bits[..bytes.len()].copy_from_slice(&bytes);
            u64::from_le_bytes(bits)
        }
        Some(op) => op.value,
        None => 0,
    }
}
