//! Messages between two ranks, and one-sided puts. A send is over once it was received, as for
//! messages too large for NCCL's buffers: who relies on less, hangs.

use crate::comm::Comm;
use crate::data;
use crate::frame;
use crate::frame::Desc;
use crate::frame::Head;
use crate::mesh::Aborted;
use crate::mesh::Mesh;
use crate::op::Call;
use crate::op::Kind;
use crate::watch;

/// Runs the messages of one group, all at the same time.
pub(crate) fn exchange(comm: &Comm, mesh: &Mesh, calls: &[&Call]) -> Result<(), Aborted> {
    let peer = |call: &Call| usize::try_from(call.root).unwrap_or(0);
    for call in calls.iter().filter(|call| call.kind == Kind::Send) {
        let bytes = data::read(call.send, call.count * call.element()).unwrap_or_default();
        let head = Head { what: frame::PAIR, desc: Desc::of(call), ..Head::default() };
        mesh.send(peer(call), &head, &bytes);
    }
    for call in calls.iter().filter(|call| call.kind == Kind::Recv) {
        let from = peer(call);
        let (head, bytes) =
            mesh.wait(|inbox| inbox.pairs.get_mut(&from).and_then(|queue| queue.pop_front()))?;
        let own = Desc::of(call);
        if (head.desc.count, head.desc.dtype) != (own.count, own.dtype) {
            watch::violation(&format!(
                "rank {} receives {} elements of type {} from rank {from}, which sends {} of type \
                 {}",
                comm.rank, own.count, own.dtype, head.desc.count, head.desc.dtype
            ));
            return Err(mesh.hang());
        }
        data::write(call.recv, &bytes);
        mesh.send(from, &Head { what: frame::ACK, ..Head::default() }, &[]);
    }
    for call in calls.iter().filter(|call| call.kind == Kind::Send) {
        let to = peer(call);
        mesh.wait(|inbox| {
            let acks = inbox.acks.get_mut(&to).filter(|acks| **acks > 0)?;
            *acks -= 1;
            Some(())
        })?;
    }
    Ok(())
}

/// Runs a one-sided operation.
pub(crate) fn one_sided(mesh: &Mesh, call: &Call) -> Result<(), Aborted> {
    let Some(signal) = &call.signal else { return Ok(()) };
    if call.kind == Kind::WaitSignal {
        for (peer, index, count) in &signal.waits {
            mesh.wait(|inbox| {
                let have =
                    inbox.signals.get_mut(&(*peer, *index)).filter(|have| **have >= *count)?;
                *have -= count;
                Some(())
            })?;
        }
        return Ok(());
    }
    let bytes = match call.kind {
        Kind::PutSignal => data::read(call.send, call.count * call.element()).unwrap_or_default(),
        _ => Vec::new(),
    };
    let head = Head {
        what: frame::PUT,
        seq: signal.window,
        extra: signal.offset as u64,
        desc: Desc { op: u64::try_from(signal.index).unwrap_or(0), ..Desc::default() },
    };
    mesh.send(usize::try_from(call.root).unwrap_or(0), &head, &bytes);
    Ok(())
}
