//! Messages between two ranks, of device memory.

use super::front::Draft;
use super::front::Front;
use super::front::Made;
use super::on_stream::OnStream;
use crate::count;
use crate::cuda::DeviceBuf;
use crate::cuda::DeviceBufMut;
use crate::cuda::DeviceStream;
use crate::desc::Kind;
use crate::error::Result;

impl<S: DeviceStream + ?Sized> OnStream<'_, S> {
    /// Sends `buf` to `peer`, which receives it with [`OnStream::recv`].
    ///
    /// **Shape:** the same count and type on both sides. What is enqueued on the stream afterwards
    /// waits for the peer. Two ranks that both send first and receive then can wait for each other
    /// until the timeout: use [`OnStream::batch`].
    ///
    /// # Errors
    /// As [`OnStream::broadcast`].
    ///
    /// # Source
    /// `ncclSend` of nccl.h; `send` of c10d.
    pub fn send(&self, buf: &impl DeviceBuf<S>, peer: usize) -> Result<()> {
        self.run(self.front()?.send(buf, peer)?)
    }

    /// Receives `buf` from `peer`.
    ///
    /// # Errors
    /// As [`OnStream::broadcast`].
    ///
    /// # Source
    /// `ncclRecv` of nccl.h; `recv` of c10d.
    pub fn recv(&self, buf: &mut impl DeviceBufMut<S>, peer: usize) -> Result<()> {
        self.run(self.front()?.recv(buf, peer)?)
    }
}

impl<'a, S: DeviceStream + ?Sized> Front<'a, S> {
    pub(super) fn send<A: DeviceBuf<S>>(
        self,
        buf: &'a A,
        peer: usize,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A>>> {
        count::check_peer("send", peer, self.member.world_size)?;
        self.sent(Draft::new(Kind::Send, buf.count()).rooted(peer), buf)
    }

    pub(super) fn recv<B: DeviceBufMut<S>>(
        self,
        buf: &'a mut B,
        peer: usize,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        count::check_peer("recv", peer, self.member.world_size)?;
        self.received(Draft::new(Kind::Recv, buf.count()).rooted(peer), buf)
    }
}
