//! `Reactor::adopt_stream`: pipes, socket pairs, FIFOs and terminals under the rules of TCP streams.
mod rig;
use rig::{Log, Probe, Slot, run};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use twistlet::transport::Ends;
use twistlet::{Address, ConnectionClosed, PullProducer, Reactor, TransportRef};

/// Collects what comes.
fn collect(probe: Probe) -> (Probe, Rc<RefCell<Vec<u8>>>) {
    let all: Rc<RefCell<Vec<u8>>> = Rc::default();
    let into = all.clone();
    (probe.on_data(move |_, data| into.borrow_mut().extend_from_slice(data)), all)
}
/// Whether the description behind a descriptor is non-blocking.
fn is_nonblocking(fd: &impl AsFd) -> bool {
    socket2::SockRef::from(fd).nonblocking().expect("open")
}

#[test]
fn two_pipes_are_a_stream_that_ends_in_order() {
    let (log, reason) = (Log::default(), Slot::default());
    let (input, mut to) = pipe().expect("a pipe");
    let (mut from, output) = pipe().expect("a pipe");
    run(|reactor| {
        let seen = log.clone();
        let probe = Probe::new()
            .on_made(move |transport| seen.add(format_args!("made with {}", transport.peer())))
            .on_data(|transport, data| transport.write(data.to_ascii_uppercase()))
            .until_lost(reactor, &reason);
        reactor.adopt_stream((input, output), probe).expect("adopted");
        // In a later turn.
        assert!(log.all().is_empty());
        to.write_all(b"hello").expect("room");
        drop(to);
    });
    let mut text = String::new();
    from.read_to_string(&mut text).expect("the end");
    assert_eq!((text.as_str(), reason.get()), ("HELLO", ConnectionClosed::Done));
    assert_eq!(log.take(), ["made with a pipe"]);
}

#[test]
fn a_socket_pair_is_a_unix_stream_and_half_closes() {
    let reason = Slot::default();
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let peer = std::thread::spawn(move || {
        let mut heard = String::new();
        theirs.read_to_string(&mut heard).expect("a half-close");
        theirs.write_all(b"answer").expect("still open");
        heard
    });
    let (probe, all) = collect(Probe::new());
    run(|reactor| {
        let probe = probe
            .on_made(|transport| {
                assert!(matches!(transport.peer(), Address::Unix(None)));
                transport.write("question");
                transport.lose_write_connection();
            })
            .until_lost(reactor, &reason);
        reactor.adopt_stream(ours, probe).expect("adopted");
    });
    assert_eq!(peer.join().expect("no panic"), "question");
    assert_eq!((&all.borrow()[..], reason.get()), (&b"answer"[..], ConnectionClosed::Done));
}

// PRC-8, for streams: the reader of our output goes away, and we go on reading.
#[test]
fn output_that_nobody_reads_ends_the_write_side_alone() {
    let (log, reason) = (Log::default(), Slot::default());
    let (input, mut to) = pipe().expect("a pipe");
    let (from, output) = pipe().expect("a pipe");
    drop(from);
    run(|reactor| {
        let (seen, heard) = (log.clone(), log.clone());
        let probe = Probe::new()
            .on_made(|transport| transport.write("into nothing"))
            .on_write_lost(move |transport| {
                seen.add("write lost");
                transport.write("more of it");
                to.write_all(b"still heard").expect("room");
                // And then the end.
                to = pipe().expect("a pipe").1;
            })
            .on_data(move |_, data| heard.add(String::from_utf8_lossy(data)))
            .until_lost(reactor, &reason);
        let transport = reactor.adopt_stream((input, output), probe).expect("adopted");
        transport.write("before");
        let failed = log.clone();
        let _ =
            transport.when_flushed().add_both(move |flushed| failed.add(format_args!("flushed: {}", flushed.is_ok())));
    });
    assert_eq!(log.take(), ["flushed: false", "write lost", "still heard"]);
    // Something was written that nobody got.
    assert_eq!(reason.get(), ConnectionClosed::Lost(Some(std::io::ErrorKind::BrokenPipe)));
}

#[test]
fn a_writer_alone_hears_that_its_reader_has_gone_without_writing() {
    let reason = Slot::default();
    let (from, output) = pipe().expect("a pipe");
    run(|reactor| {
        let probe = Probe::new().until_lost(reactor, &reason);
        reactor.adopt_stream(output, probe).expect("adopted");
        reactor.call_later(Duration::from_millis(10), move || drop(from));
    });
    assert_eq!(reason.get(), ConnectionClosed::Lost(Some(std::io::ErrorKind::BrokenPipe)));
}

#[test]
fn a_writer_alone_sends_everything_and_closes() {
    struct Blocks(usize);
    impl PullProducer for Blocks {
        fn produce(&mut self, consumer: TransportRef) -> bool {
            consumer.write(vec![b'x'; 100_000]);
            self.0 -= 1;
            self.0 > 0
        }
    }
    let reason = Slot::default();
    let (mut from, output) = pipe().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).map(|_| all.len())
    });
    run(|reactor| {
        let transport =
            reactor.adopt_stream(Ends::writer(output), Probe::new().until_lost(reactor, &reason)).expect("adopted");
        transport.register_pull_producer(Blocks(20));
        transport.lose_connection();
    });
    assert_eq!((reader.join().expect("no panic").expect("read"), reason.get()), (2_000_000, ConnectionClosed::Done));
}

#[test]
fn a_reader_alone_drops_what_is_written_and_can_be_paused() {
    let (paused, reason) = (Rc::new(Cell::new(true)), Slot::default());
    let (input, mut to) = pipe().expect("a pipe");
    let (state, resumes) = (paused.clone(), paused.clone());
    run(|reactor| {
        let (probe, _) = collect(Probe::new());
        let probe =
            probe.on_data(move |_, data| assert!(!state.get() && data == b"hello")).until_lost(reactor, &reason);
        let transport = reactor.adopt_stream(Ends::reader(input), probe).expect("adopted");
        transport.pause_producing();
        transport.write("dropped");
        assert_eq!(transport.unsent(), 0);
        to.write_all(b"hello").expect("room");
        drop(to);
        reactor.call_later(Duration::from_millis(30), move || {
            resumes.set(false);
            transport.resume_producing();
        });
    });
    assert!(!paused.get());
    assert_eq!(reason.get(), ConnectionClosed::Done);
}

#[test]
fn a_regular_file_is_refused_in_words_and_a_closed_reactor_too() {
    run(|reactor| {
        let file = std::fs::File::open("/etc/hostname").expect("there");
        let failure = reactor.adopt_stream(file, Probe::new()).expect_err("always ready");
        assert_eq!(failure.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(failure.to_string().contains("defer_to_thread"), "{failure}");
        reactor.call_soon(move || reactor.stop());
    });
}

#[test]
fn the_blocking_mode_that_others_share_is_given_back() {
    let (reason, (input, to)) = (Slot::default(), pipe().expect("a pipe"));
    let shared = input.try_clone().expect("a duplicate");
    assert!(!is_nonblocking(&shared));
    run(|reactor| {
        let transport =
            reactor.adopt_stream(Ends::reader(input), Probe::new().until_lost(reactor, &reason)).expect("adopted");
        assert!(is_nonblocking(&shared));
        reactor.call_soon(move || transport.lose_connection());
    });
    assert!(!is_nonblocking(&shared));
    drop(to);
}

// REA-30: a duplicate elsewhere keeps the description alive; the poller must have forgotten it.
#[test]
fn a_duplicate_left_open_wakes_nobody_after_the_end() {
    let (reason, (input, mut to)) = (Slot::default(), pipe().expect("a pipe"));
    let shared = input.try_clone().expect("a duplicate");
    run(|reactor| {
        let lost = reason.clone();
        let probe = Probe::new().on_lost(move |_, why| {
            lost.set(why.clone());
            to.write_all(b"late").expect("room");
            let turns = reactor.statistics().turns;
            reactor.call_later(Duration::from_millis(50), move || {
                // The timer's own turn, and the one that set it.
                assert!(reactor.statistics().turns <= turns + 2);
                reactor.stop()
            });
        });
        let transport = reactor.adopt_stream(Ends::reader(input), probe).expect("adopted");
        reactor.call_soon(move || transport.lose_connection());
    });
    assert_eq!(reason.get(), ConnectionClosed::Done);
    drop(shared);
}

#[test]
fn a_stream_that_ends_with_the_reactor_has_heard_that_it_was_made() {
    let log = Log::default();
    let (input, _to) = pipe().expect("a pipe");
    let reactor = Reactor::new().expect("a reactor");
    let (made, lost) = (log.clone(), log.clone());
    let probe = Probe::new()
        .on_made(move |_| made.add("made"))
        .on_lost(move |_, reason| lost.add(format_args!("lost: {reason:?}")));
    reactor.adopt_stream(Ends::reader(input), probe).expect("adopted");
    reactor.close();
    assert_eq!(log.take(), ["made", "lost: Lost(None)"]);
}

#[test]
fn a_protocol_that_panics_loses_its_pipe_and_nobody_else() {
    rig::watch_log();
    let reason = Slot::default();
    let (input, mut to) = pipe().expect("a pipe");
    run(|reactor| {
        let probe = Probe::new().on_data(|_, _| panic!("no")).until_lost(reactor, &reason);
        reactor.adopt_stream(Ends::reader(input), probe).expect("adopted");
        to.write_all(b"x").expect("room");
    });
    assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.is_panic()));
    assert_eq!(rig::logged().len(), 1);
    assert!(to.write_all(b"x").is_err());
}

#[test]
fn a_protocol_that_takes_over_at_once_is_told_after_the_first() {
    let (log, reason) = (Log::default(), Slot::default());
    let (input, mut to) = pipe().expect("a pipe");
    run(|reactor| {
        let first = log.clone();
        let before = Probe::new().on_made(move |_| first.add("the first"));
        let transport = reactor.adopt_stream(Ends::reader(input), before).expect("adopted");
        let (made, heard) = (log.clone(), log.clone());
        let after = Probe::new()
            .on_made(move |_| made.add("made"))
            .on_data(move |_, data| heard.add(String::from_utf8_lossy(data)))
            .until_lost(reactor, &reason);
        transport.switch_protocol(after, "un");
        to.write_all(b"read").expect("room");
        drop(to);
    });
    assert_eq!(log.take().concat(), "the firstmadeunread");
    assert_eq!(reason.get(), ConnectionClosed::Done);
}
