//! Who takes part, and what connects each pair.

use nccl::ProcessGroup;
use nccl::config::Env;

use crate::perf::Failure;
use crate::perf::gpu::DeviceInfo;
use crate::perf::gpu::Gpu;
use crate::perf::gpu::Libraries;
use crate::perf::memory::Memory;

/// A larger matrix is printed only when asked for.
const SHOWN_RANKS: usize = 16;

/// One rank.
#[derive(Clone, Debug)]
pub(crate) struct RankInfo {
    pub(crate) host: String,
    pub(crate) pid: String,
    pub(crate) local_rank: String,
    /// Its device, where device memory is measured.
    pub(crate) device: Option<DeviceInfo>,
    /// How it reaches each rank, in NCCL's words; empty for itself.
    pub(crate) links: Vec<String>,
}

/// All ranks.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) backend: &'static str,
    /// What rank 0 uses, where device memory is measured.
    pub(crate) libraries: Libraries,
    pub(crate) ranks: Vec<RankInfo>,
}

/// Makes all connections and asks every rank about itself.
///
/// # Errors
/// Those of the group.
pub(crate) fn explore(group: &ProcessGroup, gpu: Option<&Gpu>) -> Result<World, Failure> {
    const FIELD: char = '\u{1f}';
    let n = group.world_size();
    let (send, mut recv) = (vec![0_u8; n], vec![0_u8; n]);
    group.all_to_all(&send, &mut recv)?;
    let mut batch = group.batch();
    for (peer, element) in recv.iter_mut().enumerate() {
        batch = batch.send(send.get(..1).unwrap_or_default(), peer)?;
        batch = batch.recv(std::slice::from_mut(element), peer)?;
    }
    batch.run()?;
    let host = Env::process().host_name().unwrap_or("unknown").to_owned();
    let mut own = vec![host, std::process::id().to_string(), group.local_rank().to_string()];
    let device = gpu.map(Gpu::info).transpose()?;
    let DeviceInfo { ordinal, pci, name } = device.unwrap_or_default();
    own.extend([ordinal, pci, name]);
    own.extend((0..n).map(|peer| group.transport_to(peer).unwrap_or_default().to_owned()));
    let all = group.all_gather_bytes(own.join(&FIELD.to_string()).as_bytes())?;
    let read = |bytes: &Vec<u8>| {
        let text = String::from_utf8_lossy(bytes);
        let mut fields = text.split(FIELD).map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (host, pid, local_rank) = (next(), next(), next());
        let device = DeviceInfo { ordinal: next(), pci: next(), name: next() };
        let device = gpu.map(|_| device);
        RankInfo { host, pid, local_rank, device, links: fields.collect() }
    };
    let libraries = gpu.map(|gpu| gpu.libraries(group)).unwrap_or_default();
    Ok(World { backend: group.backend_name(), libraries, ranks: all.iter().map(read).collect() })
}

impl World {
    /// Which memory is measured.
    pub(crate) fn memory(&self) -> Memory {
        let on_device = self.ranks.iter().any(|rank| rank.device.is_some());
        if on_device { Memory::Device } else { Memory::Host }
    }

    /// Whether the group has NCCL, and it is not what is measured.
    pub(crate) fn is_beside_nccl(&self) -> bool {
        self.backend == "nccl" && self.memory() == Memory::Host
    }

    /// What carries the data in one word. Device memory: `nccl`, or `staged` through host memory.
    /// Host memory: the slowest kind of connection, `tcp`, `shm`, or `local` within a process.
    pub(crate) fn transport(&self) -> &'static str {
        if self.memory() == Memory::Device {
            return if self.backend == "nccl" { "nccl" } else { "staged" };
        }
        let links =
            || self.ranks.iter().flat_map(|rank| &rank.links).filter(|link| !link.is_empty());
        if links().any(|link| link.starts_with("NET")) {
            "tcp"
        } else if links().all(|link| link == "P2P/direct pointer") {
            "local"
        } else {
            "shm"
        }
    }

    /// How many hosts there are.
    pub(crate) fn hosts(&self) -> usize {
        let mut hosts: Vec<&str> = self.ranks.iter().map(|rank| rank.host.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts.len()
    }

    /// A square of letters and what they mean; of many ranks, unless `full`, only how many pairs
    /// have which connection.
    pub(crate) fn matrix(&self, full: bool) -> String {
        let mut kinds: Vec<(&str, usize)> = Vec::new();
        for (from, rank) in self.ranks.iter().enumerate() {
            for (_, link) in rank.links.iter().enumerate().filter(|(to, _)| *to != from) {
                match kinds.iter_mut().find(|(kind, _)| kind == link) {
                    Some((_, pairs)) => *pairs += 1,
                    None => kinds.push((link, 1)),
                }
            }
        }
        let mut text = "# Transport from rank (row) to rank (column)\n".to_owned();
        if self.transport() == "nccl" {
            text = "# Transport of host memory from rank (row) to rank (column); NCCL writes its \
                    own choice to its log, with NCCL_DEBUG=INFO\n"
                .to_owned();
        }
        if full || self.ranks.len() <= SHOWN_RANKS {
            text.push_str("#       ");
            (0..self.ranks.len()).for_each(|to| text.push_str(&format!(" {to:>3}")));
            text.push('\n');
            for (from, rank) in self.ranks.iter().enumerate() {
                text.push_str(&format!("#  {from:>5}"));
                for (to, link) in rank.links.iter().enumerate() {
                    let at = kinds.iter().position(|(kind, _)| kind == link);
                    let letter = at.filter(|_| to != from).map_or('.', letter);
                    text.push_str(&format!(" {letter:>3}"));
                }
                text.push('\n');
            }
        }
        for (at, (kind, pairs)) in kinds.iter().enumerate() {
            let kind = if kind.is_empty() { "no connection" } else { kind };
            text.push_str(&format!("#  {} = {kind} ({pairs} of the pairs)\n", letter(at)));
        }
        text
    }
}

/// There are fewer kinds than letters.
fn letter(at: usize) -> char {
    u8::try_from(at).ok().and_then(|at| b'A'.checked_add(at)).map_or('?', char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(links: &[&[&str]]) -> World {
        let rank = |links: &&[&str]| RankInfo {
            host: "h".to_owned(),
            pid: "1".to_owned(),
            local_rank: "0".to_owned(),
            device: None,
            links: links.iter().map(|link| (*link).to_owned()).collect(),
        };
        let libraries = Libraries::default();
        World { backend: "cpu", libraries, ranks: links.iter().map(rank).collect() }
    }

    #[test]
    fn the_matrix_has_a_letter_a_pair() {
        let (shm, net) = ("SHM/direct", "NET/Socket/0");
        let world = world(&[&["", shm, net], &[shm, "", net], &[net, net, ""]]);
        let expected = "# Transport from rank (row) to rank (column)\n\
            #          0   1   2\n\
            #      0   .   A   B\n\
            #      1   A   .   B\n\
            #      2   B   B   .\n\
            #  A = SHM/direct (2 of the pairs)\n\
            #  B = NET/Socket/0 (4 of the pairs)\n";
        assert_eq!(world.matrix(false), expected);
        assert_eq!((world.transport(), world.hosts()), ("tcp", 1));
    }

    #[test]
    fn the_word_for_all_is_that_of_the_slowest() {
        assert_eq!(world(&[&["", "P2P/CMA"], &["SHM/direct", ""]]).transport(), "shm");
        let direct = "P2P/direct pointer";
        assert_eq!(world(&[&["", direct], &[direct, ""]]).transport(), "local");
        assert_eq!(world(&[&[""]]).transport(), "local");
    }

    #[test]
    fn of_device_memory_the_word_is_that_of_the_backend() {
        let mut world = world(&[&["", "P2P/CMA"], &["P2P/CMA", ""]]);
        world.backend = "nccl";
        assert_eq!((world.transport(), world.memory()), ("shm", Memory::Host));
        assert!(world.is_beside_nccl());
        world.ranks[0].device = Some(DeviceInfo::default());
        assert_eq!((world.transport(), world.memory()), ("nccl", Memory::Device));
        assert!(!world.is_beside_nccl() && world.matrix(false).contains("NCCL_DEBUG=INFO"));
        world.backend = "cpu";
        assert_eq!(world.transport(), "staged");
        assert!(!world.matrix(false).contains("NCCL"));
    }

    #[test]
    fn many_ranks_are_summed_up() {
        let links = vec!["SHM/direct"; 17];
        let all = vec![links.as_slice(); 17];
        assert_eq!(world(&all).matrix(false).lines().count(), 2);
        assert_eq!(world(&all).matrix(true).lines().count(), 2 + 18);
    }
}
