//! What the targets in `fuzz/` call: one function per reader of bytes or text that somebody else
//! wrote. Each asserts what holds for every input; only built with `--cfg fuzzing`.

use crate::config::Env;
use crate::config::IfSpec;
use crate::config::InitMethod;
use crate::config::Launch;
use crate::config::Settings;
pub use crate::config::fuzzing::hostlists;
pub use crate::debug::fuzzing::debug_files;
pub use crate::store::fuzzing::store_files;
pub use crate::store::fuzzing::store_replies;
pub use crate::store::fuzzing::store_requests;
pub use crate::transport::tcp::fuzzing::frame_heads;
use crate::wire::MESH_HELLO_BYTES;
use crate::wire::MeshHello;
use crate::wire::control::Message;

/// Where the variables' file is.
const CONF: &str = "/conf";
/// The message that begins with a rank's record.
const HELLO: u8 = 1;

/// Control messages: what is understood is understood again after it was written.
pub fn control_messages(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    let written = message.encode();
    let body = written.get(4..).unwrap_or_default();
    assert_eq!(Message::decode(body), Ok(message));
}

/// Records of ranks, each in the hello that carries it.
pub fn peer_records(bytes: &[u8]) {
    let mut hello = vec![HELLO];
    hello.extend_from_slice(&[7; 16]);
    hello.extend_from_slice(&3_u32.to_le_bytes());
    hello.extend_from_slice(bytes);
    control_messages(&hello);
}

/// The beginning of a data connection: every byte of it means something.
pub fn mesh_hellos(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<MESH_HELLO_BYTES>() else { return };
    if let Ok(hello) = MeshHello::decode(bytes) {
        assert_eq!(hello.encode(), *bytes);
    }
}

/// NCCL's configuration file, and the settings out of it.
pub fn conf_files(bytes: &[u8]) {
    let env = Env::empty().with("NCCL_CONF_FILE", CONF).with_file(CONF, bytes).with_conf_files();
    let _ = Settings::from_env(&env);
    let _ = Launch::from_env(&env);
}

/// `NCCL_SOCKET_IFNAME`: the specification, and a name that is held against it.
pub fn interface_lists(text: &str) {
    let (spec, name) = text.split_once('\n').unwrap_or((text, "eth0"));
    if let Ok(spec) = IfSpec::parse(spec) {
        let _ = spec.admits(name);
        assert!(!spec.is_auto() || spec.admits("anything"));
    }
}

/// URLs that say where ranks meet.
pub fn init_methods(text: &str) {
    if let Ok(method) = InitMethod::parse(text) {
        let _ = Launch::from_init_method(&method, &Env::empty());
    }
}

/// Environments of launchers, one `NAME=VALUE` a line. A rank is below its world's size.
pub fn launch_environments(text: &str) {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let env: Env = pairs.map(|(name, value)| (name.trim(), value)).collect();
    let _ = Settings::from_env(&env);
    if let Ok(launch) = Launch::from_env(&env) {
        assert!(launch.rank < launch.world_size, "{launch:?}");
        let locals = launch.local_rank.zip(launch.local_world_size);
        assert!(locals.is_none_or(|(rank, size)| rank < size), "{launch:?}");
        let nodes = launch.node_rank.zip(launch.nodes);
        assert!(nodes.is_none_or(|(rank, size)| rank < size), "{launch:?}");
        let _ = launch.rendezvous.to_string();
    }
}
