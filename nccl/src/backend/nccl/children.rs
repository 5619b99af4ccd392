//! Communicators made of communicators: split, shrunk, grown.
#![expect(unsafe_code, reason = "calls libnccl to make communicators out of others")]

use core::ffi::c_int;
use core::ptr::null_mut;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nccl_sys::NcclResult;
use nccl_sys::ncclComm;
use nccl_sys::ncclComm_t;
use nccl_sys::ncclConfig_t;

use crate::backend::nccl::communicator::Communicator;
use crate::backend::nccl::config::CommConfig;
use crate::backend::nccl::config::RawConfig;
use crate::backend::nccl::init::Plan;
use crate::backend::nccl::library::Nccl;
use crate::backend::nccl::query;
use crate::backend::nccl::shared::Entered;
use crate::backend::nccl::shared::Raw;
use crate::backend::nccl::shared::Shared;
use crate::backend::nccl::unique_id::UniqueId;
use crate::clock::Deadline;
use crate::clock::LazyDeadline;
use crate::count;
use crate::cuda::Device;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;

const SPLIT: &str = "ncclCommSplit";
const SHRINK: &str = "ncclCommShrink";
const GROW: &str = "ncclCommGrow";

impl Communicator {
    /// Makes communicators of parts of this one: ranks of the same `color` go together, ordered by
    /// `key`, then by their rank here. A rank without a color is in none, and gets `None`. All
    /// ranks of this communicator call it.
    ///
    /// Without a configuration the new one has that of this one.
    ///
    /// # Errors
    /// [`Error::NcclStuck`] if not all ranks called it within `timeout`: then both are aborted.
    /// [`Error::Unsupported`], [`Error::Nccl`], [`Error::Usage`] for a color or key that is no
    /// `i32`.
    ///
    /// # Source
    /// `ncclCommSplit` of nccl.h (2.18).
    pub fn split(
        &self,
        color: Option<u32>,
        key: u32,
        config: Option<&CommConfig>,
        timeout: Duration,
    ) -> Result<Option<Self>> {
        let number = |what: &str, value: u32| {
            c_int::try_from(value).map_err(|_| Error::Usage {
                op: "Communicator::split",
                problem: format!("{what} {value} is more than NCCL takes, {}", c_int::MAX),
            })
        };
        let key = number("key", key)?;
        let color =
            color.map_or(Ok(nccl_sys::NCCL_SPLIT_NOCOLOR), |color| number("color", color))?;
        let split = self.nccl().library().ncclCommSplit().map_err(Error::Unsupported)?;
        self.child(SPLIT, config, timeout, move |comm, new, config| {
            // SAFETY: as `child` promises: a live communicator, a place that stays, and a
            // configuration or null.
            unsafe { split(comm, color, key, new, config) }
        })
    }

    /// Makes a communicator without some ranks, which do not call this; all others do, with the
    /// same list. If `abort_first`, what was enqueued with this communicator is stopped, as after
    /// an error of a rank that is excluded; otherwise this one must be idle.
    ///
    /// # Errors
    /// As of [`Communicator::split`]; [`Error::Usage`] for an empty list, or one with this rank.
    ///
    /// # Source
    /// `ncclCommShrink` of nccl.h (2.27).
    pub fn shrink(
        &self,
        exclude: &[usize],
        abort_first: bool,
        config: Option<&CommConfig>,
        timeout: Duration,
    ) -> Result<Self> {
        const OP: &str = "Communicator::shrink";
        let shrink = self.nccl().library().ncclCommShrink().map_err(Error::Unsupported)?;
        let Member { rank, world_size } = self.member();
        // A copy: NCCL sorts it in place.
        let mut excluded = Vec::with_capacity(exclude.len());
        for other in exclude {
            count::check_rank(OP, "exclude", *other, world_size)?;
            excluded.push(c_int::try_from(*other).unwrap_or(c_int::MAX));
        }
        excluded.sort_unstable();
        excluded.dedup();
        if excluded.is_empty() || exclude.contains(&rank) {
            let problem = match excluded.is_empty() {
                true => "no rank is excluded".to_owned(),
                false => format!("rank {rank} excludes itself; only those that stay call this"),
            };
            return Err(Error::Usage { op: OP, problem });
        }
        let count = c_int::try_from(excluded.len()).unwrap_or(c_int::MAX);
        let flags =
            if abort_first { nccl_sys::NCCL_SHRINK_ABORT } else { nccl_sys::NCCL_SHRINK_DEFAULT };
        let made = self.child(SHRINK, config, timeout, move |comm, new, config| {
            // SAFETY: as `child` promises; and a list of `count` numbers, which is copied or
            // sorted before the call returns.
            unsafe { shrink(comm, excluded.as_mut_ptr(), count, new, config, flags) }
        })?;
        made.ok_or_else(|| no_handle(SHRINK))
    }

    /// Makes the id with which [`Communicator::grow`] and [`Communicator::join_grown`] meet: one
    /// rank makes it, once for each time, and gives it to the ranks that join.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Nccl`].
    ///
    /// # Source
    /// `ncclCommGetUniqueId` of nccl.h (2.29).
    pub fn grow_id(&self) -> Result<UniqueId> {
        const CALL: &str = "ncclCommGetUniqueId";
        let get = self.nccl().library().ncclCommGetUniqueId().map_err(Error::Unsupported)?;
        self.shared().ask(CALL, |entered| {
            let mut id = UniqueId::from_bytes([0; UniqueId::BYTES]).to_raw();
            // SAFETY: the handle is live and this thread's for now; the function writes one id,
            // through a pointer to a live one, before it returns.
            let result = entered.call(|comm| unsafe { get(comm, &raw mut id) });
            entered.nccl().check(CALL, result).map(|()| UniqueId::from_raw(&id))
        })
    }

    /// Makes a communicator of `world_size` ranks: those of this one, who keep their ranks and all
    /// call this, and others behind them, who call [`Communicator::join_grown`]. The rank that has
    /// made the id passes it, the others of this communicator pass none.
    ///
    /// # Errors
    /// As of [`Communicator::split`]; [`Error::Usage`] if `world_size` is not larger than now.
    ///
    /// # Source
    /// `ncclCommGrow` of nccl.h (2.29).
    pub fn grow(
        &self,
        world_size: usize,
        id: Option<&UniqueId>,
        config: Option<&CommConfig>,
        timeout: Duration,
    ) -> Result<Self> {
        let grow = self.nccl().library().ncclCommGrow().map_err(Error::Unsupported)?;
        let now = self.member().world_size;
        let (true, Ok(ranks)) = (world_size > now, c_int::try_from(world_size)) else {
            let problem = format!("a group of {now} ranks cannot grow to {world_size}");
            return Err(Error::Usage { op: "Communicator::grow", problem });
        };
        let id = id.map(|id| id.to_raw());
        let made = self.child(GROW, config, timeout, move |comm, new, config| {
            let id = id.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
            // SAFETY: as `child` promises; and an id or null. It is read before the call returns.
            unsafe { grow(comm, ranks, id, -1, new, config) }
        })?;
        made.ok_or_else(|| no_handle(GROW))
    }

    /// Joins ranks that call [`Communicator::grow`], as one of the ranks behind theirs.
    ///
    /// # Errors
    /// As of [`Communicator::new`].
    ///
    /// # Source
    /// `ncclCommGrow` of nccl.h (2.29).
    pub fn join_grown(
        nccl: &'static Nccl,
        device: &Device,
        member: Member,
        id: &UniqueId,
        config: &CommConfig,
        timeout: Duration,
    ) -> Result<Self> {
        let grow = nccl.library().ncclCommGrow().map_err(Error::Unsupported)?;
        let (device, config, deadline) = (device.clone(), config.clone(), Deadline::after(timeout));
        let plan = Plan { nccl, device, member, ids: vec![*id], config };
        plan.check()?;
        let shared = plan.make_by(GROW, timeout, &|| None, move |plan, config| {
            let _current = plan.device.make_current()?;
            let number = |value: usize| c_int::try_from(value).unwrap_or(c_int::MAX);
            let (ranks, rank) = (number(plan.member.world_size), number(plan.member.rank));
            let mut raw = config.raw;
            let (place, id) = (Place::new(), plan.ids.first().map(|id| id.to_raw()));
            let id = id.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
            // SAFETY: null is how a new rank calls it; an id that is read before the call returns,
            // a place that stays, and one struct of the size that it says.
            let result = unsafe { grow(null_mut(), ranks, id, rank, place.as_ptr(), &raw mut raw) };
            // It is there before the call returns, as with other ways to make one; if not, whoever
            // asks for its state needs it all the same.
            while result == NcclResult::IN_PROGRESS && place.get().is_null() {
                if deadline.passed() {
                    let (device, waited) = (plan.device.ordinal(), deadline.waited());
                    return Err(Error::NcclStuck { call: GROW, device, waited });
                }
                thread::sleep(PAUSE);
            }
            // While it is in progress NCCL may write there once more, so it stays.
            let in_progress = result == NcclResult::IN_PROGRESS;
            let comm = if in_progress { place.get() } else { place.take() };
            Ok((result, Raw(comm)))
        })?;
        Ok(Self::of(shared))
    }

    /// Makes a communicator out of this one: `make` calls NCCL with this one's handle, the place
    /// for the new one's, and a configuration or null. `None` if NCCL made none.
    fn child(
        &self,
        call: &'static str,
        config: Option<&CommConfig>,
        timeout: Duration,
        make: impl FnOnce(ncclComm_t, *mut ncclComm_t, *mut ncclConfig_t) -> NcclResult + Send + 'static,
    ) -> Result<Option<Self>> {
        self.shared().check_awake(call)?;
        let own = match config {
            Some(config) => Some(Arc::new(config.to_raw(self.nccl().version())?)),
            None => None,
        };
        // Without one the texts of the parent's are used on.
        let kept = own.clone().or_else(|| self.shared().config().cloned());
        self.shared().within(call, timeout, move |entered, deadline| {
            let mut raw = own.map(|config| config.raw);
            let config = raw.as_mut().map_or(null_mut(), core::ptr::from_mut);
            let place = Place::new();
            let result = entered.call(|comm| make(comm, place.as_ptr(), config));
            entered.finish(call, result, deadline)?;
            born(entered, place.take(), kept, call, deadline)
        })
    }
}

/// Takes over a new communicator once it is ready.
fn born(
    parent: &Entered<'_>,
    comm: ncclComm_t,
    config: Option<Arc<RawConfig>>,
    call: &'static str,
    deadline: &LazyDeadline,
) -> Result<Option<Communicator>> {
    if comm.is_null() {
        return Ok(None);
    }
    let (nccl, device) = (parent.nccl(), parent.device());
    // Known once it is ready.
    let unknown = Member { rank: 0, world_size: 1 };
    // SAFETY: NCCL has made it on the parent's device, and nobody else has the handle. Dropped, as
    // on each error below, it is aborted.
    let new =
        Communicator::of(unsafe { Shared::new(nccl, device, unknown, comm, true, config.clone()) });
    let entered = new.shared().enter()?;
    entered.finish(call, NcclResult::IN_PROGRESS, deadline)?;
    let member = query::member(&entered)?;
    let comm = entered.give_up(Error::CommEnded { why: "it has another name".to_owned() });
    // SAFETY: as above; the handle was taken out of the other value, which does nothing any more.
    let shared = unsafe { Shared::new(nccl, device, member, comm, true, config) };
    Ok(Some(Communicator::of(shared)))
}

fn no_handle(call: &'static str) -> Error {
    let problem = format!("{call} succeeded, and gave no communicator");
    Error::Usage { op: "Communicator", problem }
}

/// Between two looks at a place.
const PAUSE: Duration = Duration::from_micros(200);

/// Where NCCL puts a handle, now or later and from a thread of its own: so it is never freed
/// before NCCL is done with it, which only success tells.
struct Place(*mut AtomicPtr<ncclComm>);

impl Place {
    fn new() -> Self {
        Self(Box::into_raw(Box::new(AtomicPtr::new(null_mut()))))
    }

    fn as_ptr(&self) -> *mut ncclComm_t {
        self.0.cast()
    }

    /// The handle so far.
    fn get(&self) -> ncclComm_t {
        // SAFETY: made by `Box::into_raw` in `new`, and freed by `take` only.
        unsafe { &*self.0 }.load(Ordering::Acquire)
    }

    /// The handle, once NCCL is done with the place.
    fn take(self) -> ncclComm_t {
        let comm = self.get();
        // SAFETY: made by `Box::into_raw` in `new`, and freed once, since this takes `self`; NCCL
        // does not use it any more.
        drop(unsafe { Box::from_raw(self.0) });
        comm
    }
}
