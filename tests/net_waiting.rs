//! How waits on green sockets end: by data, timeouts, shutdown, kills, the listener's close, the reactor's end; and who may
//! wait at all.
#![cfg(feature = "green")]
mod support;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{PATIENCE, dial, serve};
use twistlet::error::{Busy, Killed, PortError, ReactorError};
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::{join_reactor, sleep, spawn, with_timeout, yield_now};
use twistlet::{Failure, Reactor, TimedOut};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}
/// Writes until it would have to wait.
fn fill(stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    while (&mut &*stream).write(&[0; 65536]).is_ok() {}
    stream.set_nonblocking(false).unwrap();
}
fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().unwrap()
}

// HBC-16, GM-05
#[test]
fn a_read_timeout_is_an_error_and_leaves_the_socket_usable() {
    let (mut stream, mut peer) = pair();
    let limit = Duration::from_millis(20);
    stream.set_read_timeout(Some(limit)).unwrap();
    let start = Instant::now();
    let error = stream.read(&mut [0; 8]).unwrap_err();
    assert!(start.elapsed() >= limit && start.elapsed() < PATIENCE);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(&TimedOut(limit)));
    assert_eq!(stream.peek(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    peer.write_all(b"abc").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 3);
    // HBC-18: nothing remains of the waits.
    assert_eq!(Reactor::current().statistics().timers, 0);
}

#[test]
fn data_that_arrived_in_time_is_read_however_late_the_loop_is() {
    let (stream, mut peer) = pair();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let reader = spawn({
        let mut stream = clone(&stream);
        move || Ok(stream.read(&mut [0; 8])?)
    });
    yield_now();
    peer.write_all(b"abc").unwrap();
    std::thread::sleep(Duration::from_millis(10)); // holds the loop beyond the deadline
    assert_eq!(reader.wait().unwrap(), 3);
}

// HBC-16
#[test]
fn a_write_timeout_is_an_error() {
    let (mut stream, mut peer) = pair();
    fill(&stream);
    stream.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
    assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::TimedOut);
    // When the peer reads, it goes on.
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let reader = spawn(move || {
        let mut all = Vec::new();
        Ok(peer.read_to_end(&mut all)?)
    });
    stream.write_all(b"x").unwrap();
    drop(stream);
    assert!(reader.wait().unwrap() > 65536);
}

// UA-21
#[test]
fn shutdown_wakes_a_reader_at_once() {
    for how in [Shutdown::Read, Shutdown::Both] {
        let (stream, _peer) = pair();
        let reader = spawn({
            let mut stream = clone(&stream);
            move || Ok((stream.read(&mut [0; 8])?, stream.read(&mut [0; 8])?))
        });
        yield_now();
        stream.shutdown(how).unwrap();
        assert_eq!(reader.wait().unwrap(), (0, 0));
    }
}

// UA-21
#[test]
fn shutdown_wakes_a_writer_at_once() {
    for how in [Shutdown::Write, Shutdown::Both] {
        let (stream, _peer) = pair();
        fill(&stream);
        let writer = spawn({
            let mut stream = clone(&stream);
            move || Ok(stream.write(b"x").unwrap_err().kind())
        });
        yield_now();
        assert!(!writer.is_finished());
        stream.shutdown(how).unwrap();
        assert_eq!(writer.wait().unwrap(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn shutdown_for_writing_leaves_the_reader_waiting() {
    let (stream, mut peer) = pair();
    let reader = spawn({
        let mut stream = clone(&stream);
        move || Ok(stream.read(&mut [0; 8])?)
    });
    yield_now();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    yield_now();
    assert!(!reader.is_finished());
    peer.write_all(b"answer").unwrap();
    assert_eq!(reader.wait().unwrap(), 6);
}

// HB-45, HBC-13, UA-22
#[test]
fn a_second_reader_is_refused_and_the_first_gets_the_data() {
    let (stream, mut peer) = pair();
    let read = |name: &str| {
        let mut stream = clone(&stream);
        twistlet::green::Builder::default().name(name).spawn(move || Ok(stream.read(&mut [0; 8])?))
    };
    let first = read("first");
    yield_now();
    let failure = read("second").wait().unwrap_err();
    let busy = failure.check::<Busy>().unwrap().clone();
    assert!(busy.holder.contains("first") && busy.refused.contains("second"), "{busy}");
    assert_eq!(failure.kind(), ErrorKind::ResourceBusy);
    // Also while the first is on its way out, with the data there.
    peer.write_all(b"abc").unwrap();
    assert_eq!((&stream).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ResourceBusy);
    assert_eq!(first.wait().unwrap(), 3);
    // Nobody is left behind.
    peer.write_all(b"defg").unwrap();
    assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 4);
}

// HB-45
#[test]
fn a_second_writer_and_a_second_acceptor_are_refused() {
    let (stream, _peer) = pair();
    fill(&stream);
    let writer = spawn({
        let mut stream = clone(&stream);
        move || Ok(stream.write(b"x")?)
    });
    yield_now();
    assert_eq!((&stream).write(b"y").unwrap_err().kind(), ErrorKind::ResourceBusy);
    writer.kill();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let acceptor = spawn({
        let listener = listener.try_clone().unwrap();
        move || Ok(listener.accept().map(drop)?)
    });
    yield_now();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::ResourceBusy);
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    acceptor.wait().unwrap();
}

#[test]
fn a_killed_reader_takes_nothing_and_frees_its_place() {
    let (stream, mut peer) = pair();
    let reader = spawn({
        let mut stream = clone(&stream);
        move || Ok(stream.read(&mut [0; 8])?)
    });
    yield_now();
    peer.write_all(b"abc").unwrap();
    reader.kill();
    assert!(reader.wait().unwrap_err().is::<Killed>());
    assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 3);
    // Killed in the other waits.
    fill(&stream);
    let writer = spawn({
        let mut stream = clone(&stream);
        move || Ok(stream.write(b"x").map(drop)?)
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let acceptor = spawn({
        let listener = listener.try_clone().unwrap();
        move || Ok(listener.accept().map(drop)?)
    });
    yield_now();
    for task in [writer, acceptor] {
        task.kill();
        assert!(task.wait().unwrap_err().is::<Killed>());
    }
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    client.write_all(b"hi").unwrap();
    assert_eq!(served.read(&mut [0; 8]).unwrap(), 2);
}

#[test]
fn with_timeout_interrupts_a_read() {
    let (mut stream, mut peer) = pair();
    let late = with_timeout(Duration::from_millis(5), || stream.read(&mut [0; 8]).map(drop));
    assert_eq!(late.unwrap_err(), TimedOut(Duration::from_millis(5)));
    peer.write_all(b"abc").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 3);
}

// HB-47
#[test]
fn dropping_a_clone_disturbs_no_one_who_waits() {
    let (stream, mut peer) = pair();
    let reader = spawn({
        let mut stream = clone(&stream);
        move || Ok(stream.read(&mut [0; 8])?)
    });
    yield_now();
    drop(stream);
    sleep(Duration::from_millis(1));
    assert!(!reader.is_finished());
    peer.write_all(b"abc").unwrap();
    assert_eq!(reader.wait().unwrap(), 3);
    // The last handle went with the reader.
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
}

// HBC-15, HBC-21
#[test]
fn closing_the_listener_wakes_accept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let share = || listener.try_clone().unwrap();
    let acceptor = spawn({
        let listener = share();
        move || Ok(listener.accept().map(drop)?)
    });
    yield_now();
    listener.close();
    let failure = acceptor.wait().unwrap_err();
    assert_eq!((failure.kind(), failure.check()), (ErrorKind::NotConnected, Some(&PortError::NotListening)));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(listener.incoming().count(), 0);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    listener.close();
}

#[test]
fn the_main_loop_may_use_what_is_ready_and_never_waits() {
    let reactor = Reactor::new().unwrap();
    join_reactor(&reactor).unwrap();
    let (near, far) = pair();
    let seen = Rc::new(RefCell::new(Vec::new()));
    reactor.call_soon({
        let (near, far, seen) = (clone(&near), clone(&far), seen.clone());
        move || {
            (&far).write_all(b"abc").unwrap();
            seen.borrow_mut().push((&near).read(&mut [0; 8]).unwrap());
            // Nothing there: it would have to wait.
            let waits = catch_unwind(AssertUnwindSafe(|| (&near).read(&mut [0; 8])));
            let message = *waits.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains("in the main loop") && message.contains("net_waiting.rs"), "{message}");
            // What arrived since the loop last looked is there all the same.
            (&far).write_all(b"de").unwrap();
            seen.borrow_mut().push((&near).read(&mut [0; 8]).unwrap());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let waits = catch_unwind(AssertUnwindSafe(|| listener.accept().map(drop)));
            assert!(waits.is_err());
            seen.borrow_mut().push(0);
        }
    });
    let reader = spawn({
        let near = clone(&near);
        move || {
            sleep(Duration::from_millis(5));
            let n = (&near).read(&mut [0; 8])?;
            reactor.stop()?;
            Ok(n)
        }
    });
    reactor.call_later(Duration::from_millis(10), {
        let far = clone(&far);
        move || (&far).write_all(b"fghi").unwrap()
    });
    reactor.run().unwrap();
    assert_eq!(*seen.borrow(), [3, 2, 0]);
    drop(reader);
}

#[test]
fn when_the_reactor_has_stopped_waits_are_errors() {
    let (mut stream, mut peer) = pair();
    sleep(Duration::from_millis(1));
    Reactor::current().close();
    // What need not wait goes on.
    peer.write_all(b"abc").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 3);
    let failure = Failure::from(stream.read(&mut [0; 8]).unwrap_err());
    assert_eq!(failure.check(), Some(&ReactorError::Stopped));
    // Until there is another one.
    let reactor = Reactor::new().unwrap();
    let reader = spawn(move || Ok(stream.read(&mut [0; 8])?));
    yield_now();
    peer.write_all(b"defg").unwrap();
    assert_eq!(reader.wait().unwrap(), 4);
    reactor.close();
}

#[test]
fn the_end_of_the_reactor_unwinds_who_waits() {
    let (stream, mut peer) = pair();
    struct Told(Rc<Cell<bool>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let told = Rc::new(Cell::new(false));
    let waiting = spawn({
        let (mut stream, told) = (clone(&stream), Told(told.clone()));
        move || {
            let _told = told;
            Ok(stream.read(&mut [0; 8])?)
        }
    });
    yield_now();
    Reactor::current().close();
    assert!(told.get());
    drop(waiting);
    drop(stream);
    let reactor = Reactor::new().unwrap();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    reactor.close();
}

#[test]
fn a_green_thread_that_never_has_to_wait_still_lets_others_run() {
    let flood = serve(|mut stream| while stream.write_all(&[7; 65536]).is_ok() {});
    let mut stream = TcpStream::connect(flood).unwrap();
    let heard = Rc::new(Cell::new(false));
    let other = spawn({
        let heard = heard.clone();
        move || {
            sleep(Duration::from_millis(1));
            heard.set(true);
        }
    });
    yield_now();
    let mut small = [0; 16];
    let start = Instant::now();
    while !heard.get() {
        stream.read_exact(&mut small).unwrap();
        assert!(start.elapsed() < PATIENCE, "starved");
    }
    other.wait().unwrap();
}

#[test]
fn a_destructor_that_reads_while_its_green_thread_unwinds_does_not_wait() {
    struct Reads(TcpStream, Rc<Cell<Option<ErrorKind>>>);
    impl Drop for Reads {
        fn drop(&mut self) {
            self.1.set(self.0.read(&mut [0; 8]).err().map(|error| error.kind()));
        }
    }
    let (stream, _peer) = pair();
    let kind = Rc::new(Cell::new(None));
    let victim = spawn({
        let reads = Reads(stream, kind.clone());
        move || {
            let _reads = reads;
            sleep(PATIENCE);
        }
    });
    yield_now();
    victim.kill();
    assert!(victim.wait().unwrap_err().is::<Killed>());
    assert_eq!(kind.get(), Some(ErrorKind::Other));
}

#[test]
fn connecting_can_be_killed() {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let queued: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, Duration::from_millis(20)).ok()).take(10).collect();
    let victim = spawn(move || Ok(TcpStream::connect(address).map(drop)?));
    yield_now();
    let waited = Reactor::current().statistics().descriptors;
    victim.kill();
    assert!(victim.wait().unwrap_err().is::<Killed>());
    assert_eq!(Reactor::current().statistics().descriptors, waited - 1);
    drop(queued);
}

#[test]
fn a_std_peer_sees_the_close_of_a_dropped_green_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = dial(listener.local_addr().unwrap());
    spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"bye")?;
        Ok(())
    })
    .wait()
    .unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
}
