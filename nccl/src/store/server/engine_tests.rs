use super::*;

type Owned = Request<Vec<u8>>;

fn b(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// An engine with the answers of its connections.
struct World {
    engine: Engine,
}

impl World {
    fn new() -> Self {
        Self { engine: Engine::new(1 << 30, 1 << 20) }
    }

    fn ask(&mut self, conn: u64, request: Owned) -> Vec<u8> {
        let mut out = Vec::new();
        self.engine.handle(conn, request, &mut out).unwrap();
        out
    }

    fn woken_by(&mut self, request: Owned) -> Vec<u64> {
        self.ask(99, request);
        self.engine.take_woken()
    }

    fn is_clean(&self) -> bool {
        let engine = &self.engine;
        engine.lists.is_empty() && engine.waiting.is_empty() && engine.waiting_bytes == 0
    }
}

#[test]
fn a_waiter_is_woken_by_everything_that_makes_its_key() {
    let makers: [fn() -> Owned; 6] = [
        || Request::Set(b("k"), b("")),
        || Request::Add(b("k"), 0),
        || Request::Append(b("k"), b("")),
        || Request::CompareSet(b("k"), b(""), b("x")),
        || Request::MultiSet(vec![(b("a"), b("")), (b("k"), b(""))]),
        || Request::QueuePush(b("k"), b("")),
    ];
    for maker in makers {
        let mut world = World::new();
        assert_eq!(world.ask(1, Request::Wait(vec![b("k")])), []);
        assert_eq!(world.woken_by(Request::Set(b("other"), b(""))), []);
        assert_eq!(world.woken_by(Request::CompareSet(b("k"), b("no"), b("x"))), []);
        assert_eq!(world.woken_by(maker()), [1], "{:?}", maker());
        assert!(world.is_clean());
    }
}

#[test]
fn a_wait_counts_each_missing_key_once_when_it_begins() {
    let mut world = World::new();
    world.ask(9, Request::Set(b("a"), b("")));
    assert_eq!(world.ask(1, Request::Wait(vec![b("a"), b("b"), b("c"), b("b")])), []);
    assert_eq!(world.woken_by(Request::Set(b("b"), b(""))), []);
    world.ask(9, Request::Delete(b("b")));
    assert_eq!(world.woken_by(Request::Set(b("c"), b(""))), [1]);
    assert_eq!(world.ask(1, Request::Wait(vec![])), [0]);
    assert_eq!(world.ask(1, Request::Wait(vec![b("a"), b("a")])), [0]);
    assert!(world.is_clean());
}

#[test]
fn a_canceled_or_dead_waiter_leaves_nothing_behind() {
    let mut world = World::new();
    for conn in 0..10_000 {
        world.ask(conn, Request::Wait(vec![b("k"), b("k"), b("l")]));
    }
    for conn in 0..5_000 {
        world.engine.forget(conn);
    }
    for conn in 5_000..9_999 {
        assert_eq!(world.ask(conn, Request::CancelWait), [1]);
    }
    assert_eq!(world.ask(3, Request::CancelWait), [1], "with nothing to cancel too");
    assert_eq!(world.woken_by(Request::Set(b("k"), b(""))), []);
    assert_eq!(world.woken_by(Request::Set(b("l"), b(""))), [9_999]);
    assert!(world.is_clean());
}

#[test]
fn a_wait_that_crosses_its_cancel_is_answered_first() {
    let mut world = World::new();
    world.ask(1, Request::Wait(vec![b("k")]));
    world.ask(1, Request::Set(b("k"), b("")));
    assert_eq!(world.ask(1, Request::CancelWait), [0, 1]);
    assert_eq!(world.engine.take_woken(), []);
}

#[test]
fn a_push_wakes_one_and_a_set_wakes_all() {
    let mut world = World::new();
    for conn in 1..=4 {
        world.ask(conn, Request::Wait(vec![b("q")]));
    }
    assert_eq!(world.woken_by(Request::QueuePush(b("q"), b("x"))), [1]);
    assert_eq!(world.woken_by(Request::QueuePush(b("q"), b("y"))), [2]);
    assert_eq!(world.woken_by(Request::Set(b("q"), b(""))), [3, 4]);
    assert_eq!(world.ask(5, Request::Wait(vec![b("q")])), [0]);
}

#[test]
fn a_value_whose_waiter_died_or_turned_away_goes_to_the_next() {
    let mut world = World::new();
    for conn in 1..=3 {
        world.ask(conn, Request::Wait(vec![b("q")]));
    }
    assert_eq!(world.woken_by(Request::QueuePush(b("q"), b("x"))), [1]);
    world.engine.forget(1);
    assert_eq!(world.engine.take_woken(), [2]);
    world.ask(2, Request::CancelWait);
    assert_eq!(world.engine.take_woken(), [3]);
    let mut popped = Vec::new();
    put_count(&mut popped, 1);
    put_bytes(&mut popped, b"x");
    assert_eq!(world.ask(3, Request::QueuePop(b("q"))), popped);
    assert_eq!(world.ask(3, Request::QueuePop(b("q"))), [0; 8]);
    assert!(world.is_clean() && world.engine.handed.is_empty());
}

#[test]
fn a_barrier_opens_when_enough_have_come() {
    let mut world = World::new();
    assert_eq!(world.ask(1, Request::Barrier(b("b"), 3)), []);
    assert_eq!(world.ask(2, Request::Barrier(b("b"), 3)), []);
    assert_eq!(world.engine.take_woken(), []);
    assert_eq!(world.ask(3, Request::Barrier(b("b"), 3)), [0]);
    assert_eq!(world.engine.take_woken(), [1, 2]);
    assert_eq!(world.ask(4, Request::Barrier(b("b"), 3)), [0], "a used barrier is open");
    assert_eq!(world.ask(5, Request::Barrier(b("c"), 2)), []);
    assert_eq!(world.woken_by(Request::Add(b("c"), 1)), [5]);
    assert!(world.is_clean());
}

#[test]
fn what_the_protocol_cannot_refuse_ends_the_connection() {
    let mut engine = Engine::new(4000, 100);
    let mut ask = |request: Owned| engine.handle(1, request, &mut Vec::new());
    assert_eq!(ask(Request::Validate(0)), Err(Closed::ValidatesTwice));
    ask(Request::Set(b("k"), vec![0; 60])).unwrap();
    assert_eq!(
        ask(Request::MultiGet(vec![b("k"), b("k")])),
        Err(Closed::LongAnswer { limit_bytes: 100 })
    );
    assert_eq!(ask(Request::Add(b("k"), 1)), Err(Closed::Refused(Refusal::NotANumber)));
    let full = Err(Closed::Refused(Refusal::Full { limit_bytes: 4000 }));
    assert_eq!(ask(Request::Set(b("l"), vec![0; 4000])), full);
    ask(Request::Wait(vec![b("m")])).unwrap();
    assert_eq!(ask(Request::Wait(vec![b("k")])), Err(Closed::WaitsTwice));
    assert_eq!(
        engine.handle(2, Request::Wait(vec![b("m"); 40]), &mut Vec::new()),
        Err(Closed::ManyWaiters { limit_bytes: 4000 })
    );
}
