//! One attempt: all ranks of this host from their start to their end.
//!
//! One thread decides, and it waits only for events and its own deadlines. What happens to the
//! ranks is a phase with a deadline: running; listening (one failed, the others may say what they
//! see); ending (they got SIGTERM); killing (SIGKILL).

use std::sync::mpsc::Receiver;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::consts::SIGTSTP;

use crate::run::oom::OomWatch;
use crate::run::rank::Event;
use crate::run::rank::Rank;
use crate::run::rank::Shared;
use crate::run::report;
use crate::run::report::First;
use crate::run::report::Outcome;
use crate::signals;

/// How long a rank's last words may come after its end, before the report is printed.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How long a stream may stay open after the end of all ranks.
const DRAIN: Duration = Duration::from_secs(1);

/// How long the kernel has to end what got SIGKILL.
const KILL: Duration = Duration::from_secs(5);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All ranks exited with 0.
    Success,
    /// A rank failed; its exit code.
    Failed(u8),
    /// We ended it: no restart.
    Stopped(u8),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    Listening(Instant),
    Ending(Instant),
    Killing(Instant),
    GivenUp,
}

/// The rank that failed first.
#[derive(Debug)]
struct Failure {
    index: usize,
    report_by: Instant,
    reported: bool,
}

/// What is done about streams that outlive all ranks.
#[derive(Debug, Default)]
struct Drain {
    until: Option<Instant>,
    killed: bool,
    over: bool,
}

/// The ranks of one attempt and where they are in it.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    shared: &'a Shared<'a>,
    oom: &'a OomWatch,
    number: u32,
    ranks: Vec<Rank>,
    /// Of the whole run.
    deadline: Option<Instant>,
    phase: Phase,
    failure: Option<Failure>,
    stopped: Option<u8>,
    drain: Drain,
}

impl<'a> Attempt<'a> {
    /// Takes over ranks that were just started.
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        oom: &'a OomWatch,
        number: u32,
        ranks: Vec<Rank>,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            shared,
            oom,
            number,
            ranks,
            deadline,
            phase: Phase::Running,
            failure: None,
            stopped: None,
            drain: Drain::default(),
        }
    }

    /// Looks after the ranks until nothing of them is left.
    pub(crate) fn watch(mut self, events: &Receiver<Event>) -> End {
        loop {
            let now = Instant::now();
            self.on_time(now);
            if self.is_over() {
                break;
            }
            const LONG: Duration = Duration::from_secs(3600);
            let wait = self.next_deadline().map_or(LONG, |at| at.saturating_duration_since(now));
            if let Ok(event) = events.recv_timeout(wait) {
                self.on_event(event);
            }
        }
        if !self.is_verdict() {
            self.report_failure();
            self.report_endings();
        }
        let end = self.end();
        for rank in self.ranks {
            rank.reap();
        }
        end
    }

    /// Whether all ranks ended with the code that is a result.
    fn is_verdict(&self) -> bool {
        self.ranks.iter().all(|rank| self.gave_verdict(rank))
    }

    fn gave_verdict(&self, rank: &Rank) -> bool {
        let code = self.shared.plan.verdict.map(i32::from).map(Outcome::Code);
        code.is_some() && rank.ended.as_ref().map(|(outcome, _)| outcome) == code.as_ref()
    }

    /// When the report on a failure is due; one that may be a result waits for the other ranks.
    fn report_by(&self) -> Option<Instant> {
        let failure = self.failure.as_ref().filter(|failure| !failure.reported)?;
        let waits = self.ranks.get(failure.index).is_some_and(|rank| self.gave_verdict(rank));
        (!waits).then_some(failure.report_by)
    }

    fn end(&self) -> End {
        let code = self.failure.as_ref().and_then(|failure| {
            let (outcome, _) = self.ranks.get(failure.index)?.ended.as_ref()?;
            Some(outcome.exit_code())
        });
        match (code, self.stopped) {
            // The code of what happened first; in both cases nothing is started again.
            (Some(code), Some(_)) => End::Stopped(code),
            (Some(code), None) => End::Failed(code),
            (None, Some(code)) => End::Stopped(code),
            (None, None) => End::Success,
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Exited { attempt, index, outcome } if attempt == self.number => {
                let failed = !outcome.is_success();
                if let Some(rank) = self.ranks.get_mut(index) {
                    rank.exited(outcome);
                }
                if failed && matches!(self.phase, Phase::Running) {
                    self.on_failure(index);
                }
            }
            Event::Closed { attempt, index } if attempt == self.number => {
                if let Some(rank) = self.ranks.get_mut(index) {
                    rank.open_streams = rank.open_streams.saturating_sub(1);
                }
            }
            // A stream that somebody held open since an earlier attempt.
            Event::Exited { .. } | Event::Closed { .. } => {}
            Event::Signal(signal) => self.on_signal(signal),
            Event::OutputGone => {
                if self.stopped.is_none() {
                    self.say("nobody reads the output any more; ending the ranks");
                    self.stop(report::signal_code(Signal::PIPE.as_raw()), Signal::TERM);
                }
            }
        }
    }

    fn on_failure(&mut self, index: usize) {
        let now = Instant::now();
        self.failure = Some(Failure { index, report_by: now + LAST_WORDS, reported: false });
        self.phase = Phase::Listening(now + self.shared.plan.grace);
    }

    fn on_signal(&mut self, signal: i32) {
        let Some(named) = Signal::from_named_raw(signal) else { return };
        match signal {
            SIGTSTP => {
                self.signal_all(Signal::TSTP);
                signals::stop_self();
                self.signal_all(Signal::CONT);
            }
            SIGINT | SIGTERM | SIGHUP if self.all_ended() => {
                self.stopped = self.stopped.or_else(|| Some(report::signal_code(signal)));
                self.drain.over = true;
            }
            SIGINT | SIGTERM | SIGHUP if self.stopped.is_none() => {
                let name = signals::name(signal);
                let who = report::ranks(&self.running());
                let grace = self.shared.plan.grace;
                self.say(&format!(
                    "{name}: passed on to {who}; SIGKILL in {grace:?}, or at once at the next"
                ));
                self.stop(report::signal_code(signal), named);
            }
            // A hang-up often comes with another signal for the same reason.
            SIGHUP => self.signal_all(named),
            SIGINT | SIGTERM => {
                self.say(&format!("{} again: killing the ranks", signals::name(signal)));
                self.kill(Instant::now());
            }
            _ => self.signal_all(named),
        }
    }

    /// Ends the run with `signal`, for a reason that is not a rank's failure.
    fn stop(&mut self, code: u8, signal: Signal) {
        self.stopped = Some(code);
        self.end_all(signal);
        self.phase = Phase::Ending(Instant::now() + self.shared.plan.grace);
    }

    fn on_time(&mut self, now: Instant) {
        if self.failure_is_due(now) {
            self.report_failure();
        }
        if self.all_ended() {
            self.on_drain(now);
            return;
        }
        match self.phase {
            Phase::Running if self.deadline.is_some_and(|deadline| now >= deadline) => {
                let limit = self.shared.plan.timeout.unwrap_or_default();
                let who = report::ranks(&self.running());
                self.say(&format!("--timeout of {limit:?} passed; still running: {who}"));
                self.stop(super::CODE_TIMEOUT, Signal::TERM);
            }
            Phase::Listening(until) if now >= until => {
                let who = report::ranks(&self.running());
                self.say(&format!("SIGTERM to {who}"));
                self.end_all(Signal::TERM);
                self.phase = Phase::Ending(now + self.shared.plan.grace);
            }
            Phase::Ending(until) if now >= until => {
                let who = report::ranks(&self.running());
                self.say(&format!("SIGKILL to {who}, still there after the grace period"));
                self.kill(now);
            }
            Phase::Killing(until) if now >= until => {
                let who = report::ranks(&self.running());
                self.say(&format!("{who} cannot be killed (stuck in the kernel?); leaving"));
                self.phase = Phase::GivenUp;
            }
            _ => {}
        }
    }

    /// All ranks ended, but somebody else may hold their output open.
    fn on_drain(&mut self, now: Instant) {
        let open: Vec<u64> =
            self.ranks.iter().filter(|rank| rank.open_streams > 0).map(|rank| rank.rank).collect();
        if open.is_empty() {
            self.drain.over = true;
            return;
        }
        let until = *self.drain.until.get_or_insert(now + DRAIN);
        if now < until || self.drain.over {
            return;
        }
        self.drain.until = Some(now + DRAIN);
        let who = report::ranks(&open);
        if self.shared.out.is_stuck() || self.shared.err.is_stuck() {
            // Whoever reads us is slow; the rest of the output waits for that.
        } else if self.drain.killed {
            self.say(&format!(
                "something that {who} started left the process group and holds the output open; \
                 not waiting for it"
            ));
            self.drain.over = true;
        } else {
            self.say(&format!("{who} ended, but something started there did not; ending it"));
            self.signal_all(Signal::KILL);
            self.drain.killed = true;
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::GivenUp) || (self.all_ended() && self.drain.over)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let report = self.report_by();
        let phase = match self.phase {
            _ if self.all_ended() => self.drain.until,
            Phase::Running => self.deadline,
            Phase::Listening(until) | Phase::Ending(until) | Phase::Killing(until) => Some(until),
            Phase::GivenUp => None,
        };
        report.into_iter().chain(phase).min()
    }

    /// The report waits for the rank's last words, but not long.
    fn failure_is_due(&self, now: Instant) -> bool {
        self.failure.as_ref().is_some_and(|failure| {
            let closed = self.ranks.get(failure.index).is_none_or(|rank| rank.open_streams == 0);
            self.report_by().is_some_and(|report_by| closed || now >= report_by)
        })
    }

    fn report_failure(&mut self) {
        let running = self.running();
        let Some(failure) = self.failure.as_mut().filter(|failure| !failure.reported) else {
            return;
        };
        failure.reported = true;
        let Some(rank) = self.ranks.get(failure.index) else { return };
        let Some((outcome, after)) = &rank.ended else { return };
        let first = First {
            rank: rank.rank,
            pid: rank.pid.as_raw_pid(),
            outcome,
            after: *after,
            oom_kills: self.oom.kills_since(),
            err: &rank.err.lines(),
            out: &rank.out.lines(),
        };
        self.shared.err.raw_notice(report::first_failure(&first));
        if !running.is_empty() && matches!(self.phase, Phase::Listening(_)) {
            let who = report::ranks(&running);
            let grace = self.shared.plan.grace;
            self.say(&format!("{who}: {grace:?} to say what they see, then SIGTERM"));
        }
    }

    /// How the ranks ended that are not the first to fail.
    fn report_endings(&self) {
        if self.failure.is_none() && self.stopped.is_none() {
            return;
        }
        let first = self.failure.as_ref().map(|failure| failure.index);
        let each: Vec<(u64, String)> = self
            .ranks
            .iter()
            .enumerate()
            .filter(|(index, _)| first != Some(*index))
            .map(|(_, rank)| match &rank.ended {
                Some((outcome, _)) => (rank.rank, outcome.text(rank.sent)),
                None => (rank.rank, "still there".to_owned()),
            })
            .collect();
        if !each.is_empty() {
            self.say(&format!("ended: {}", report::endings(&each)));
        }
    }

    fn kill(&mut self, now: Instant) {
        self.end_all(Signal::KILL);
        self.phase = Phase::Killing(now + KILL);
    }

    fn end_all(&mut self, signal: Signal) {
        for rank in &mut self.ranks {
            rank.end(signal);
        }
    }

    fn signal_all(&self, signal: Signal) {
        for rank in &self.ranks {
            rank.signal(signal);
        }
    }

    fn all_ended(&self) -> bool {
        self.ranks.iter().all(|rank| rank.ended.is_some())
    }

    fn running(&self) -> Vec<u64> {
        self.ranks.iter().filter(|rank| rank.ended.is_none()).map(|rank| rank.rank).collect()
    }

    fn say(&self, text: &str) {
        self.shared.err.notice(text);
    }
}
