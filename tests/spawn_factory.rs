//! Factories that run a green thread for each connection: how handlers end, what becomes of their connections and outcomes.
#![cfg(feature = "green")]
mod guard;
mod pair;

use guard::{guarded, logged};
use pair::{creator, listen, text, until};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::{Killed, WaitsForItself};
use twistlet::green::{
    Event, GreenTransport, SimpleSpawnFactory, SpawnFactory, kill, sleep, spawn, with_timeout, yield_now,
};
use twistlet::protocols::{Lines, Raw};
use twistlet::{Deferred, Failure, Reactor, Result};

/// A handler that answers once it may go on, and fails for a client that sent "f".
fn gated(go: &Event<()>) -> SpawnFactory {
    let go = go.clone();
    SpawnFactory::new(move |conn: GreenTransport| {
        let word = conn.read_n(1)?;
        go.wait()?;
        match &word[..] {
            b"f" => Err(Failure::msg("told to fail")),
            _ => conn.write(word),
        }
    })
}
fn clients(at: std::net::SocketAddr, words: &[&str]) -> Vec<GreenTransport> {
    let connect = |word: &&str| {
        let conn = creator().connect_tcp(at).unwrap();
        conn.write(word).unwrap();
        conn
    };
    words.iter().map(connect).collect()
}
fn started(factory: &SpawnFactory, n: usize) {
    until(|| factory.running() == n);
}

// TW-62, TW-63, D6
#[test]
fn handlers_count_as_running_until_they_end_however_many_wait_for_them() {
    guarded(|| {
        let go = Event::new();
        let factory = gated(&go);
        let at = listen(factory.clone());
        let conns = clients(at, &["a", "f", "b"]);
        started(&factory, 3);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let factory = factory.clone();
                spawn(move || Ok(factory.wait_all().into_iter().map(|end| end.is_ok()).collect::<Vec<_>>()))
            })
            .collect();
        // One that gives up takes nothing from the others.
        assert!(with_timeout(Duration::from_millis(2), || factory.wait_all()).is_err());
        assert_eq!(factory.running(), 3);
        go.send(());
        for waiter in waiters {
            assert_eq!(waiter.wait().unwrap(), [true, false, true]);
        }
        assert_eq!(factory.running(), 0);
        assert!(factory.wait_all().is_empty());
        assert!(logged().is_empty(), "somebody got the failure");
        let answers: Vec<String> = conns.iter().map(|conn| text(conn.read_all().map(Some))).collect();
        assert_eq!(answers, ["a", "", "b"]);
    });
}

#[test]
fn a_failure_is_logged_once_with_its_peer_when_nobody_gets_it() {
    guarded(|| {
        let go = Event::new();
        let factory = gated(&go);
        let at = listen(factory.clone());
        let conns = clients(at, &["f"]);
        started(&factory, 1);
        go.send(());
        assert_eq!(text(conns[0].recv()), "-");
        until(|| factory.running() == 0);
        let lines = logged();
        let peer = conns[0].host().to_string();
        assert!(lines.len() == 1 && lines[0].contains("told to fail") && lines[0].contains(&peer), "{lines:?}");
        // Whoever would have got it was killed meanwhile.
        let go = Event::new();
        let factory = gated(&go);
        let conns = clients(listen(factory.clone()), &["f"]);
        started(&factory, 1);
        let waiter = {
            let factory = factory.clone();
            spawn(move || Ok(factory.wait_all().len()))
        };
        yield_now();
        kill(&waiter);
        assert!(waiter.wait().unwrap_err().is::<Killed>());
        go.send(());
        assert_eq!(text(conns[0].recv()), "-");
        until(|| factory.running() == 0);
        assert_eq!(logged().len(), 1);
    });
}

#[test]
fn a_handler_that_waits_for_all_does_not_wait_for_itself() {
    guarded(|| {
        let outcome = Rc::new(RefCell::new(Vec::new()));
        let factory = Rc::new(RefCell::new(None::<SpawnFactory>));
        let (seen, own) = (outcome.clone(), factory.clone());
        let handlers = SpawnFactory::new(move |_: GreenTransport| {
            let factory = own.borrow().clone();
            let ends = factory.map_or_else(Vec::new, |factory| factory.wait_all());
            seen.borrow_mut().extend(ends);
        });
        *factory.borrow_mut() = Some(handlers.clone());
        let conns = clients(listen(handlers), &[""]);
        assert_eq!(text(conns[0].recv()), "-");
        assert!(matches!(&outcome.borrow()[..], [Err(failure)] if failure.is::<WaitsForItself>()));
        factory.take();
    });
}

// TW-61, HBC-22
#[test]
fn on_every_way_out_of_a_handler_its_connection_is_closed_and_what_it_wrote_arrives() {
    guarded(|| {
        let at = listen(SpawnFactory::framed(Lines::new, |conn| {
            let line = conn.read_line()?.unwrap_or_default();
            // A clone that somebody keeps does not keep the connection open.
            let kept = conn.clone();
            spawn(move || {
                sleep(Duration::from_secs(60));
                drop(kept);
            });
            conn.send_line("x".repeat(1_000_000));
            match &line[..] {
                b"error" => Err(Failure::msg("an error")),
                b"panic" => panic!("a panic"),
                _ => Ok(()),
            }
        }));
        for (way, lines) in [("return", 0), ("error", 1), ("panic", 1)] {
            let conn = creator().connect_tcp(at).unwrap();
            conn.write(format!("{way}\r\n")).unwrap();
            assert_eq!(conn.read_all().unwrap().len(), 1_000_002, "{way}");
            assert_eq!(logged().len(), lines, "{way}");
        }
        Reactor::current().close();
    });
}

// TW-61
#[test]
fn keep_open_leaves_the_connection_to_whoever_holds_it() {
    guarded(|| {
        let held = Rc::new(RefCell::new(None));
        let hold = held.clone();
        let at = listen(SpawnFactory::new(move |conn: GreenTransport| drop(hold.replace(Some(conn)))).keep_open());
        let conn = creator().connect_tcp(at).unwrap();
        until(|| held.borrow().is_some());
        assert!(with_timeout(Duration::from_millis(2), || conn.recv()).is_err());
        let far = held.take().unwrap();
        far.write("still here").unwrap();
        assert_eq!(text(conn.recv()), "still here");
        drop(far);
        assert_eq!(text(conn.recv()), "-");
        // Nobody holds it.
        let at = listen(SpawnFactory::new(|_: GreenTransport| ()).keep_open());
        assert_eq!(text(creator().connect_tcp(at).unwrap().recv()), "-");
    });
}

#[test]
fn a_handler_may_return_a_deferred_and_the_connection_stays_until_it_has_fired() {
    guarded(|| {
        let promises = Rc::new(RefCell::new(Vec::new()));
        let keep = promises.clone();
        let factory = SpawnFactory::new(move |conn: GreenTransport| {
            let (promise, fired) = Deferred::<()>::new();
            keep.borrow_mut().push(promise);
            fired.add_callback(move |()| conn.write("fired"))
        });
        let conn = creator().connect_tcp(listen(factory.clone())).unwrap();
        started(&factory, 1);
        assert!(with_timeout(Duration::from_millis(2), || conn.recv()).is_err());
        let promise = promises.borrow_mut().pop().unwrap();
        promise.callback(());
        assert_eq!(conn.read_all().unwrap(), "fired");
    });
}

#[test]
fn a_connection_whose_decoder_cannot_be_made_is_closed_and_nothing_runs() {
    guarded(|| {
        let (ran, fail) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(true)));
        let (count, failing) = (ran.clone(), fail.clone());
        let factory = SpawnFactory::framed(
            move || {
                assert!(!failing.get(), "no decoder");
                Raw
            },
            move |_| count.set(count.get() + 1),
        );
        let at = listen(factory.clone());
        let end = creator().connect_tcp(at).unwrap().read_all();
        assert!(end.is_ok_and(|all| all.is_empty()));
        assert_eq!((ran.get(), factory.running(), logged().len()), (0, 0, 1));
        fail.set(false);
        assert_eq!(creator().connect_tcp(at).unwrap().read_all().unwrap(), "");
        assert_eq!((ran.get(), factory.running()), (1, 0));
    });
}

// G7
#[test]
fn the_end_of_the_reactor_ends_handlers_and_their_connections() {
    guarded(|| {
        let ended = Rc::new(Cell::new(0));
        struct Ended(Rc<Cell<u32>>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let count = ended.clone();
        let handler = move |conn: GreenTransport| -> Result {
            let _ended = Ended(count.clone());
            while conn.recv()?.is_some() {}
            sleep(Duration::from_secs(60));
            Ok(())
        };
        let factory = SpawnFactory::new(handler.clone());
        let at = [listen(factory.clone()), listen(SimpleSpawnFactory::new(handler))];
        let conns = [clients(at[0], &["a", "b"]), clients(at[1], &["c"])];
        started(&factory, 2);
        // One of them has come to its sleep.
        conns[0][0].lose_write_connection();
        sleep(Duration::from_millis(2));
        Reactor::current().close();
        assert_eq!((ended.get(), factory.running()), (3, 0));
        for conn in conns.iter().flatten() {
            assert!(conn.write("x").is_err());
        }
    });
}

#[test]
fn a_hundred_handlers_started_in_one_turn_are_waited_for_in_the_order_of_their_connections() {
    guarded(|| {
        let numbers = Rc::new(Cell::new(0));
        let next = numbers.clone();
        let factory = SpawnFactory::new(move |conn: GreenTransport| {
            let number = next.replace(next.get() + 1);
            conn.read_all()?;
            // The later ones end first.
            sleep(Duration::from_micros(100 * (100 - number)));
            if number.is_multiple_of(10) { Err(Failure::msg(number)) } else { Ok(()) }
        });
        let at = listen(factory.clone());
        let conns: Vec<_> = (0..100).map(|_| creator().connect_tcp(at).unwrap()).collect();
        started(&factory, 100);
        drop(conns);
        let ends = factory.wait_all();
        assert_eq!(ends.len(), 100);
        for (number, end) in ends.into_iter().enumerate() {
            assert_eq!(end.err().map(|failure| failure.to_string()), (number % 10 == 0).then(|| number.to_string()));
        }
    });
}
