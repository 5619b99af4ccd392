//! Abstract Unix sockets, which leave no file behind, and descriptors passed over them.

use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;

use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;

use super::peer;

/// How many descriptors may come with a hello.
pub(super) const DESCRIPTORS: usize = 2;

/// A listener with a random name.
#[derive(Debug)]
pub(super) struct Listener {
    listener: UnixListener,
    name: String,
}

impl Listener {
    /// Opens one; where that is not possible, peers come by TCP.
    pub(super) fn bind() -> Option<Self> {
        let name = format!("nccl-rs-{}", peer::hex(&peer::random().ok()?));
        let bound = SocketAddr::from_abstract_name(&name)
            .and_then(|addr| UnixListener::bind_addr(&addr))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        match bound {
            Ok(listener) => Some(Self { listener, name }),
            Err(error) => {
                log::warn!(target: "nccl::control",
                    "no Unix socket for the ranks of this host, they will use TCP: {error}");
                None
            }
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Accepts one connection.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Whether the other side runs as the same user: abstract sockets have no permissions.
pub(super) fn check_user(stream: &UnixStream) -> Result<(), String> {
    let own = rustix::process::getuid();
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(other) if other.uid == own => Ok(()),
        Ok(other) => Err(format!(
            "it runs as user {} (pid {}), this rank as user {}",
            other.uid.as_raw(),
            other.pid.as_raw_nonzero(),
            own.as_raw()
        )),
        Err(error) => Err(format!("its user cannot be read: {error}")),
    }
}

/// Reads into `to`, and takes the descriptors that come along; more than two are an error.
pub(super) fn receive(
    stream: &UnixStream,
    to: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(to)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    let cut = got.flags.contains(ReturnFlags::CTRUNC);
    if cut && fds.len() < DESCRIPTORS {
        // The kernel drops what it cannot give a number here.
        return Err(rustix::io::Errno::MFILE.into());
    }
    if cut || fds.len() > DESCRIPTORS {
        return Err(io::Error::other("more descriptors than two came with it"));
    }
    Ok(got.bytes)
}

/// Connects without waiting; `WouldBlock` when the other side's queue is full.
pub(super) fn connect(name: &str) -> io::Result<UnixStream> {
    use rustix::net::AddressFamily;
    use rustix::net::SocketFlags;
    use rustix::net::SocketType;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let addr = rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    rustix::net::connect(&socket, &addr)?;
    Ok(UnixStream::from(socket))
}

/// Sends all of `bytes`, which must fit into an empty socket, with descriptors.
pub(super) fn send(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if fds.len() > DESCRIPTORS
        || (!fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)))
    {
        return Err(io::Error::other("at most two descriptors can be sent along"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, flags)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
