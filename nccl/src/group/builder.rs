//! Making the world explicitly.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use super::ProcessGroup;
use super::rendezvous;
use super::rendezvous::Meeting;
use super::world::World;
use crate::backend::cpu::CpuOptions;
use crate::backend::cpu::Forced;
use crate::config::BackendChoice;
use crate::config::Env;
use crate::config::InitMethod;
use crate::config::Launch;
use crate::config::Launcher;
use crate::config::Rendezvous;
use crate::config::Server;
use crate::config::Settings;
use crate::config::TransportChoice;
use crate::control::Control;
use crate::control::JoinConfig;
use crate::debug;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;
use crate::schedule::Algorithm;
use crate::schedule::Tuning;
use crate::store::SharedStore;
use crate::trace::GroupState;

/// Sets up a world; made by [`ProcessGroup::builder`]. What is not set comes from the environment.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let group = nccl::ProcessGroup::builder()
///     .init_method("tcp://127.0.0.1:29511")?
///     .rank(0)
///     .world_size(1)
///     .timeout(Duration::from_secs(30))
///     .build()?;
/// assert_eq!(group.world_size(), 1);
/// # Ok::<(), nccl::Error>(())
/// ```
#[must_use = "a builder does nothing before `build`"]
pub struct Builder {
    env: Option<Env>,
    method: Option<InitMethod>,
    store: Option<SharedStore>,
    rank: Option<usize>,
    world_size: Option<usize>,
    local_rank: Option<usize>,
    timeout: Option<Duration>,
    init_timeout: Option<Duration>,
    heartbeat_timeout: Option<Duration>,
    backend: Option<BackendChoice>,
    transport: Option<TransportChoice>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("rank", &self.rank)
            .field("world_size", &self.world_size)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            env: None,
            method: None,
            store: None,
            rank: None,
            world_size: None,
            local_rank: None,
            timeout: None,
            init_timeout: None,
            heartbeat_timeout: None,
            backend: None,
            transport: None,
        }
    }

    /// Reads variables from `env` instead of the process.
    pub fn env(mut self, env: Env) -> Self {
        self.env = Some(env);
        self
    }

    /// Meets at `env://`, `tcp://host:port` or `file:///path`.
    ///
    /// # Errors
    /// [`Env`](Error::Env) for anything else.
    pub fn init_method(mut self, text: &str) -> Result<Self> {
        self.method = Some(InitMethod::parse(text)?);
        Ok(self)
    }

    /// Meets in a store that is there already, under keys that begin with `nccl-rs/`.
    pub fn store(mut self, store: SharedStore) -> Self {
        self.store = Some(store);
        self
    }

    /// This process's rank.
    pub fn rank(mut self, rank: usize) -> Self {
        self.rank = Some(rank);
        self
    }

    /// How many ranks there are.
    pub fn world_size(mut self, world_size: usize) -> Self {
        self.world_size = Some(world_size);
        self
    }

    /// Rank and size.
    pub fn member(self, member: Member) -> Self {
        self.rank(member.rank).world_size(member.world_size)
    }

    /// This process's number among those of its host.
    pub fn local_rank(mut self, local_rank: usize) -> Self {
        self.local_rank = Some(local_rank);
        self
    }

    /// How long an operation may take (`NCCL_RS_TIMEOUT_MS`).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long the other ranks may take to come (`NCCL_RS_INIT_TIMEOUT_MS`).
    pub fn init_timeout(mut self, timeout: Duration) -> Self {
        self.init_timeout = Some(timeout);
        self
    }

    /// How long a rank may be silent before it counts as lost (`NCCL_RS_HEARTBEAT_TIMEOUT_MS`).
    pub fn heartbeat_timeout(mut self, timeout: Duration) -> Self {
        self.heartbeat_timeout = Some(timeout);
        self
    }

    /// Which backend carries the collectives (`NCCL_RS_BACKEND`).
    pub fn backend(mut self, backend: BackendChoice) -> Self {
        self.backend = Some(backend);
        self
    }

    /// One transport for all peers (`NCCL_RS_TRANSPORT`).
    pub fn transport(mut self, transport: TransportChoice) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Joins: returns once all ranks are there.
    ///
    /// # Errors
    /// Settings that are wrong or contradict each other, at once; ranks that do not come, at the
    /// deadline, by number.
    pub fn build(self) -> Result<ProcessGroup> {
        let env = self.env.clone().unwrap_or_else(Env::process);
        let mut settings = Settings::from_env(&env)?;
        let [level, subsys, file] = ["NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_FILE"];
        debug::init(env.get(level)?, env.get(subsys)?, env.get(file)?);
        for note in &settings.notes {
            log::warn!(target: "nccl::env", "{note}");
        }
        self.override_settings(&mut settings)?;
        let launch = self.launch(&env)?;
        let meeting = match &self.store {
            Some(store) => Meeting::in_store(store.clone()),
            None => rendezvous::meet(&launch, &env, &settings)?,
        };
        let member = Member { rank: launch.rank, world_size: launch.world_size };
        let dev = launch.local_rank.and_then(|rank| i32::try_from(rank).ok()).unwrap_or(0);
        let version = env!("CARGO_PKG_VERSION");
        debug::version(launch.rank, dev, format_args!("nccl-rs version {version}, CPU backend"));
        if let Some(address) = &meeting.address {
            debug::info!(debug::Subsys::BOOTSTRAP, dev, "Bootstrap: Using {address}<0>");
        }
        let lacks = super::nccl::lacks(&settings);
        let control = join(member, &launch, &settings, &meeting, &lacks)?;
        let local_rank = self.local_rank.or(launch.local_rank);
        let local_rank = local_rank.unwrap_or_else(|| derived_local_rank(control.as_deref()));
        let tuning = agree(&settings, control.as_deref(), &meeting)?;
        let world = World {
            control,
            store: meeting.store,
            options: options(&settings),
            tuning,
            local_rank,
            nccl: OnceLock::new(),
            stage_bytes: settings.transport.buffer_bytes,
            _server: meeting.server,
        };
        let members = (0..member.world_size).collect();
        let state = GroupState::new(0, "world".to_owned(), member.rank, members);
        let timeout = settings.timeouts.operation;
        let group = ProcessGroup::assemble(Arc::new(state), Arc::new(world), timeout)?;
        group.choose_backend(&settings, &env, &lacks)?;
        Ok(group)
    }

    fn override_settings(&self, settings: &mut Settings) -> Result<()> {
        let timeouts = &mut settings.timeouts;
        let set = [
            ("timeout", self.timeout, &mut timeouts.operation),
            ("init_timeout", self.init_timeout, &mut timeouts.init),
            ("heartbeat_timeout", self.heartbeat_timeout, &mut timeouts.heartbeat),
        ];
        for (name, given, setting) in set {
            match given {
                Some(Duration::ZERO) => {
                    let problem = format!("a {name} of zero leaves no time for anything");
                    return Err(Error::Usage { op: "build", problem });
                }
                Some(given) => *setting = given,
                None => {}
            }
        }
        settings.transport.force = self.transport.or(settings.transport.force);
        settings.backend = self.backend.unwrap_or(settings.backend);
        Ok(())
    }

    /// Rank, size and place: as given, else from the launcher.
    fn launch(&self, env: &Env) -> Result<Launch> {
        let method = self.method.clone().unwrap_or(InitMethod::Env);
        match (self.rank, self.world_size) {
            (None, None) => Launch::from_init_method(&method, env),
            (Some(rank), Some(world_size)) => {
                let member = Member { rank, world_size };
                if world_size == 0 || rank >= world_size {
                    return Err(Error::Rank { op: "build", what: "rank", rank, world_size });
                }
                let alone = self.store.is_some() || world_size == 1;
                if alone { Ok(at_no_place(member)) } else { at_place(member, &method, env) }
            }
            _ => {
                let problem = "rank and world_size go together: give both or none".to_owned();
                Err(Error::Usage { op: "build", problem })
            }
        }
    }
}

/// A launch of `member` that needs no place to meet.
fn at_no_place(member: Member) -> Launch {
    Launch {
        launcher: Launcher::Plain,
        rank: member.rank,
        world_size: member.world_size,
        local_rank: None,
        local_world_size: None,
        node_rank: None,
        nodes: None,
        rendezvous: Rendezvous::Single,
        job_id: String::new(),
        attempt: 0,
        notes: Vec::new(),
    }
}

/// A launch of `member` that meets where `method` says.
fn at_place(member: Member, method: &InitMethod, env: &Env) -> Result<Launch> {
    let rendezvous = match method {
        InitMethod::Tcp { at, .. } => Rendezvous::Tcp { at: at.clone(), server: Server::Rank0 },
        InitMethod::File { path, .. } => Rendezvous::File { path: path.clone() },
        InitMethod::Env => {
            let read = |var: &str| {
                let value = env.get(var)?.map(str::to_owned);
                let hint = "is missing; set it, or give the builder an init_method or a store";
                value.ok_or_else(|| Error::env_missing(var, hint))
            };
            let (host, port) = (read("MASTER_ADDR")?, read("MASTER_PORT")?);
            let text = if host.contains(':') && !host.starts_with('[') {
                format!("tcp://[{host}]:{port}")
            } else {
                format!("tcp://{host}:{port}")
            };
            let InitMethod::Tcp { at, .. } = InitMethod::parse(&text)? else {
                return Err(Error::env("MASTER_ADDR", host, "is no address"));
            };
            Rendezvous::Tcp { at, server: Server::Rank0 }
        }
    };
    Ok(Launch { rendezvous, ..at_no_place(member) })
}

/// Joins the control plane; a world of one has none.
fn join(
    member: Member,
    launch: &Launch,
    settings: &Settings,
    meeting: &Meeting,
    lacks: &str,
) -> Result<Option<Arc<Control>>> {
    if member.world_size == 1 {
        return Ok(None);
    }
    let bind = match meeting.address {
        Some(address) => address,
        None => rendezvous::own_address(settings, None)?,
    };
    let config = JoinConfig {
        member,
        store: meeting.store.clone(),
        timeout: settings.timeouts.init,
        heartbeat_timeout: settings.timeouts.heartbeat,
        bind,
        local_rank: launch.local_rank.and_then(|rank| u32::try_from(rank).ok()),
        node: launch.node_rank.map(|node| node.to_string()),
        wants: settings.backend,
        lacks: lacks.to_owned(),
        progress: Box::new(say),
    };
    Control::join(config).map(Some)
}

/// Tells whoever waits why nothing happens: through the log, or on standard error without one.
fn say(text: &str) {
    if log::log_enabled!(target: "nccl::bootstrap", log::Level::Warn) {
        log::warn!(target: "nccl::bootstrap", "{text}");
    } else {
        use std::io::Write;
        drop(writeln!(std::io::stderr(), "nccl: {text}"));
    }
}

/// The ranks before this one on its host.
fn derived_local_rank(control: Option<&Control>) -> usize {
    let Some(control) = control else { return 0 };
    let peers = control.peers();
    let rank = control.member().rank;
    let Some(me) = peers.get(rank) else { return 0 };
    peers.iter().filter(|peer| peer.rank < rank && peer.same_host(me)).count()
}

/// The tuning, which all ranks must have alike: their schedules would not fit otherwise.
fn agree(settings: &Settings, control: Option<&Control>, meeting: &Meeting) -> Result<Tuning> {
    let mut tuning = Tuning::default();
    let spec = &settings.transport.algo;
    let names = ["tree", "ring", "pat"];
    let mut allowed = names.iter().filter(|name| spec.allows("all_reduce", name));
    let word = allowed.next().copied().filter(|_| allowed.next().is_none());
    tuning.algorithm = word.and_then(Algorithm::from_name);
    tuning.agreement = settings.transport.check;
    let Some(control) = control else { return Ok(tuning) };
    let key = "nccl-rs/tuning";
    let own = format!(
        "{:016x} NCCL_ALGO={} NCCL_RS_CHECK={} NCCL_BUFFSIZE={}",
        tuning.digest(),
        word.unwrap_or("unset"),
        u8::from(tuning.agreement),
        settings.transport.buffer_bytes
    );
    if control.member().rank == 0 {
        meeting.store.set(&format!("{key}/{}", control.world_name()), own.as_bytes())?;
        return Ok(tuning);
    }
    let theirs = meeting
        .store
        .get_within(&format!("{key}/{}", control.world_name()), settings.timeouts.init)?;
    if theirs == own.as_bytes() {
        return Ok(tuning);
    }
    let member = control.member();
    let why = format!(
        "its tuning is not that of rank 0 ({own} against {}); set the same NCCL_ALGO, NCCL_RS_CHECK and NCCL_BUFFSIZE and use the same version on all ranks",
        String::from_utf8_lossy(&theirs)
    );
    Err(Error::Join { rank: member.rank, world_size: member.world_size, why })
}

fn options(settings: &Settings) -> CpuOptions {
    let (transport, net) = (&settings.transport, &settings.net);
    let lanes = net.socket_threads * net.sockets_per_thread;
    CpuOptions {
        shm: !transport.shm_disable,
        direct: !transport.p2p_disable,
        force: transport.force.map(|force| match force {
            TransportChoice::Tcp => Forced::Tcp,
            TransportChoice::Shm => Forced::Shm,
        }),
        lanes: u16::try_from(lanes.clamp(1, 64)).unwrap_or(1),
        single_copy_bytes: transport.cma_threshold_bytes,
        slot_bytes: transport.shm_slot_bytes,
    }
}

/// This host, for worlds that meet in memory.
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
