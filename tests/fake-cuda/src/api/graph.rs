//! Graphs: what a capture gave, ready to run as often as one likes.

#![expect(unsafe_code, reason = "exports the driver's names")]

use std::ffi::c_char;
use std::sync::Arc;

use crate::capture::EXECUTABLES;
use crate::capture::GRAPHS;
use crate::capture::Graph;
use crate::code::Code;
use crate::ffi::Out;
use crate::ffi::api;
use crate::registry::new_handle;
use crate::stream;

api! {
    fn cuGraphInstantiateWithFlags(executable: Out<usize>, graph: usize, _flags: u64) {
        executable.set(instantiate(graph)?)
    }

    fn cuGraphInstantiate_v2(
        executable: Out<usize>,
        graph: usize,
        _node: Out<usize>,
        _log: Out<c_char>,
        _log_bytes: usize,
    ) {
        executable.set(instantiate(graph)?)
    }

    fn cuGraphLaunch(executable: usize, stream: usize) {
        let graph = EXECUTABLES.get(executable)?;
        let stream = stream::get(stream)?;
        let run = move || graph.0.iter().for_each(|node| node());
        stream::submit(&stream, Arc::new(run)).map(drop)
    }

    fn cuGraphUpload(executable: usize, _stream: usize) { EXECUTABLES.get(executable).map(drop) }

    fn cuGraphGetNodes(graph: usize, _nodes: Out<usize>, count: Out<usize>) {
        count.set(GRAPHS.get(graph)?.0.len())
    }

    fn cuGraphExecDestroy(executable: usize) { EXECUTABLES.remove(executable).map(drop) }

    fn cuGraphDestroy(graph: usize) { GRAPHS.remove(graph).map(drop) }
}

fn instantiate(graph: usize) -> Result<usize, Code> {
    let graph = GRAPHS.get(graph)?;
    let handle = new_handle();
    EXECUTABLES.add(handle, Arc::new(Graph(graph.0.clone())));
    Ok(handle)
}
