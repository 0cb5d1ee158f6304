//! `Application` in this process: its bounds, and what it does to a successor that never comes up. What it is like from outside
//! is in example_service.rs.
mod support;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use support::{PATIENCE, folder};
use twistlet::endpoint::ServerEndpoint;
use twistlet::error::PortError;
use twistlet::service::{
    Application, Listeners, MultiService, RestartSignal, Service, StreamServerEndpointService, TimerService,
    run_application,
};
use twistlet::testing::{failure_result_of, success_result_of};
use twistlet::{Deferred, Failure, Promise, Protocol, Reactor, TransportRef};

/// Signals are the process's: one application at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
fn is(code: ExitCode, expected: ExitCode) -> bool {
    format!("{code:?}") == format!("{expected:?}")
}
const TICK: Duration = Duration::from_millis(1);

/// Never stops, and says so.
#[derive(Default)]
struct Stubborn(Rc<Cell<Option<Promise<()>>>>);
impl Service for Stubborn {
    fn start_service(&mut self) -> Deferred<()> {
        Deferred::succeed(())
    }
    fn stop_service(&mut self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.0.set(Some(promise));
        deferred
    }
}

#[test]
fn an_application_ends_well_when_its_reactor_is_told_to_stop() {
    let _alone = alone();
    let reactor = Reactor::current();
    let ticks = Rc::new(Cell::new(0));
    let count = Rc::clone(&ticks);
    let program = TimerService::new(&reactor, TICK, move || {
        count.set(count.get() + 1);
        if count.get() == 3 {
            let _ = reactor.stop();
        }
    });
    assert!(is(run_application(program), ExitCode::SUCCESS));
    assert_eq!(ticks.get(), 3);
}

#[test]
fn a_service_that_never_stops_holds_nothing_up_for_longer_than_it_may() {
    let _alone = alone();
    let reactor = Reactor::current();
    let program = MultiService::new();
    program.add(Stubborn::default());
    reactor.call_when_running(move || reactor.stop());
    let begun = Instant::now();
    assert!(is(Application::new().drain(Duration::from_millis(50)).run(program), ExitCode::SUCCESS));
    assert!((Duration::from_millis(50)..PATIENCE).contains(&begun.elapsed()));
}

/// Writes more than anybody takes.
struct Floods;
impl Protocol for Floods {
    fn connection_made(&mut self, transport: TransportRef) {
        transport.write(vec![0; 64 << 20]);
    }
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

#[test]
fn a_connection_that_takes_nothing_is_aborted_when_all_time_is_up() {
    let _alone = alone();
    let reactor = Reactor::current();
    let application = Application::new().drain(Duration::from_millis(20)).flush(Duration::from_millis(50));
    let server = StreamServerEndpointService::new(application.listeners().tcp(&reactor, "127.0.0.1:0"), || Floods);
    let at = server.clone();
    reactor.call_later(TICK, move || {
        let stream = TcpStream::connect(at.address().unwrap().socket().unwrap()).unwrap();
        reactor.call_later(Duration::from_millis(20), move || {
            let _kept = &stream;
            let _ = reactor.stop();
            std::mem::forget(stream);
        });
    });
    let begun = Instant::now();
    assert!(is(application.run(server), ExitCode::SUCCESS));
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_failed_start_stops_what_was_started() {
    struct Fails(bool);
    impl Service for Fails {
        fn privileged_start(&mut self) -> Deferred<()> {
            if self.0 { Deferred::fail(Failure::msg("no rights")) } else { Deferred::succeed(()) }
        }
        fn start_service(&mut self) -> Deferred<()> {
            Deferred::fail(Failure::msg("not today"))
        }
        fn stop_service(&mut self) -> Deferred<()> {
            Deferred::succeed(())
        }
    }
    struct Noted(Rc<Cell<(u32, u32)>>);
    impl Service for Noted {
        fn start_service(&mut self) -> Deferred<()> {
            self.0.set((self.0.get().0 + 1, self.0.get().1));
            Deferred::succeed(())
        }
        fn stop_service(&mut self) -> Deferred<()> {
            self.0.set((self.0.get().0, self.0.get().1 + 1));
            Deferred::succeed(())
        }
    }
    let _alone = alone();
    for early in [false, true] {
        let counts = Rc::default();
        let program = MultiService::new();
        program.add(Noted(Rc::clone(&counts)));
        program.add(Fails(early));
        assert!(is(run_application(program), ExitCode::FAILURE));
        assert_eq!(counts.get(), (1, 1));
    }
}

#[test]
fn an_application_that_is_stopped_as_it_starts_ends_well() {
    struct Slow;
    impl Service for Slow {
        fn start_service(&mut self) -> Deferred<()> {
            let (promise, deferred) = Deferred::new();
            std::mem::forget(promise);
            deferred
        }
        fn stop_service(&mut self) -> Deferred<()> {
            Deferred::succeed(())
        }
    }
    let _alone = alone();
    let reactor = Reactor::current();
    reactor.call_later(TICK, move || reactor.stop());
    assert!(is(run_application(Slow), ExitCode::SUCCESS));
}

/// A program that writes its process number to a file and never says that it is up.
fn mute(folder: &Path) -> (PathBuf, PathBuf) {
    let (program, pid) = (folder.join("mute"), folder.join("pid"));
    let script = format!("#!/bin/sh\necho $$ > {0}.new; mv {0}.new {0}\nexec sleep 600\n", pid.display());
    std::fs::write(&program, script).unwrap();
    assert!(Command::new("chmod").arg("755").arg(&program).status().unwrap().success());
    (program, pid)
}
fn kill(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}
/// A process of ours that has ended is there until it has been waited for, or we have ended.
fn wait_for_end_of(pid: &str) {
    let deadline = Instant::now() + PATIENCE;
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the successor was left running");
        std::thread::yield_now();
    }
}

#[test]
fn a_successor_that_takes_too_long_is_killed_and_the_service_goes_on() {
    let _alone = alone();
    let reactor = Reactor::current();
    let (program, pid_file) = mute(&folder("service_mute"));
    let application =
        Application::new().program(program).restart_on([RestartSignal::User1]).ready_within(Duration::from_millis(500));
    let (own, asked) = (std::process::id(), Rc::new(Cell::new(false)));
    let file = pid_file.clone();
    let ticks = TimerService::new(&reactor, TICK, move || {
        if !asked.replace(true) {
            // By the time it is heard, it is up.
            reactor.call_later(TICK, move || kill(own, "USR1"));
        }
        let pid = std::fs::read_to_string(&file).unwrap_or_default();
        // It was there, was given up, and has been waited for.
        if !pid.is_empty() && !Path::new("/proc").join(pid.trim()).exists() {
            let _ = reactor.stop();
        }
    });
    assert!(is(application.run(ticks), ExitCode::SUCCESS));
    assert!(pid_file.exists());
}

#[test]
fn a_stop_takes_a_successor_with_it_that_is_not_up_yet() {
    let _alone = alone();
    let reactor = Reactor::current();
    let (program, pid_file) = mute(&folder("service_stopped"));
    let application = Application::new().program(program).restart_on([RestartSignal::User1]);
    let (own, asked, file) = (std::process::id(), Rc::new(Cell::new(false)), pid_file.clone());
    let ticks = TimerService::new(&reactor, TICK, move || {
        if !asked.replace(true) {
            reactor.call_later(TICK, move || kill(own, "USR1"));
        }
        if file.exists() {
            let _ = reactor.stop();
        }
    });
    assert!(is(application.run(ticks), ExitCode::SUCCESS));
    wait_for_end_of(&std::fs::read_to_string(pid_file).unwrap());
}

#[test]
fn a_listener_is_opened_once_at_a_time_and_closed_with_its_stop() {
    struct Echo;
    impl Protocol for Echo {
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            transport.write(data);
        }
    }
    let reactor = Reactor::new().unwrap();
    let listeners = Listeners::new();
    let endpoint = listeners.tcp(&reactor, "127.0.0.1:0");
    let listening = success_result_of(endpoint.listen(|| Echo));
    assert_eq!(failure_result_of(endpoint.listen(|| Echo)).check(), Some(&PortError::AlreadyListening));
    assert_eq!(format!("{listeners:?}"), "{\"127.0.0.1:0\"}");
    let at = listening.address().socket().unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        back
    });
    let client = reactor.defer_to_thread(move || client.join().map_err(|_| Failure::msg("no answer")));
    let _ = client.add_callback(move |back| {
        assert_eq!(&back, b"hello");
        listening.stop_listening().add_callback(move |()| {
            assert_eq!(format!("{listeners:?}"), "{}");
            assert!(TcpStream::connect(at).is_err(), "nothing keeps it open");
            // And again.
            let again = success_result_of(endpoint.listen(|| Echo));
            assert!(TcpStream::connect(again.address().socket().unwrap()).is_ok());
            reactor.stop()
        })
    });
    reactor.run().unwrap();
}

#[test]
fn a_listener_at_a_path_neither_waits_for_a_busy_server_nor_removes_what_is_not_its_own() {
    struct Deaf;
    impl Protocol for Deaf {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    let reactor = Reactor::new().unwrap();
    let path = folder("service_paths").join("socket");
    let listeners = Listeners::new();
    let endpoint = listeners.unix(&reactor, &path);

    // It lives, accepts nobody, and its backlog is full: connecting would wait.
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let (busy, at) = (socket(), socket2::SockAddr::unix(&path).unwrap());
    busy.bind(&at).unwrap();
    busy.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        if client.connect(&at).is_err() {
            break;
        }
        waiting.push(client);
    }
    let failure = failure_result_of(endpoint.listen(|| Deaf));
    assert_eq!(failure.kind(), std::io::ErrorKind::AddrInUse, "{failure}");
    drop((busy, waiting));

    // What it has left is replaced; and what somebody else puts there is theirs.
    for replaced in [false, true] {
        let listening = success_result_of(endpoint.listen(|| Deaf));
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        if replaced {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "of somebody else").unwrap();
        }
        let _ = listening.stop_listening().add_callback(move |()| reactor.call_soon(move || reactor.crash()));
        reactor.run().unwrap();
        assert_eq!(path.exists(), replaced);
    }
    std::fs::remove_file(&path).unwrap();
}
