//! One action of a step while it is under way.

#![expect(unsafe_code, reason = "moves bytes of buffers given by address")]

use super::fold::FoldRun;
use super::fold::Source;
use crate::desc::OpDesc;
use crate::transport::Head;
use crate::transport::Link;
use crate::transport::LinkError;
use crate::transport::Outgoing;

/// The links of a channel, by rank of the group.
pub(super) type Links = Vec<Option<Box<dyn Link>>>;

/// Why a step cannot go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The link to a peer failed.
    Link(usize, LinkError),
    /// A peer is in another operation.
    Mismatch(usize, OpDesc),
    /// A peer is in the same operation but its message has another length, in bytes.
    Length { peer: usize, expected: u64, got: u64 },
    /// This rank itself cannot go on.
    Own(String),
}

/// A message being received into place.
#[derive(Debug)]
pub(super) struct Receive {
    pub(super) peer: usize,
    pub(super) into: *mut u8,
    pub(super) bytes: usize,
    pub(super) got: usize,
    pub(super) begun: bool,
}

/// An action under way.
#[derive(Debug)]
pub(super) enum Transfer {
    Send { peer: usize, out: Outgoing },
    Recv(Receive),
    Fold(FoldRun),
}

impl Transfer {
    /// Whether it is over.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Send { out, .. } => out.is_done(),
            Self::Recv(receive) => receive.begun && receive.got == receive.bytes,
            Self::Fold(fold) => fold.is_done(),
        }
    }

    /// Moves what can be moved; says whether anything did.
    ///
    /// # Safety
    /// The addresses of the transfer are valid for its lengths, its output exclusively its own.
    pub(super) unsafe fn progress(
        &mut self,
        desc: &OpDesc,
        links: &mut Links,
        acc: &mut Vec<u8>,
    ) -> Result<bool, Trouble> {
        match self {
            Self::Send { peer, out } => {
                let Some(link) = links.get_mut(*peer).and_then(Option::as_mut) else {
                    return Ok(false);
                };
                // SAFETY: passed on from the caller.
                unsafe { link.push(out) }.map_err(|error| Trouble::Link(*peer, error))
            }
            // SAFETY: passed on from the caller.
            Self::Recv(receive) => unsafe { receive.progress(desc, links) },
            Self::Fold(fold) => {
                let mut moved = false;
                if !fold.heads_known() {
                    moved = fold_heads(fold, desc, links)?;
                }
                // SAFETY: passed on from the caller.
                let folded = unsafe { fold.progress(links, acc) };
                Ok(moved | folded.map_err(|(peer, error)| Trouble::Link(peer, error))?)
            }
        }
    }

    /// The peers it still waits for.
    pub(super) fn waits_for(&self, peers: &mut Vec<usize>) {
        match self {
            Self::Send { peer, .. } => peers.push(*peer),
            Self::Recv(receive) => peers.push(receive.peer),
            Self::Fold(fold) => {
                peers.extend(fold.sources.iter().filter_map(|source| match source {
                    Source::Own => None,
                    Source::Peer(peer) => Some(*peer),
                }));
            }
        }
    }
}

impl Receive {
    /// # Safety
    /// As [`Transfer::progress`].
    unsafe fn progress(&mut self, desc: &OpDesc, links: &mut Links) -> Result<bool, Trouble> {
        let Some(link) = links.get_mut(self.peer).and_then(Option::as_mut) else {
            return Ok(false);
        };
        let mut moved = false;
        if !self.begun {
            if expect_head(link.as_mut(), self.peer, desc, self.bytes)?.is_none() {
                return Ok(false);
            }
            self.begun = true;
            moved = true;
        }
        if self.got < self.bytes {
            // SAFETY: `into` is valid for `bytes` bytes by the caller's contract, of which `got`
            // were written before.
            let into = unsafe { self.into.add(self.got) };
            // SAFETY: as above: `bytes - got` bytes are left at `into`.
            let taken = unsafe { link.pull_into(into, self.bytes - self.got) }
                .map_err(|error| Trouble::Link(self.peer, error))?;
            self.got += taken;
            moved |= taken > 0;
        }
        Ok(moved)
    }
}

/// Looks for the heads that a fold still misses.
fn fold_heads(fold: &mut FoldRun, desc: &OpDesc, links: &mut Links) -> Result<bool, Trouble> {
    let bytes = fold.count * fold.elem_bytes;
    let mut moved = false;
    for (source, head) in fold.sources.iter().zip(&mut fold.heads) {
        let Source::Peer(peer) = *source else { continue };
        if head.is_some() {
            continue;
        }
        let Some(link) = links.get_mut(peer).and_then(Option::as_mut) else { continue };
        *head = expect_head(link.as_mut(), peer, desc, bytes)?;
        moved |= head.is_some();
    }
    Ok(moved)
}

/// The head of the next message, if it is here and is the one expected.
fn expect_head(
    link: &mut dyn Link,
    peer: usize,
    desc: &OpDesc,
    bytes: usize,
) -> Result<Option<Head>, Trouble> {
    let Some(head) = link.head().map_err(|error| Trouble::Link(peer, error))? else {
        return Ok(None);
    };
    if head.desc != *desc {
        return Err(Trouble::Mismatch(peer, head.desc));
    }
    if head.bytes != bytes as u64 {
        return Err(Trouble::Length { peer, expected: bytes as u64, got: head.bytes });
    }
    if bytes == 0 {
        link.skip_empty();
    }
    Ok(Some(head))
}
