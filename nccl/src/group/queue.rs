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

    /// Puts a job behind those that wait. What it returns tells whoever waits for it, and is called
    /// once the job no longer counts: who has heard may end the group at once.
    pub(super) fn push<End: FnOnce()>(
        &self,
        job: impl FnOnce() -> End + Send + 'static,
    ) -> Result<()> {
        let mut sender = lock(&self.sender);
        let sender = match &*sender {
            Some(sender) => sender,
            None => sender.insert(start()?),
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = self.waiting.clone();
        let job = move || {
            let end = job();
            waiting.fetch_sub(1, Ordering::AcqRel);
            end();
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

    /// Waits until the jobs that were pushed before are done; each has a deadline of its own.
    pub(super) fn wait(&self) -> Result<()> {
        let (tell, heard) = channel();
        // An error means that the other side is gone, and with it whoever could be told.
        self.push(move || move || _ = tell.send(()))?;
        _ = heard.recv();
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_has_heard_of_the_last_end_sees_an_idle_queue() {
        let queue = Queue::new();
        for turn in 0..2000 {
            let (tell, heard) = channel();
            queue.push(move || move || tell.send(turn).unwrap()).unwrap();
            assert_eq!(heard.recv(), Ok(turn));
            assert!(!queue.is_busy(), "turn {turn}");
        }
    }
}
