//! The table of the CUDA driver, without a GPU: what is found, what is said, and every call
//! against a driver of host memory that the C compiler makes (`cuda_driver.c`). That a call does
//! what it must on a GPU is not shown here.

#![expect(unsafe_code, reason = "opens libraries by path, and uses memory by address")]
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use nccl::DataType;
use nccl::DriverProblem;
use nccl::Error;
use nccl::Family;
use nccl::bf16;
use nccl::config::Env;
use nccl::cuda;
use nccl::cuda::CaptureMode;
use nccl::cuda::CaptureStatus;
use nccl::cuda::DeviceBuf as _;
use nccl::cuda::DeviceBufMut as _;
use nccl::cuda::DeviceVec;
use nccl::cuda::Driver;
use nccl::cuda::Event;
use nccl::cuda::HostVec;
use nccl::cuda::MemoryKind;
use nccl::cuda::RawDeviceSlice;
use nccl::cuda::Stream;
use nccl::cuda::StreamRef;
use tempfile::TempDir;

mod programs;

const SECONDS: Duration = Duration::from_secs(10);

/// A library made of some C, and its folder.
struct Library {
    path: PathBuf,
    _folder: TempDir,
}

/// Compiles the driver of host memory; `None` where there is no C compiler, which is said.
fn compiled(source: &str, defines: &[&str]) -> Option<Library> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libcuda.so.1");
    let source_path = folder.path().join("driver.c");
    fs::write(&source_path, source).unwrap();
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).args(defines).arg(&source_path);
    match command.output() {
        Err(_) => {
            programs::skip("cc", "there is no C compiler (cc)");
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(Library { path, _folder: folder })
        }
    }
}

fn opened(path: &Path) -> nccl::Result<&'static Driver> {
    // SAFETY: what the tests open is no library, or `cuda_driver.c`, or has no driver's symbols.
    unsafe { Driver::open_at(path) }
}

/// A driver of host memory.
fn fake(defines: &[&str]) -> Option<(Library, &'static Driver)> {
    let library = compiled(include_str!("cuda_driver.c"), defines)?;
    let driver = opened(&library.path).unwrap();
    Some((library, driver))
}

/// The problem of the only place that was tried.
#[track_caller]
fn problem(path: &Path) -> DriverProblem {
    let error = opened(path).unwrap_err();
    assert_eq!(error.family(), Family::Library);
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.ends_with("nothing else is tried when a library is asked for"), "{text}");
    match error {
        Error::DriverMissing(missing) if missing.is_explicit() => {
            assert_eq!(missing.attempts().len(), 1);
            missing.attempts()[0].problem.clone()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_file_that_is_missing_or_no_library_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libcuda.so.1");
    assert!(matches!(problem(&path), DriverProblem::Absent(_)));
    fs::write(&path, "x".repeat(10_000)).unwrap();
    let DriverProblem::Linker(words) = problem(&path) else { panic!("{:?}", problem(&path)) };
    assert!(words.contains("invalid ELF header"), "{words}");
    assert!(problem(&path).to_string().contains("install the driver of this architecture"));
    fs::write(&path, "").unwrap();
    assert!(problem(&path).to_string().contains("container runtime"), "{}", problem(&path));
    assert!(matches!(problem(folder.path()), DriverProblem::Refused(_)));
    assert!(matches!(problem(Path::new("lib/libcuda.so.1")), DriverProblem::Refused(_)));
    assert!(matches!(problem(Path::new("libno-such-cuda.so")), DriverProblem::Linker(_)));
}

#[test]
fn another_library_and_the_toolkits_stub_are_told_apart() {
    let Some(other) = compiled("int cuDeviceGetCount(int *n) { return *n = 0; }", &[]) else {
        return;
    };
    assert_eq!(problem(&other.path), DriverProblem::MissingSymbol("cuInit"));
    let stub = compiled(include_str!("cuda_driver.c"), &["-DINIT=34"]).unwrap();
    assert_eq!(problem(&stub.path), DriverProblem::Stub);
    let text = opened(&stub.path).unwrap_err().to_string();
    assert!(text.contains("CUDA_ERROR_STUB_LIBRARY"), "{text}");
}

#[test]
fn a_driver_that_does_not_start_gives_its_own_words() {
    let cases = [
        ("-DINIT=100", "cuInit failed: CUDA_ERROR_NO_DEVICE (100): no device; no GPU is visible"),
        ("-DINIT=999", "cuInit failed: CUDA_ERROR_UNKNOWN (999); the kernel's module"),
        ("-DINIT=4242", "cuInit failed: error 4242, which the driver has no name for"),
        ("-DINIT=-7", "cuInit failed: error -7, which the driver has no name for"),
    ];
    for (define, expected) in cases {
        let Some(library) = compiled(include_str!("cuda_driver.c"), &[define]) else { return };
        let error = opened(&library.path).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(matches!(error, Error::Driver(_)), "{error:?}");
    }
}

#[test]
fn a_driver_without_a_function_is_too_old_for_the_call() {
    let Some((_library, driver)) = fake(&["-DBARE"]) else { return };
    assert_eq!(driver.device_count().unwrap(), 2);
    assert_eq!(driver.version(), None);
    let error = driver.device(0).unwrap_err();
    assert!(matches!(error, Error::DriverTooOld { function: "cuDeviceGet", needs: "2.0", .. }));
    assert_eq!(
        error.to_string(),
        "the CUDA driver (of unknown version) has no function cuDeviceGet, which came with CUDA \
         2.0; update it"
    );
    // An error with a code needs no function for its words.
    let Some(library) = compiled(include_str!("cuda_driver.c"), &["-DBARE", "-DINIT=2"]) else {
        return;
    };
    let error = opened(&library.path).unwrap_err();
    assert!(error.to_string().starts_with("cuInit failed: error 2, which"), "{error}");
}

#[test]
fn with_a_fake_driver_a_device_tells_about_itself() {
    let Some((library, driver)) = fake(&[]) else { return };
    assert_eq!(driver.version().unwrap().to_string(), "12.8");
    assert_eq!(driver.path(), Some(&*fs::canonicalize(&library.path).unwrap()));
    let devices = driver.devices().unwrap();
    assert_eq!(devices.len(), 2);
    let gpu = &devices[1];
    assert_eq!((gpu.ordinal(), gpu.name().unwrap().as_str()), (1, "Fake GPU"));
    // This fake has no cuDeviceGetUuid_v2, as drivers before 11.4.
    assert_eq!(gpu.uuid().unwrap().to_bytes(), [41; 16]);
    assert_eq!(gpu.uuid().unwrap().to_string(), "GPU-29292929-2929-2929-2929-292929292929");
    assert_eq!(gpu.pci_address().unwrap().to_string(), "0000:3b:00.0");
    assert_eq!(gpu.compute_capability().unwrap().to_string(), "90");
    assert!(gpu.is_same(&driver.device(1).unwrap()) && !gpu.is_same(&devices[0]));
    for wrong in [2, usize::MAX] {
        let error = driver.device(wrong).unwrap_err();
        assert!(error.to_string().contains("CUDA_ERROR_INVALID_DEVICE (101)"), "{error}");
    }
    // Nothing of this needed a context.
    assert_eq!(gpu.memory_bytes().unwrap(), 0);
}

#[test]
fn with_a_fake_driver_elements_go_there_and_back_and_everything_is_freed() {
    let Some((_library, driver)) = fake(&[]) else { return };
    let gpu = driver.device(0).unwrap();
    let stream = Stream::new(&gpu).unwrap();
    // More than one stage of 16 MiB, and not a multiple of it.
    let count = (40 << 20) / 4 + 3;
    let sent: Vec<u32> = (0_u32..).take(count).map(|at| at.wrapping_mul(2_654_435_761)).collect();
    let mut buffer = DeviceVec::from_slice(&stream, &sent, SECONDS).unwrap();
    assert_eq!((buffer.count(), buffer.size_bytes()), (count, count * 4));
    assert!(buffer.to_vec(&stream, SECONDS).unwrap() == sent);
    buffer.write(&stream, &vec![7; count], SECONDS).unwrap();
    let mut back = vec![0; count];
    buffer.read(StreamRef::per_thread_default(&gpu), &mut back, SECONDS).unwrap();
    assert!(back.iter().all(|one| *one == 7));
    let zeroed = DeviceVec::<bf16>::zeroed(&stream, 100).unwrap();
    assert_eq!(zeroed.to_vec(&stream, SECONDS).unwrap(), [bf16::ZERO; 100]);
    let empty = DeviceVec::<f64>::from_slice(&stream, &[], SECONDS).unwrap();
    assert_eq!(empty.to_vec(&stream, SECONDS).unwrap(), []);
    let mut pinned = HostVec::<i64>::zeroed(&gpu, 5).unwrap();
    assert_eq!(*pinned, [0; 5]);
    pinned[4] = 9;
    assert_eq!(pinned.iter().sum::<i64>(), 9);
    assert!(HostVec::<u8>::zeroed(&gpu, 0).unwrap().is_empty());
    // A context, a stream, two buffers, the pinned elements, and what is kept for further copies.
    let kept = gpu.memory_bytes().unwrap() - 5;
    assert!((1..=8).contains(&kept), "{kept} pieces of pinned memory");
    drop((buffer, zeroed, empty, pinned, stream));
    assert_eq!(gpu.memory_bytes().unwrap(), 1 + kept);
    drop(gpu);
    assert_eq!(driver.device(0).unwrap().memory_bytes().unwrap(), 0);
}

#[test]
fn with_a_fake_driver_wrong_buffers_are_refused_before_anything_is_copied() {
    let Some((_library, driver)) = fake(&[]) else { return };
    let gpu = driver.device(0).unwrap();
    let stream = Stream::new(&gpu).unwrap();
    let mut buffer = DeviceVec::<f32>::zeroed(&stream, 4).unwrap();
    let error = buffer.write(&stream, &[1.0; 5], SECONDS).unwrap_err();
    assert_eq!(error.to_string(), "DeviceVec::write: `from` holds 5 elements, expected 4");
    let error = buffer.read(&stream, &mut [0.0; 3], SECONDS).unwrap_err();
    assert_eq!(error.to_string(), "DeviceVec::read: `into` holds 3 elements, expected 4");
    let other = Stream::new(&driver.device(1).unwrap()).unwrap();
    let error = buffer.to_vec(&other, SECONDS).unwrap_err();
    assert!(error.to_string().ends_with("is on device 0 and the stream on device 1"), "{error}");
    let error = DeviceVec::<f64>::unset(&gpu, usize::MAX).unwrap_err();
    assert_eq!(error.family(), Family::Misuse);
    let error = DeviceVec::<f64>::unset(&gpu, 1 << 40).unwrap_err();
    assert!(error.to_string().contains("cuMemAlloc_v2 failed: error 2"), "{error}");
    assert_eq!(buffer.to_vec(&stream, SECONDS).unwrap(), [0.0; 4]);
}

#[test]
fn with_a_fake_driver_that_never_gets_there_a_wait_ends_and_says_so() {
    let Some((_library, driver)) = fake(&["-DSTUCK"]) else { return };
    let gpu = driver.device(0).unwrap();
    let stream = Stream::new(&gpu).unwrap();
    let event = Event::new(&gpu).unwrap();
    event.record(&stream).unwrap();
    let begun = Instant::now();
    assert!(!event.wait(Duration::from_millis(50)).unwrap());
    assert!(!stream.as_ref().wait(Duration::ZERO).unwrap());
    let error = DeviceVec::from_slice(&stream, &[1_u8], Duration::from_millis(50)).unwrap_err();
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(100) && waited < SECONDS, "{waited:?}");
    assert!(matches!(error, Error::StreamTimeout { device: 0, .. }), "{error}");
    assert!(error.to_string().starts_with("DeviceVec::write: the work on the stream"), "{error}");
    assert_eq!(error.family(), Family::Library);
    drop((event, stream));
    // A context, the pinned stage, and the device memory, which the copy may still use.
    assert_eq!(gpu.memory_bytes().unwrap(), 3);
}

#[test]
fn with_a_fake_driver_contexts_are_restored_in_reverse_order() {
    let Some((_library, driver)) = fake(&[]) else { return };
    let (first, second) = (driver.device(0).unwrap(), driver.device(1).unwrap());
    {
        let _first = first.make_current().unwrap();
        {
            let _second = second.make_current().unwrap();
            let _again = second.make_current().unwrap();
            // Two contexts, and two of them pushed: the third guard had nothing to do.
            assert_eq!(first.memory_bytes().unwrap(), 4);
        }
        assert_eq!(first.memory_bytes().unwrap(), 3);
    }
    assert_eq!(first.memory_bytes().unwrap(), 2);
    let clone = first.clone();
    drop((first, second));
    assert_eq!(clone.memory_bytes().unwrap(), 1, "a clone holds the context");
}

#[test]
fn with_a_fake_driver_a_stream_is_captured_and_launched() {
    let Some((_library, driver)) = fake(&[]) else { return };
    let gpu = driver.device(0).unwrap();
    let stream = Stream::new(&gpu).unwrap();
    let buffer = DeviceVec::<u8>::zeroed(&stream, 4).unwrap();
    let stream = stream.as_ref();
    assert!(stream.is_done().unwrap() && stream.is_of_primary_context().unwrap());
    assert_eq!(stream.capture_status().unwrap(), CaptureStatus::None);
    assert!(stream.end_capture().is_err());
    stream.begin_capture(CaptureMode::ThreadLocal).unwrap();
    assert_eq!(stream.capture_status().unwrap(), CaptureStatus::Active);
    let error = buffer.to_vec(stream, SECONDS).unwrap_err();
    assert!(error.to_string().contains("the stream is being captured"), "{error}");
    let mut graph = stream.end_capture().unwrap();
    assert_eq!(stream.capture_status().unwrap(), CaptureStatus::None);
    // SAFETY: nothing was captured.
    unsafe { graph.launch(stream) }.unwrap();
    let error = StreamRef::legacy_default(&gpu).begin_capture(CaptureMode::Global).unwrap_err();
    assert!(error.to_string().contains("a stream is being captured into a graph"), "{error}");
    let before = gpu.memory_bytes().unwrap();
    drop(graph);
    assert_eq!(gpu.memory_bytes().unwrap(), before - 1);
}

#[test]
fn with_a_fake_driver_addresses_and_slices_are_known() {
    let Some((_library, driver)) = fake(&[]) else { return };
    let gpu = driver.device(1).unwrap();
    let stream = Stream::new(&gpu).unwrap();
    let numbers: Vec<u16> = (0..100).collect();
    let numbers: Vec<bf16> = numbers.iter().map(|bits| bf16::from_bits(*bits)).collect();
    let mut buffer = DeviceVec::from_slice(&stream, &numbers, SECONDS).unwrap();
    let at = buffer.as_raw();
    let info = driver.pointer_info(at + 10).unwrap().unwrap();
    assert_eq!((info.kind, info.device), (MemoryKind::Device, Some(1)));
    assert_eq!(info.range, Some((at, 200)));
    assert!(info.holds(at + 100, 100) && !info.holds(at + 100, 101));
    assert_eq!(driver.pointer_info(numbers.as_ptr() as u64).unwrap(), None);

    let part = buffer.slice(10..=19).unwrap();
    assert_eq!((part.count(), part.as_raw()), (10, at + 20));
    for wrong in [buffer.slice(90..101), buffer.slice(101..), buffer.slice(..=usize::MAX)] {
        assert_eq!(wrong.unwrap_err().family(), Family::Misuse);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    let reversed = buffer.slice(20..10);
    assert!(reversed.is_err());
    let lent = buffer.slice(100..).unwrap();
    assert_eq!((lent.count(), lent.lease(&stream).as_raw()), (0, at + 200));

    let (mut left, right) = buffer.split_at_mut(30).unwrap();
    assert_eq!((left.count(), right.count(), right.as_raw()), (30, 70, at + 60));
    let (to, from) = (left.lease_mut(&stream).as_raw(), right.lease(&stream).as_raw());
    // SAFETY: both parts have sixty bytes, do not overlap, and live until the stream is done.
    unsafe { stream.as_ref().copy_on_device(to, from, 60) }.unwrap();
    let back = buffer.to_vec(&stream, SECONDS).unwrap();
    assert!(back[..30] == numbers[30..60] && back[30..] == numbers[30..]);

    // SAFETY: the buffer lives longer, and nothing is enqueued.
    let raw = unsafe { RawDeviceSlice::from_raw(at, 100, DataType::BF16, gpu.ordinal()) };
    assert_eq!((raw.size_bytes(), raw.lease(&stream.as_ref()).as_raw()), (200, at));
}

/// In a child whose environment says which driver there is: prints what the entries return.
#[test]
fn entries() {
    if std::env::var("TEST_CUDA_ENTRIES").is_err() {
        return;
    }
    let first = Driver::get().map(|driver| driver.device_count());
    let again = Driver::get().map(|driver| driver.device_count());
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    println!("get: {first:?}");
    println!("choose: {:?}", cuda::choose(1, None, &Env::process()));
}

/// What [`entries`] prints with these variables.
fn entries_with(vars: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "entries", "--nocapture"]).env("TEST_CUDA_ENTRIES", "1");
    command.env_remove("NCCL_RS_CUDA_LIB").env_remove("CUDA_VISIBLE_DEVICES");
    command.envs(vars.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn without_a_driver_every_entry_says_where_it_was_looked_for() {
    let said = entries_with(&[("NCCL_RS_CUDA_LIB", "/no/such/libcuda.so.1")]);
    for entry in ["get", "choose"] {
        let start = format!("{entry}: Err(DriverMissing: no usable CUDA driver");
        assert!(said.contains(&start), "{said}");
    }
    assert_eq!(said.matches("/no/such/libcuda.so.1 (NCCL_RS_CUDA_LIB): No such file").count(), 2);
    let said = entries_with(&[]);
    if said.contains("get: Ok") || said.contains("get: Err(Driver:") {
        println!("skipped: this machine has a CUDA driver");
        return;
    }
    for place in
        ["libcuda.so.1 already in this process", "\n  libcuda.so.1: ", "/usr/lib/wsl/lib/libcuda"]
    {
        assert!(said.contains(place), "{place}: {said}");
    }
    assert!(said.contains("or set NCCL_RS_CUDA_LIB to the path"), "{said}");
    let said = entries_with(&[("NCCL_RS_CUDA_LIB", "")]);
    assert!(said.contains("get: Err(Env: NCCL_RS_CUDA_LIB=\"\" is empty"), "{said}");
}

#[test]
fn with_a_fake_driver_the_variables_choose_library_and_device() {
    let Some((library, _)) = fake(&[]) else { return };
    let path = library.path.to_str().unwrap();
    let said = entries_with(&[("NCCL_RS_CUDA_LIB", path), ("CUDA_VISIBLE_DEVICES", "3,4")]);
    assert!(said.contains("get: Ok(Ok(2))"), "{said}");
    assert!(said.contains("choose: Ok(Device { ordinal: 1, .. })"), "{said}");
    let none = compiled(include_str!("cuda_driver.c"), &["-DINIT=100"]).unwrap();
    let path = none.path.to_str().unwrap();
    let said = entries_with(&[("NCCL_RS_CUDA_LIB", path), ("CUDA_VISIBLE_DEVICES", "x")]);
    assert!(
        said.contains("choose: Err(DeviceChoice: no GPU for local rank 1: this process sees no"),
        "{said}"
    );
    // The linker's search finds it too, by its name.
    let folder = none.path.parent().unwrap().to_str().unwrap();
    let said = entries_with(&[("LD_LIBRARY_PATH", folder)]);
    assert!(said.contains("get: Err(Driver: cuInit failed: CUDA_ERROR_NO_DEVICE"), "{said}");
}
