//! Process groups, as users see them.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::backend::Backend;
use crate::backend::cpu::CpuBackend;
use crate::backend::nccl::GuardedBackend;
use crate::clock::Deadline;
use crate::control::PeerState;
use crate::device::DeviceBackend;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;
use crate::store::PrefixStore;
use crate::store::SharedStore;
use crate::trace::GroupState;

mod batch;
mod builder;
mod bytes;
mod choice;
mod collectives;
mod device;
mod driver;
mod nccl;
mod pairs;
mod queue;
mod rendezvous;
mod rooted;
mod scope;
mod split;
mod threads;
mod uneven;
mod work;
mod world;

#[cfg(feature = "serde")]
mod objects;

pub use batch::Batch;
pub use batch::Coalesced;
pub use builder::Builder;
pub use scope::Scope;
pub use threads::run_threads;
pub use work::Work;

use driver::Driver;
use queue::Queue;
use world::World;

/// The ranks that call collectives together, and this process's place among them.
///
/// A group is made once, by [`ProcessGroup::from_env`] or [`ProcessGroup::builder`]; subgroups come
/// from [`ProcessGroup::split`]. Every rank calls the same operations in the same order; that is
/// checked, and a difference is an error on every rank that names the ranks and both views.
///
/// Every operation ends: with its result, or with an error at the latest one second after the
/// timeout. The first error that concerns other ranks poisons the group: all its ranks get it, and
/// later calls return [`Error::Poisoned`].
///
/// A handle is cheap to clone; all clones are the same group, and calls from several threads are
/// put into one order (which must then be the same on all ranks). The last handle to go leaves the
/// group quietly; [`ProcessGroup::finalize`] is the orderly end.
///
/// # Examples
/// ```
/// use nccl::ReduceOp;
///
/// // Four ranks as threads; a real program calls `ProcessGroup::from_env()?` in each process.
/// let sums = nccl::run_threads(4, |group| {
///     let mut sum = [group.rank() as f32, 1.0];
///     group.all_reduce_in_place(&mut sum, ReduceOp::Sum)?;
///     Ok(sum)
/// })?;
/// assert!(sums.iter().all(|sum| *sum == [6.0, 4.0]));
/// # Ok::<(), nccl::Error>(())
/// ```
///
/// # Source
/// `ProcessGroup` of c10d; `ncclComm_t` of nccl.h.
#[derive(Clone)]
pub struct ProcessGroup {
    inner: Arc<Inner>,
    timeout: Duration,
}

/// What all handles of a group share.
struct Inner {
    state: Arc<GroupState>,
    backend: Arc<dyn Backend>,
    world: Arc<World>,
    queue: Arc<Queue>,
    driver: Driver,
    /// NCCL, if it carries the operations on device memory.
    nccl: OnceLock<GuardedBackend>,
    /// For device memory; made when first asked for.
    device: OnceLock<Arc<dyn DeviceBackend>>,
    /// Subgroups made of this group so far.
    splits: AtomicU32,
    finalized: AtomicBool,
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessGroup")
            .field("name", &self.name())
            .field("rank", &self.rank())
            .field("world_size", &self.world_size())
            .field("backend", &self.backend_name())
            .finish_non_exhaustive()
    }
}

impl ProcessGroup {
    /// Joins the world that the launcher's environment describes.
    ///
    /// Runs unchanged under mpirun, srun, torchrun, Kubernetes jobs, `nccl run` and others; alone,
    /// it is a world of one. docs/launchers.md says what is read.
    ///
    /// # Errors
    /// A variable that is missing or wrong is named with its value; ranks that do not come are
    /// named at the deadline (`NCCL_RS_INIT_TIMEOUT_MS`, 5 minutes).
    ///
    /// # Examples
    /// ```
    /// let group = nccl::ProcessGroup::from_env()?; // without a launcher: a world of one
    /// assert_eq!((group.rank(), group.world_size()), (0, 1));
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `init_process_group("env://")` of c10d.
    pub fn from_env() -> Result<Self> {
        Self::builder().build()
    }

    /// Says everything explicitly.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn assemble(state: Arc<GroupState>, world: Arc<World>, timeout: Duration) -> Result<Self> {
        if let Some(control) = &world.control {
            control.register(state.clone());
        }
        let backend = CpuBackend::new(
            state.clone(),
            world.control.clone(),
            &world.options,
            world.tuning.clone(),
        )?;
        let backend: Arc<dyn Backend> = Arc::new(backend);
        let inner = Inner {
            state,
            driver: Driver::new(backend.clone()),
            backend,
            world,
            nccl: OnceLock::new(),
            queue: Arc::new(Queue::new()),
            device: OnceLock::new(),
            splits: AtomicU32::new(0),
            finalized: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner), timeout })
    }

    /// This process's number in the group.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.inner.state.rank
    }

    /// How many ranks the group has.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.inner.state.members.len()
    }

    /// Rank and size as one value.
    #[must_use]
    pub fn member(&self) -> Member {
        Member { rank: self.rank(), world_size: self.world_size() }
    }

    /// The group's name: `world`, or the parent's name with what made the subgroup.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.state.name
    }

    /// This process's number among those of its host, if the launcher says so or it can be
    /// derived; it picks the device.
    #[must_use]
    pub fn local_rank(&self) -> usize {
        self.inner.world.local_rank
    }

    /// The world rank of each rank of this group.
    #[must_use]
    pub fn world_ranks(&self) -> &[usize] {
        &self.inner.state.members
    }

    /// Which backend carries the group: `cpu` or `nccl`.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        if self.inner.nccl.get().is_some() { "nccl" } else { self.inner.backend.name() }
    }

    /// How bytes get to `peer`, in NCCL's words (`SHM/direct`, `P2P/CMA`, `P2P/direct pointer`,
    /// `NET/Socket/0`); `None` as long as there is no connection, and for this rank itself.
    #[must_use]
    pub fn transport_to(&self, peer: usize) -> Option<&'static str> {
        self.inner.backend.transport(peer)
    }

    /// The algorithm that the last collective used.
    #[must_use]
    pub fn last_algorithm(&self) -> &'static str {
        self.inner.backend.algorithm()
    }

    /// How long an operation of this handle may take; 10 minutes unless set
    /// (`NCCL_RS_TIMEOUT_MS`).
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same group with another timeout, for one call or for many.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let group = nccl::ProcessGroup::from_env()?;
    /// group.with_timeout(Duration::from_secs(5)).barrier()?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { inner: self.inner.clone(), timeout }
    }

    /// The store of the job, with keys of this group only.
    #[must_use]
    pub fn store(&self) -> SharedStore {
        let prefix = format!("nccl-rs/group/{}", self.name());
        Arc::new(PrefixStore::new(prefix, self.inner.world.store.clone()))
    }

    /// Ends the group for all its ranks: whoever waits in it, or calls it later, gets
    /// [`Error::Aborted`] with `reason`. Never blocks; may be called twice.
    pub fn abort(&self, reason: &str) {
        self.inner.backend.abort(reason);
    }

    /// Fails if the group has failed, here or on another rank: what is enqueued on a stream may
    /// never end then. Never waits, sends nothing.
    ///
    /// # Errors
    /// The first cause.
    ///
    /// # Examples
    /// ```
    /// # let group = nccl::ProcessGroup::from_env()?;
    /// group.check()?;
    /// group.abort("enough");
    /// assert!(group.check().is_err());
    /// # Ok::<(), nccl::Error>(())
    /// ```
    pub fn check(&self) -> Result<()> {
        self.inner.state.error(None).map_or(Ok(()), Err)
    }

    /// Waits until every rank is here and done with its work, then leaves.
    ///
    /// After it no rank can miss another: the store's host, too, is only gone once all have come.
    ///
    /// # Errors
    /// As [`ProcessGroup::barrier`]. Other handles of the group are of no use afterwards.
    pub fn finalize(self) -> Result<()> {
        self.barrier()?;
        if let Some(nccl) = self.inner.nccl.get() {
            nccl.finalize(self.timeout)?;
        }
        self.inner.finalized.store(true, Ordering::Release);
        self.inner.leave_in_order(self.timeout);
        Ok(())
    }

    /// Fails if the group was finalized by another handle.
    fn usable(&self, op: &'static str) -> Result<()> {
        if !self.inner.finalized.load(Ordering::Relaxed) {
            return Ok(());
        }
        let problem = format!("group {:?} was finalized", self.name());
        Err(Error::Usage { op, problem })
    }
}

/// How long the host of the control plane waits for the others to leave before it goes.
const FAREWELL_TIME: Duration = Duration::from_secs(5);

impl Inner {
    fn leave(&self) {
        if let Some(control) = &self.world.control {
            control.leave(self.state.id);
            control.unregister(self.state.id);
        }
    }

    /// As `leave`; the rank that hosts store and control plane goes last, since whoever still
    /// reads their last words would take its end for a death.
    fn leave_in_order(&self, timeout: Duration) {
        let Some(control) = &self.world.control else { return };
        control.leave(self.state.id);
        if self.state.members.len() == control.member().world_size && control.member().rank == 0 {
            let deadline = Deadline::after(timeout.min(FAREWELL_TIME));
            let here = |rank: &usize| {
                control.peer_state(self.state.members[*rank]) == PeerState::Alive
                    && !control.left(self.state.id, *rank)
            };
            let mut others: Vec<usize> =
                (0..self.state.members.len()).filter(|rank| *rank != self.state.rank).collect();
            loop {
                others.retain(here);
                if others.is_empty() || deadline.passed() || self.state.has_failed() {
                    break;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        control.unregister(self.state.id);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.queue.is_busy() || self.driver.is_busy() {
            self.backend.abort("a rank dropped the group with work in flight");
        }
        if !self.finalized.load(Ordering::Acquire) {
            self.leave();
        }
    }
}
