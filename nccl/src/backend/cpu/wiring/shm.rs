//! Shared memory between two processes: one makes and passes it, the other maps it and answers
//! with its doorbell; both try whether they can read each other's memory.

use std::io::IoSlice;
use std::io::IoSliceMut;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;

use super::KIND_SHM;
use super::Wiring;
use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::transport::Link;
use crate::transport::memory::Doorbell;
use crate::transport::memory::MemoryLink;
use crate::transport::memory::Probe;
use crate::transport::memory::Region;
use crate::transport::memory::RemoteRead;
use crate::transport::memory::Side;
use crate::wire::Peer;

/// A region passed to another process that has not answered yet.
pub(in crate::backend::cpu) struct Dialed {
    stream: UnixStream,
    region: Arc<Region>,
    probe: Probe,
    peer: usize,
}

/// The byte that says: mapped.
const MAPPED: u8 = b'k';

impl Wiring {
    /// Makes the memory and passes it to `other`.
    pub(super) fn dial_shm(&self, other: &Peer, deadline: &Deadline) -> Result<Dialed> {
        let (region, region_fd) = Region::shared(self.geometry.region_bytes())?;
        let region = Arc::new(region);
        let probe = Probe::publish(&region, self.side(other));
        let hello = self.hello(other, 0, 1, KIND_SHM);
        let fds = [region_fd.as_fd(), self.bell_fd.as_fd()];
        let stream = self
            .control
            .dial_unix(&hello, &fds, deadline)
            .map_err(|why| Error::system(why.to_string(), std::io::ErrorKind::ConnectionRefused))?;
        Ok(Dialed { stream, region, probe, peer: other.rank })
    }

    /// Looks for the answer; makes the link once it is here.
    pub(super) fn poll_shm(&self, dialed: &mut Dialed) -> Result<Option<Box<dyn Link>>> {
        let rank = self.state.members.iter().position(|world| *world == dialed.peer).unwrap_or(0);
        let Some(bell) = self.answer(rank, &dialed.stream)? else { return Ok(None) };
        let other = self.record(rank)?;
        let bell = Doorbell::adopt(bell.as_fd())?;
        let link = self.memory_link(dialed.region.clone(), other, bell, dialed.probe.clone());
        Ok(Some(link))
    }

    /// Maps the memory that `other` has passed, and answers.
    pub(super) fn accept_shm(
        &self,
        other: &Peer,
        stream: &UnixStream,
        fds: &[OwnedFd],
    ) -> Result<Box<dyn Link>> {
        let rank = self.state.members.iter().position(|world| *world == other.rank).unwrap_or(0);
        let [region, bell] = fds else {
            return Err(self.lost(rank, "passed no shared memory"));
        };
        let region = Arc::new(Region::adopt(region.as_fd(), self.geometry.region_bytes())?);
        let bell = Doorbell::adopt(bell.as_fd())?;
        let probe = Probe::publish(&region, self.side(other));
        let fds = [self.bell_fd.as_fd()];
        let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let _ = control.push(SendAncillaryMessage::ScmRights(&fds));
        let sent = rustix::net::sendmsg(
            stream,
            &[IoSlice::new(&[MAPPED])],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        if !matches!(sent, Ok(1)) {
            return Err(self.lost(rank, "closed the connection while memory was being shared"));
        }
        Ok(self.memory_link(region, other, bell, probe))
    }

    /// The doorbell that comes with the answer, if the answer is here.
    fn answer(&self, rank: usize, stream: &UnixStream) -> Result<Option<OwnedFd>> {
        let mut byte = [0];
        let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got =
            rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags);
        match got {
            // The kernel drops what it cannot give a number here.
            Ok(message) if message.flags.contains(ReturnFlags::CTRUNC) => {
                let what = format!("taking the descriptor that rank {rank} has passed");
                return Err(Error::system(what, rustix::io::Errno::MFILE));
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Ok(message) if message.bytes == 1 && byte == [MAPPED] => {}
            Ok(_) | Err(_) => {
                return Err(self.lost(rank, "closed the connection while memory was being shared"));
            }
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        fd.map(Some).ok_or_else(|| self.lost(rank, "passed no doorbell"))
    }

    fn side(&self, other: &Peer) -> Side {
        if self.control.member().rank < other.rank { Side::Low } else { Side::High }
    }

    fn memory_link(
        &self,
        region: Arc<Region>,
        other: &Peer,
        bell: Doorbell,
        probe: Probe,
    ) -> Box<dyn Link> {
        let pid = i32::try_from(other.pid).unwrap_or(0);
        let side = self.side(other);
        let read = if self.options.direct && Probe::try_peer(&region, side, pid) {
            RemoteRead::Cma(pid)
        } else {
            RemoteRead::No
        };
        let threshold = self.options.single_copy_bytes;
        let link = MemoryLink::new(region, self.geometry, side, bell, read, threshold);
        Box::new(link.keeping(probe))
    }
}
