//! Groups whose operations on device memory NCCL carries: agreed on by all ranks before any of
//! them calls NCCL.

use std::time::Duration;

use super::ProcessGroup;
use super::choice;
use super::choice::Choice;
use super::choice::Wish;
use crate::backend::nccl::CommConfig;
use crate::backend::nccl::Communicator;
use crate::backend::nccl::Facts;
use crate::backend::nccl::GuardedBackend;
use crate::backend::nccl::Nccl;
use crate::backend::nccl::UniqueId;
use crate::config::BackendChoice;
use crate::config::Env;
use crate::config::Settings;
use crate::cuda;
use crate::cuda::Device;
use crate::cuda::Driver;
use crate::debug;
use crate::error::Error;
use crate::error::Result;

/// What the groups of a world make their communicators with.
#[derive(Debug)]
pub(super) struct WithNccl {
    nccl: &'static Nccl,
    device: Device,
    blocking: bool,
    timeout: Duration,
}

/// The first byte of what ranks tell each other: a value follows, or why there is none.
const FINE: u8 = 0;
const FAILED: u8 = 1;

/// Why this process cannot use NCCL, as far as it can tell alone; empty if it can, or need not.
pub(super) fn lacks(settings: &Settings) -> String {
    if settings.backend == BackendChoice::Cpu {
        return String::new();
    }
    let has_device = Driver::get().and_then(Driver::device_count);
    match has_device {
        Err(error) => error.to_string(),
        Ok(0) => "the CUDA driver shows this process no device".to_owned(),
        Ok(_) => Nccl::get().err().map_or_else(String::new, |error| error.to_string()),
    }
}

impl ProcessGroup {
    /// Agrees with all ranks of this new world on the backend, and makes NCCL ready if that is it.
    ///
    /// # Errors
    /// NCCL is asked for and cannot be, with ranks and reasons; or it could not be initialised.
    pub(super) fn choose_backend(&self, settings: &Settings, env: &Env, own: &str) -> Result<()> {
        let Some(required) = self.wished(settings, own)? else { return Ok(()) };
        let timeout = settings.timeouts.init;
        let mine = Nccl::get().and_then(|nccl| {
            let device = cuda::choose(self.local_rank(), settings.device.as_ref(), env)?;
            let facts = Facts::of(nccl, &device, env)?;
            Ok((nccl, device, facts))
        });
        let told = match &mine {
            Ok((_, _, facts)) => {
                let words = facts.to_words();
                let bytes = words.iter().flat_map(|word| word.to_le_bytes());
                core::iter::once(FINE).chain(bytes).collect()
            }
            Err(error) => failed(error),
        };
        let all = self.with_timeout(timeout).all_gather_bytes(&told)?;
        let facts = match read_facts(&all) {
            Ok(facts) => facts,
            Err((rank, why)) if required => {
                let why = format!("rank {rank} cannot use NCCL: {why}");
                return Err(self.refused(why));
            }
            Err((rank, why)) => {
                self.say(&format!("CPU backend: rank {rank} cannot use NCCL: {why}"));
                return Ok(());
            }
        };
        match choice::by_facts(self.rank(), &facts, required)? {
            Choice::Cpu(why) => {
                why.iter().for_each(|why| self.say(&format!("CPU backend: {why}")));
                Ok(())
            }
            Choice::Nccl => {
                let (nccl, device, _) = mine?;
                let blocking = settings.nccl_blocking;
                let with = WithNccl { nccl, device, blocking, timeout };
                let with = self.inner.world.nccl.get_or_init(|| with);
                self.make_communicator(with)
            }
        }
    }

    /// What the ranks were told, and lack: none if it is the CPU backend, else whether NCCL is
    /// required.
    fn wished(&self, settings: &Settings, own: &str) -> Result<Option<bool>> {
        let alone =
            [Wish { wants: settings.backend, lacks: own, place: "this process".to_owned() }];
        let peers = self.inner.world.control.as_ref().map(|control| control.peers());
        let wishes = match peers {
            Some(peers) => {
                let mut wishes: Vec<Wish<'_>> = peers.iter().map(Wish::of).collect();
                // The others got the front of it.
                if let Some(wish) = wishes.get_mut(self.rank()) {
                    wish.lacks = own;
                }
                wishes
            }
            None => Vec::from(alone),
        };
        match choice::by_wishes(self.rank(), &wishes)? {
            Choice::Nccl => {
                let required = wishes.iter().any(|wish| wish.wants == BackendChoice::Nccl);
                Ok(Some(required))
            }
            Choice::Cpu(why) => {
                why.iter().for_each(|why| self.say(&format!("CPU backend: {why}")));
                Ok(None)
            }
        }
    }

    /// Makes this group's communicator if the world has NCCL: called on all its ranks.
    pub(super) fn join_nccl(self) -> Result<Self> {
        if let Some(with) = self.inner.world.nccl.get() {
            self.make_communicator(with)?;
        }
        Ok(self)
    }

    fn make_communicator(&self, with: &WithNccl) -> Result<()> {
        let patient = self.with_timeout(with.timeout);
        let mut told = Vec::new();
        if self.rank() == 0 {
            told = match with.nccl.unique_id() {
                Ok(id) => core::iter::once(FINE).chain(id.to_bytes()).collect(),
                Err(error) => failed(&error),
            };
        }
        patient.broadcast_bytes(&mut told, 0)?;
        let id = match told.split_first() {
            Some((&FINE, bytes)) => UniqueId::try_from(bytes).map_err(|error| error.to_string()),
            Some((_, text)) => Err(String::from_utf8_lossy(text).into_owned()),
            None => Err("it sent nothing".to_owned()),
        };
        let id = id.map_err(|why| self.refused(format!("rank 0 cannot make an NCCL id: {why}")))?;
        match self.initialised(with, id) {
            // Every rank's is ready; what failed on another one is known here at the latest now.
            Ok(backend) => {
                patient.barrier()?;
                let _ = self.inner.nccl.set(backend);
                Ok(())
            }
            Err(error) => {
                self.abort(&format!("NCCL could not be initialised: {error}"));
                Err(error)
            }
        }
    }

    fn initialised(&self, with: &WithNccl, id: UniqueId) -> Result<GuardedBackend> {
        const NAMED: crate::comm::Version = crate::comm::Version::new(2, 27, 3);
        let mut config = CommConfig::new().blocking(with.blocking);
        if with.nccl.version() >= NAMED && !self.name().contains('\0') {
            config = config.name(self.name());
        }
        let state = &self.inner.state;
        let cancel = || state.has_failed().then(|| state.error(None)).flatten();
        let (device, member, timeout) = (&with.device, self.member(), with.timeout);
        let comm =
            Communicator::new_unless(with.nccl, device, member, id, &config, timeout, &cancel)?;
        GuardedBackend::new(comm, state.clone(), self.inner.world.control.clone())
    }

    fn refused(&self, why: String) -> Error {
        Error::Join { rank: self.rank(), world_size: self.world_size(), why }
    }

    /// A line for the log, once per world.
    fn say(&self, text: &str) {
        if self.rank() == 0 {
            log::warn!(target: "nccl::init", "{text}");
            debug::info!(debug::Subsys::INIT, 0, "{text}");
        }
    }
}

fn failed(error: &Error) -> Vec<u8> {
    core::iter::once(FAILED).chain(error.to_string().into_bytes()).collect()
}

/// What every rank says, or the first that cannot, with why.
fn read_facts(all: &[Vec<u8>]) -> Result<Vec<Facts>, (usize, String)> {
    let read = |(rank, told): (usize, &Vec<u8>)| match told.split_first() {
        Some((&FINE, bytes)) => {
            let (words, _) = bytes.as_chunks::<8>();
            let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
            Ok(Facts::from_words(&words))
        }
        Some((_, text)) => Err((rank, String::from_utf8_lossy(text).into_owned())),
        None => Err((rank, "it sent nothing".to_owned())),
    };
    all.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_that_cannot_is_named_with_its_reason() {
        let facts = Facts { version: 23007, file: 1, device: [3; 16], may_share: false };
        let words = facts.to_words();
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        let fine: Vec<u8> = core::iter::once(FINE).chain(bytes).collect();
        assert_eq!(read_facts(&[fine.clone(), fine.clone()]), Ok(vec![facts; 2]));
        let error = Error::Usage { op: "x", problem: "no GPU".to_owned() };
        let told = read_facts(&[fine, failed(&error), failed(&error)]);
        assert_eq!(told, Err((1, "x: no GPU".to_owned())));
        assert!(read_facts(&[vec![]]).is_err());
    }
}
