//! Descriptors of the user's own: edges, ends, panics, what cannot be watched. Rules REA-26 to REA-31.
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::ReactorError;
use twistlet::reactor::{Descriptor, Watch};
use twistlet::{ConnectionClosed, Failure, Reactor};

#[path = "support/watch.rs"]
mod support;
use support::{Notes, OnDrop, assert_logged_once, dog, logged};

const MS: Duration = Duration::from_millis(1);

/// A handler of closures.
struct By<R, W>(R, W);
impl<R: FnMut(&Watch), W: FnMut(&Watch)> Descriptor for By<R, W> {
    fn readable(&mut self, watch: &Watch) {
        (self.0)(watch);
    }
    fn writable(&mut self, watch: &Watch) {
        (self.1)(watch);
    }
}
fn reads(f: impl FnMut(&Watch) + 'static) -> impl Descriptor + 'static {
    By(f, |_: &Watch| ())
}
fn pair() -> (Rc<UnixStream>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Rc::new(ours), theirs)
}

#[test]
fn it_is_called_for_what_comes_and_for_the_end() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = pair();
    let notes = Notes::default();
    let (stream, saw) = (ours.clone(), notes.clone());
    let mut buffer = [0; 16];
    let watch = reactor.watch(
        ours,
        reads(move |watch| {
            while let Ok(n) = (&*stream).read(&mut buffer) {
                saw.add(n);
                if n == 0 {
                    watch.stop();
                    assert!(!watch.is_active());
                    return drop(reactor.stop());
                }
            }
        }),
    );
    let watch = watch.unwrap();
    assert!(watch.is_active());
    theirs.write_all(b"one").unwrap();
    reactor.call_later(MS, move || {
        theirs.write_all(b"three").unwrap();
        reactor.call_later(MS, move || drop(theirs));
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "3 5 0");
}

#[test]
fn what_is_left_unread_comes_again_when_the_handler_asks() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"abcd").unwrap();
    let notes = Notes::default();
    let (stream, saw) = (ours.clone(), notes.clone());
    let mut turn = 0;
    let watch = reactor.watch(
        ours,
        reads(move |watch| {
            let now = reactor.statistics().turns;
            assert!(now > turn, "each time in a later turn");
            turn = now;
            let mut byte = [0];
            match (&*stream).read(&mut byte) {
                Ok(1) => {
                    saw.add(byte[0] as char);
                    watch.again().unwrap();
                    if byte[0] == b'd' {
                        reactor.call_later(5 * MS, move || reactor.stop());
                    }
                }
                _ => panic!("called for nothing"),
            }
        }),
    );
    let watch = watch.unwrap();
    reactor.run().unwrap();
    assert_eq!(notes.all(), "a b c d");
    assert_eq!(logged(), [""; 0]);
    assert!(watch.again().is_ok(), "harmless afterwards");
}

#[test]
fn it_is_told_of_room_to_write_at_first_and_after_a_jam() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (ours, theirs) = pair();
    let jams = Rc::new(Cell::new(0));
    let (stream, jammed) = (ours.clone(), jams.clone());
    let watch = reactor.watch(
        ours,
        By(
            |_: &Watch| (),
            move |_: &Watch| {
                while (&*stream).write(&[0; 4096]).is_ok() {}
                jammed.set(jammed.get() + 1);
                if jammed.get() == 3 {
                    reactor.stop().unwrap();
                }
            },
        ),
    );
    let _watch = watch.unwrap();
    theirs.set_nonblocking(true).unwrap();
    fn drain(reactor: Reactor, mut theirs: UnixStream) {
        while theirs.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {}
        reactor.call_later(MS, move || drain(reactor, theirs));
    }
    reactor.call_later(MS, move || drain(reactor, theirs));
    reactor.run().unwrap();
    assert_eq!(jams.get(), 3);
}

#[test]
fn a_dropped_watch_is_never_called_again_and_closes_the_descriptor() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = pair();
    let dropped = Rc::new(Cell::new(false));
    let saw = dropped.clone();
    let guard = OnDrop(move || saw.set(true));
    let watch = reactor.watch(
        ours,
        reads(move |_| {
            let _ = &guard;
            panic!("called")
        }),
    );
    theirs.write_all(b"data").unwrap();
    reactor.call_soon(move || {
        drop(watch);
        assert!(dropped.get());
        // Nobody else held it: the other end sees the end (as a reset, since there was something unread).
        assert!(matches!(theirs.read(&mut [0]), Ok(0) | Err(_)));
        reactor.call_later(MS, move || reactor.stop());
    });
    reactor.run().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_handler_may_drop_its_own_watch_and_those_of_others_in_the_same_batch() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let watches: Rc<RefCell<Vec<Watch>>> = Rc::default();
    let calls = Rc::new(Cell::new(0));
    let dropped = Rc::new(Cell::new(0));
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"data").unwrap();
        peers.push(theirs);
        let (all, calls, dropped) = (watches.clone(), calls.clone(), dropped.clone());
        let guard = OnDrop(move || dropped.set(dropped.get() + 1));
        let watch = reactor.watch(
            ours,
            reads(move |watch| {
                let before = all.take();
                assert_eq!(before.len(), 3);
                drop(before);
                assert!(!watch.is_active() && watch.again().is_ok());
                // Those of the others are gone; this one's handler lives until it returns.
                let _ = &guard;
                calls.set(calls.get() + 1);
                reactor.stop().unwrap();
            }),
        );
        watches.borrow_mut().push(watch.unwrap());
    }
    let freed = dropped.clone();
    reactor.call_later(MS, move || assert_eq!(freed.get(), 3));
    reactor.run().unwrap();
    assert_eq!((calls.get(), dropped.get()), (1, 3));
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_watch_in_its_own_handler_does_not_leak() {
    // R7
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (ours, _theirs) = pair();
    let watch = Rc::new(RefCell::new(None));
    let held = watch.clone();
    let count = Rc::downgrade(&watch);
    let made = reactor.watch(ours, reads(move |_| drop(held.take())));
    *watch.borrow_mut() = Some(made.unwrap());
    drop(watch);
    assert!(count.upgrade().is_some());
    reactor.close();
    assert!(count.upgrade().is_none());
}

struct Panics(Notes);
impl Descriptor for Panics {
    fn readable(&mut self, _: &Watch) {
        panic!("a broken handler");
    }
    fn connection_lost(&mut self, reason: &ConnectionClosed) {
        assert!(matches!(reason, ConnectionClosed::Failed(failure) if failure.is_panic()));
        self.0.add("lost");
    }
}

#[test]
fn a_panic_ends_the_watch_and_is_logged_once() {
    // R2, REA-5
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"data").unwrap();
    let notes = Notes::default();
    let watch = reactor.watch(ours, Panics(notes.clone())).unwrap();
    reactor.call_later(MS, move || {
        let _ = theirs.write_all(b"more");
        reactor.call_later(MS, move || reactor.stop());
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "lost");
    assert!(!watch.is_active());
    assert_logged_once(&["watched descriptor", "a broken handler"]);
}

#[test]
fn a_destructor_that_panics_does_not_end_the_loop() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"data").unwrap();
    let guard = OnDrop(|| panic!("a broken destructor"));
    let made = reactor.watch(
        ours,
        reads(move |watch| {
            let _ = &guard;
            watch.stop();
        }),
    );
    let (other, mut their_other) = pair();
    their_other.write_all(b"data").unwrap();
    let second = reactor.watch(other, reads(move |_| drop(reactor.stop())));
    let _watches = (made.unwrap(), second.unwrap());
    reactor.run().unwrap();
    assert_logged_once(&["a broken destructor"]);
}

fn error(result: Result<Watch, Failure>) -> ErrorKind {
    result.unwrap_err().check::<std::io::Error>().unwrap().kind()
}

#[test]
fn what_cannot_be_watched_is_refused_with_a_reason() {
    // REA-31: Twisted would poll a regular file for ever.
    let reactor = Reactor::new().unwrap();
    let file = reactor.watch(File::open("Cargo.toml").unwrap(), reads(|_| ()));
    let text = file.as_ref().unwrap_err().to_string();
    assert!(text.contains("regular file") && text.contains("defer_to_thread"), "{text}");
    assert_eq!(error(file), ErrorKind::PermissionDenied);
    assert_eq!(error(reactor.watch(File::open("src").unwrap(), reads(|_| ()))), ErrorKind::PermissionDenied);

    let (ours, _theirs) = pair();
    let first = reactor.watch(ours.clone(), reads(|_| ())).unwrap();
    assert_eq!(error(reactor.watch(ours.clone(), reads(|_| ()))), ErrorKind::AlreadyExists);
    drop(first);
    let again = reactor.watch(ours, reads(|_| ())).unwrap();
    drop(again);
    assert_eq!(reactor.statistics().descriptors, 0);
    reactor.close();
    let (ours, _theirs) = pair();
    assert!(reactor.watch(ours, reads(|_| ())).unwrap_err().is::<ReactorError>());
}

#[test]
fn any_descriptor_will_do() {
    fn watchable<T: AsFd + 'static>() {}
    watchable::<std::io::Stdin>();
    watchable::<std::process::ChildStdout>();
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Rc::new(listener);
    let accepts = shared.clone();
    let made = reactor.watch(
        shared,
        reads(move |_| {
            if accepts.accept().is_ok() {
                let _ = reactor.stop();
            }
        }),
    );
    let _watch = made.unwrap();
    let _client = TcpStream::connect(address).unwrap();
    // A pipe's two ends.
    let (from, to) = std::io::pipe().unwrap();
    let _from = reactor.watch(from, reads(|_| ())).unwrap();
    let _to = reactor.watch(to, reads(|_| ())).unwrap();
    reactor.run().unwrap();
}
