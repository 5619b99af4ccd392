//! Messages between two ranks.

#![expect(unsafe_code, reason = "hands the addresses of slices to the backend")]

use super::ProcessGroup;
use super::work::End;
use super::work::Shared;
use super::work::Work;
use crate::backend::P2p;
use crate::backend::P2pKind;
use crate::backend::exchange;
use crate::buffer::Held;
use crate::buffer::OwnedBuffer;
use crate::count;
use crate::dtype::Element;
use crate::error::Error;
use crate::error::Result;

impl ProcessGroup {
    /// Sends `buf` to `peer`, which receives it with [`ProcessGroup::recv`].
    ///
    /// **Shape:** the same count and type on both sides. Returns once `buf` can be used again;
    /// that may be before the peer has called `recv`, or not. Two ranks that both send first and
    /// receive then can wait for each other until the timeout: use [`ProcessGroup::batch`]. A rank
    /// can send to itself.
    ///
    /// # Errors
    /// Misuse ([`Rank`](crate::Error::Rank)) at once; errors of the group poison it.
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(2, |group| {
    /// if group.rank() == 0 {
    ///     group.send(&[1.5_f32, 2.5], 1)?;
    /// } else {
    ///     let mut got = [0.0_f32; 2];
    ///     group.recv(&mut got, 0)?;
    ///     assert_eq!(got, [1.5, 2.5]);
    /// }
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `ncclSend` of nccl.h; `send` of c10d.
    pub fn send<T: Element>(&self, buf: &[T], peer: usize) -> Result<()> {
        self.send_tagged(buf, peer, 0)
    }

    /// As [`ProcessGroup::send`], for a receive with the same tag; messages with different tags
    /// may be received in any order.
    ///
    /// # Errors
    /// As [`ProcessGroup::send`].
    pub fn send_tagged<T: Element>(&self, buf: &[T], peer: usize, tag: u32) -> Result<()> {
        let op = self.sending(buf, peer, tag)?;
        self.messages(&[op]).map(|_| ())
    }

    /// Receives `buf` from `peer`.
    ///
    /// # Errors
    /// As [`ProcessGroup::send`]; a message of another count or type is an error on all ranks.
    ///
    /// # Source
    /// `ncclRecv` of nccl.h; `recv` of c10d.
    pub fn recv<T: Element>(&self, buf: &mut [T], peer: usize) -> Result<()> {
        self.recv_tagged(buf, peer, 0)
    }

    /// As [`ProcessGroup::recv`], from a send with the same tag.
    ///
    /// # Errors
    /// As [`ProcessGroup::recv`].
    pub fn recv_tagged<T: Element>(&self, buf: &mut [T], peer: usize, tag: u32) -> Result<()> {
        let op = self.receiving(buf, Some(peer), tag)?;
        self.messages(&[op]).map(|_| ())
    }

    /// Receives `buf` from whichever rank sends first; returns its rank.
    ///
    /// # Errors
    /// As [`ProcessGroup::recv`].
    ///
    /// # Source
    /// `recv(src=None)` of c10d.
    pub fn recv_any<T: Element>(&self, buf: &mut [T]) -> Result<usize> {
        self.recv_any_tagged(buf, 0)
    }

    /// As [`ProcessGroup::recv_any`], from a send with the same tag.
    ///
    /// # Errors
    /// As [`ProcessGroup::recv`].
    pub fn recv_any_tagged<T: Element>(&self, buf: &mut [T], tag: u32) -> Result<usize> {
        let op = self.receiving(buf, None, tag)?;
        let peers = self.messages(&[op])?;
        Ok(peers.first().copied().unwrap_or(0))
    }

    /// Begins a [`send`](ProcessGroup::send) of a buffer that the operation owns meanwhile.
    ///
    /// # Errors
    /// As [`ProcessGroup::send`]: misuse at once, all others from [`Work::wait`].
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(2, |group| {
    /// let peer = 1 - group.rank();
    /// let (send, recv) = (group.send_async(vec![7_u8; 3], peer)?, group.recv_async(vec![0_u8; 3], peer)?);
    /// assert_eq!((send.wait()?, recv.wait()?), (vec![7; 3], vec![7; 3]));
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `isend` of c10d.
    pub fn send_async<B: OwnedBuffer>(&self, buf: B, peer: usize) -> Result<Work<B>> {
        count::check_peer("send", peer, self.world_size())?;
        let held = Held::new(buf);
        let kind = P2pKind::Send { peer, data: held.as_mut_ptr().cast_const().cast() };
        self.drive(kind, held)
    }

    /// Begins a [`recv`](ProcessGroup::recv) into a buffer that the operation owns meanwhile.
    ///
    /// # Errors
    /// As [`ProcessGroup::send_async`].
    ///
    /// # Source
    /// `irecv` of c10d.
    pub fn recv_async<B: OwnedBuffer>(&self, buf: B, peer: usize) -> Result<Work<B>> {
        count::check_peer("recv", peer, self.world_size())?;
        let held = Held::new(buf);
        let kind = P2pKind::Recv { peer: Some(peer), data: held.as_mut_ptr().cast() };
        self.drive(kind, held)
    }

    fn drive<B: OwnedBuffer>(&self, kind: P2pKind, held: Held<B>) -> Result<Work<B>> {
        self.usable("send or recv")?;
        let op = P2p { kind, dtype: B::Element::DTYPE, count: held.len(), tag: 0, whole: None };
        // SAFETY: `held` is owned by what the driver calls at the end, when the message is done or
        // taken back; until then nobody touches its elements.
        let tickets = unsafe { self.inner.backend.p2p_post(&[op]) }?;
        let shared = Shared::new();
        let end = End::of(&shared);
        let finish = move |outcome: Result<usize>| end.finish(outcome.map(|_| held.give_back()));
        let Some(ticket) = tickets.first() else {
            let problem = "the backend took no message".to_owned();
            return Err(Error::Usage { op: "send or recv", problem });
        };
        self.inner.driver.drive(*ticket, self.timeout, finish).map(|()| Work::of(shared))
    }

    pub(super) fn sending<T: Element>(&self, buf: &[T], peer: usize, tag: u32) -> Result<P2p> {
        count::check_peer("send", peer, self.world_size())?;
        let kind = P2pKind::Send { peer, data: buf.as_ptr().cast() };
        Ok(P2p { kind, dtype: T::DTYPE, count: buf.len(), tag, whole: None })
    }

    pub(super) fn receiving<T: Element>(
        &self,
        buf: &mut [T],
        peer: Option<usize>,
        tag: u32,
    ) -> Result<P2p> {
        if let Some(peer) = peer {
            count::check_peer("recv", peer, self.world_size())?;
        }
        let kind = P2pKind::Recv { peer, data: buf.as_mut_ptr().cast() };
        Ok(P2p { kind, dtype: T::DTYPE, count: buf.len(), tag, whole: None })
    }

    /// Posts all, waits for all; returns the peer of each. The buffers of `ops` are borrowed by
    /// whoever calls until this returns.
    pub(super) fn messages(&self, ops: &[P2p]) -> Result<Vec<usize>> {
        self.usable("send or recv")?;
        // SAFETY: the buffers stay borrowed until this returns.
        unsafe { exchange(&*self.inner.backend, ops, self.timeout) }
    }
}
