//! The ranks agree on the backend before any of them makes a communicator.

use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::Result;
use tests::processes::Ended;
use tests::processes::Processes;

use super::world;

pub(super) fn backend(group: ProcessGroup) -> Result<String> {
    group.barrier()?;
    Ok(group.backend_name().to_owned())
}

/// What each rank says, and how it did not take long.
fn refused(world: &Processes) -> Vec<String> {
    let begun = Instant::now();
    let ended = world.run_to_the_end("backend");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let error = |ended: &Ended| {
        let line = ended.log.lines().find_map(|line| Some(line.split_once("... error: ")?.1));
        line.unwrap_or_else(|| panic!("no error in:\n{}", ended.log)).to_owned()
    };
    ended.iter().map(error).collect()
}

/// Everybody must say `what`; with `auto` everybody takes the CPU backend.
fn nobody(world: impl Fn() -> Processes, what: &str) {
    for (rank, text) in refused(&world()).iter().enumerate() {
        assert!(text.contains(what), "rank {rank}: {text}");
    }
    let auto = world().with("NCCL_RS_BACKEND", "auto");
    assert!(auto.run("backend").iter().all(|backend| backend == "cpu"), "{what}");
}

#[test]
fn with_auto_the_fake_nccl_is_taken_where_all_ranks_have_it() {
    let (world, _folder) = world(3);
    assert_eq!(world.with("NCCL_RS_BACKEND", "auto").run("backend"), ["nccl"; 3]);
}

#[test]
fn ranks_with_other_versions_of_the_fake_nccl_are_named() {
    let (old, _folder) = (tests::fakes::nccl_as("2.28.9"), ());
    let (_, folder) = world(1);
    nobody(
        || {
            let mut world = Processes::new(3).with("NCCL_RS_BACKEND", "nccl");
            for (name, value) in folder.env() {
                world = world.with(name, &value);
            }
            world.with_own(1, "NCCL_RS_NCCL_LIB", &old.display().to_string())
        },
        "rank 0 has NCCL 2.32.3, and rank 1 has 2.28.9; the ranks must have the same",
    );
}

#[test]
fn a_rank_without_a_fake_gpu_is_named() {
    let (_, folder) = world(1);
    nobody(
        || {
            let mut world = Processes::new(3).with("NCCL_RS_BACKEND", "nccl");
            for (name, value) in folder.env() {
                world = world.with(name, &value);
            }
            world.with_own(2, "FAKE_CUDA_DEVICES", "0")
        },
        "no NCCL on rank 2: rank 2 (host ",
    );
}

#[test]
fn two_ranks_on_one_fake_gpu_are_named_and_may_share_it_where_nccl_can() {
    let (_, folder) = world(1);
    let on_one = || {
        let mut world = Processes::new(2).with("NCCL_RS_BACKEND", "nccl");
        for (name, value) in folder.env() {
            world = world.with(name, &value);
        }
        world.with("FAKE_CUDA_DEVICES", "1")
    };
    nobody(on_one, "ranks 0 and 1 have the same GPU GPU-");
    let sharing = on_one().with("NCCL_MULTI_RANK_GPU_ENABLE", "1");
    assert_eq!(sharing.run("backend"), ["nccl"; 2]);
    let old = tests::fakes::nccl_as("2.28.9").display().to_string();
    let texts =
        refused(&on_one().with("NCCL_MULTI_RANK_GPU_ENABLE", "1").with("NCCL_RS_NCCL_LIB", &old));
    assert!(texts.iter().all(|text| text.contains("need NCCL 2.30.3")), "{texts:?}");
}

#[test]
fn one_rank_told_cpu_and_another_told_nccl_is_an_error_on_both() {
    let (world, _folder) = world(2);
    let texts = refused(&world.with_own(1, "NCCL_RS_BACKEND", "cpu"));
    let expected =
        "NCCL_RS_BACKEND is nccl on rank 0, and cpu on rank 1; set the same on all ranks";
    assert!(texts.iter().all(|text| text.ends_with(expected)), "{texts:?}");
}

#[test]
fn without_any_library_nccl_is_refused_with_where_it_was_looked_for() {
    let world = Processes::new(2)
        .with("NCCL_RS_BACKEND", "nccl")
        .with("NCCL_RS_CUDA_LIB", "/nonexistent/libcuda.so.1");
    for ended in world.run_to_the_end("backend") {
        assert!(ended.log.contains("no NCCL on rank 0, 1: rank "), "{}", ended.log);
        assert!(ended.log.contains("/nonexistent/libcuda.so.1"), "{}", ended.log);
    }
}

#[test]
fn an_init_that_hangs_in_the_fake_nccl_ends_at_the_deadline_on_all_ranks() {
    let (world, _folder) = world(2);
    let world = world.with("FAKE_NCCL_HANG", "init").with("NCCL_RS_INIT_TIMEOUT_MS", "2000");
    let texts = refused(&world);
    let stuck = |text: &String| text.contains("ncclCommInitRankConfig on device");
    assert!(texts.iter().any(stuck), "{texts:?}");
    let told = |text: &String| stuck(text) || text.contains("NCCL could not be initialised");
    assert!(texts.iter().all(told), "{texts:?}");
}

#[test]
fn an_id_that_the_fake_nccl_cannot_make_is_told_to_all_ranks() {
    let (world, _folder) = world(3);
    let texts = refused(&world.with("FAKE_NCCL_FAIL", "ncclGetUniqueId=2"));
    let expected = "rank 0 cannot make an NCCL id: ncclGetUniqueId failed: ncclSystemError (2)";
    assert!(texts.iter().all(|text| text.contains(expected)), "{texts:?}");
}
