//! Questions to other ranks that wait for answers.

use std::collections::HashMap;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::clock::Deadline;
use crate::trace::Status;
use crate::trace::lock;
use crate::wire::control::Doing;

/// One question, with the answers so far.
#[derive(Debug)]
struct Open {
    /// World ranks, as the answers are ordered.
    members: Vec<usize>,
    answers: Vec<Option<Status>>,
    /// Who has answered, or never will.
    settled: Vec<bool>,
}

#[derive(Debug, Default)]
struct Desk {
    open: HashMap<u64, Open>,
    next: u64,
    closed: bool,
}

/// All questions of this rank.
#[derive(Debug, Default)]
pub(super) struct Questions {
    desk: Mutex<Desk>,
    came: Condvar,
}

impl Questions {
    /// Begins a question to `members`, of whom those `settled` need not answer.
    pub(super) fn begin(&self, members: Vec<usize>, settled: Vec<bool>) -> u64 {
        let mut desk = lock(&self.desk);
        let question = desk.next;
        desk.next += 1;
        let answers = vec![None; members.len()];
        desk.open.insert(question, Open { members, answers, settled });
        question
    }

    /// Takes an answer; one that nobody waits for is dropped.
    pub(super) fn answer(&self, question: u64, world_rank: usize, doing: Option<Doing>) {
        let mut desk = lock(&self.desk);
        let Some(open) = desk.open.get_mut(&question) else { return };
        let Some(at) = open.members.iter().position(|member| *member == world_rank) else { return };
        if let (Some(answer), Some(settled)) = (open.answers.get_mut(at), open.settled.get_mut(at))
        {
            *answer = doing.map(|doing| Status {
                desc: doing.desc,
                busy: doing.busy,
                since: doing.since,
            });
            *settled = true;
        }
        drop(desk);
        self.came.notify_all();
    }

    /// Waits no longer for a rank that is gone.
    pub(super) fn answer_for(&self, world_rank: usize) {
        for open in lock(&self.desk).open.values_mut() {
            for (member, settled) in open.members.iter().zip(&mut open.settled) {
                *settled |= *member == world_rank;
            }
        }
        self.came.notify_all();
    }

    /// Waits no longer for anybody: there is no way to the others any more.
    pub(super) fn close(&self) {
        lock(&self.desk).closed = true;
        self.came.notify_all();
    }

    /// Waits for all answers, at most until the deadline, and ends the question.
    pub(super) fn finish(&self, question: u64, deadline: &Deadline) -> Vec<Option<Status>> {
        let mut desk = lock(&self.desk);
        loop {
            let waits = desk.open.get(&question).is_some_and(|open| open.settled.contains(&false));
            if !waits || desk.closed || deadline.passed() {
                let open = desk.open.remove(&question);
                return open.map(|open| open.answers).unwrap_or_default();
            }
            let woken = self.came.wait_timeout(desk, deadline.left());
            desk = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
