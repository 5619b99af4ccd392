//! Operations that run behind the caller's back, in order, on one thread per group.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;

use crate::error::Error;
use crate::error::Result;
use crate::trace::lock;

type Job = Box<dyn FnOnce() + Send>;

/// The queue of a group; its thread begins with the first job and ends with the queue.
#[derive(Debug)]
pub(super) struct Queue {
    sender: Mutex<Option<Sender<Job>>>,
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue without a thread.
    pub(super) fn new() -> Self {
        Self { sender: Mutex::new(None), waiting: Arc::new(AtomicUsize::new(0)) }
    }

    /// Whether jobs wait or run.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Puts a job behind those that wait.
    pub(super) fn push(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut sender = lock(&self.sender);
        let sender = match &*sender {
            Some(sender) => sender,
            None => sender.insert(start()?),
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = self.waiting.clone();
        let job = move || {
            job();
            waiting.fetch_sub(1, Ordering::AcqRel);
        };
        if sender.send(Box::new(job)).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Error::system(
                "the thread of asynchronous work is gone",
                std::io::ErrorKind::BrokenPipe,
            ));
        }
        Ok(())
    }
}

fn start() -> Result<Sender<Job>> {
    let (sender, receiver) = channel::<Job>();
    let run = move || receiver.into_iter().for_each(|job| job());
    let thread = std::thread::Builder::new().name("nccl-work".to_owned()).spawn(run);
    match thread {
        Ok(_detached) => Ok(sender),
        Err(source) => Err(Error::system("cannot start the thread of asynchronous work", source)),
    }
}
