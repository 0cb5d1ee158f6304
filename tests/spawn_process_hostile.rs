//! Child processes under load and bad luck: other threads that open and close descriptors meanwhile, hundreds of megabytes, ends in
//! the middle of everything. Rules PRC-1, PRC-3, PRC-4, PRC-5, PRC-7.
mod rig;
use rig::{open_files, run};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use twistlet::transport::process::{ChildFd, Command, ExitReason, ProcessProtocol, ProcessRef, SpawnError};
use twistlet::{ConnectionClosed, Producer, Protocol, Reactor, TransportRef};

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// Runs the test in a process of its own, which is this one called again: what it counts is its own.
fn alone(test: &str, f: impl FnOnce()) {
    if std::env::var_os("TWISTLET_TEST_ALONE").is_some() {
        return f();
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("a path"));
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env("TWISTLET_TEST_ALONE", "1");
    let output = child.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A line of `/proc/self/status` in KiB.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|text| text.starts_with(line)).expect("there");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Children of this process, living or not waited for.
fn children() -> usize {
    let me = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").expect("Linux");
    let stats = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(&me)).count()
}

/// Nothing is to be heard of it.
struct Deaf;
impl ProcessProtocol for Deaf {}

/// Waits until `is` holds, without a loop of the reactor's.
#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

// PRC-3: whatever the numbers, also those that std's own pipe would have got.
#[test]
fn a_missing_program_is_an_error_whatever_descriptors_it_was_to_have() {
    alone("a_missing_program_is_an_error_whatever_descriptors_it_was_to_have", || {
        let reactor = Reactor::new().expect("a reactor");
        let before = open_files();
        let maps: Vec<Vec<i32>> = vec![
            (3..=20).collect(),
            (3..=60).step_by(2).collect(),
            vec![3],
            (0..40).map(|n| 100 - n).collect(),
            vec![5, 700],
            (6..=12).collect(),
        ];
        for map in maps {
            for program in ["/nonexistent/program", "/etc/passwd"] {
                let mut command = Command::new(program);
                for fd in &map {
                    command = command.child_fd(*fd, if fd % 2 == 0 { ChildFd::Read } else { ChildFd::Write });
                }
                let failure = reactor.spawn_process(Deaf, command).expect_err("it cannot be started");
                let kind = failure.check::<SpawnError>().expect("typed").kind();
                assert!(matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied), "{map:?}: {failure}");
                assert_eq!((open_files(), children()), (before, 0), "{map:?}");
            }
        }
        // No descriptor at all has such a number.
        for fd in [i32::MAX, 1 << 30, -1, i32::MIN] {
            for what in [ChildFd::Read, ChildFd::Null, ChildFd::Inherit] {
                let failure = reactor.spawn_process(Deaf, Command::new("true").child_fd(fd, what)).expect_err("no");
                assert!(failure.is::<SpawnError>(), "{fd}: {failure}");
            }
        }
        assert_eq!((open_files(), children()), (before, 0));
    });
}

// PRC-3: the pipe by which std's child tells of errors may get any number that another thread has just left.
#[test]
fn a_missing_program_is_an_error_also_while_other_threads_open_and_close_files() {
    alone("a_missing_program_is_an_error_also_while_other_threads_open_and_close_files", || {
        static OVER: AtomicBool = AtomicBool::new(false);
        let others: Vec<_> = (0..3)
            .map(|_| {
                std::thread::spawn(|| {
                    while !OVER.load(Ordering::Relaxed) {
                        let files: Vec<_> = (0..8).map(|_| File::open("/dev/null").expect("room")).collect();
                        drop(files);
                    }
                })
            })
            .collect();
        let reactor = Reactor::new().expect("a reactor");
        for n in 0..400 {
            let mut command = Command::new("/nonexistent/program");
            for fd in 3..=40 {
                command = command.child_fd(fd, ChildFd::Null);
            }
            match reactor.spawn_process(Deaf, command) {
                Ok(_) => panic!("start {n} of what is not there succeeded"),
                Err(failure) => {
                    let kind = failure.check::<SpawnError>().expect("typed").kind();
                    assert_eq!(kind, ErrorKind::NotFound, "start {n}: {failure}");
                }
            }
        }
        OVER.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

/// Counts what comes; stops the reactor at the end.
struct Count {
    bytes: Rc<Cell<usize>>,
    exited_at: Rc<Cell<Option<usize>>>,
    pauses: usize,
    reactor: Reactor,
}
impl ProcessProtocol for Count {
    fn out_received(&mut self, process: ProcessRef, data: &[u8]) {
        self.bytes.set(self.bytes.get() + data.len());
        if self.pauses > 0 {
            self.pauses -= 1;
            process.pause_producing();
            self.reactor.call_later(Duration::from_millis(5), move || process.resume_producing());
        }
    }
    fn process_exited(&mut self, _: ProcessRef, _: &ExitReason) {
        self.exited_at.set(Some(self.bytes.get()));
    }
    fn process_ended(&mut self, _: ProcessRef, reason: &ExitReason) {
        assert_eq!(*reason, ExitReason::Done);
        let _ = self.reactor.stop();
    }
}

// PRC-4: everything arrives, though the child is long gone, and no memory is spent on it.
#[test]
fn a_hundred_megabytes_of_output_arrive_whole_in_little_memory() {
    alone("a_hundred_megabytes_of_output_arrive_whole_in_little_memory", || {
        for (size, pauses) in [(100 << 20, 0), (100 << 20, 20), (65_536, 1), (65_536, 1), (1, 0)] {
            let (bytes, exited_at) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
            run(|reactor| {
                let count = Count { bytes: bytes.clone(), exited_at: exited_at.clone(), pauses, reactor };
                let command = sh(&format!("exec head -c {size} /dev/zero"));
                reactor.spawn_process(count, command).expect("it starts");
            });
            assert_eq!(bytes.get(), size);
            assert!(exited_at.get().is_some());
        }
        let peak = memory("VmHWM:");
        assert!(peak < 40 << 10, "{peak} KiB");
    });
}

/// Writes as long as it may.
struct Pump {
    process: ProcessRef,
    left: Rc<Cell<usize>>,
    paused: Rc<Cell<bool>>,
    reactor: Reactor,
}
fn pump_on(process: ProcessRef, left: &Rc<Cell<usize>>, paused: &Rc<Cell<bool>>, reactor: Reactor) {
    if paused.get() {
        return;
    }
    if left.get() == 0 {
        process.unregister_producer();
        return process.close_stdin();
    }
    let piece = left.get().min(16 << 10);
    left.set(left.get() - piece);
    process.write(vec![b'x'; piece]);
    let (left, paused) = (left.clone(), paused.clone());
    reactor.call_soon(move || pump_on(process, &left, &paused, reactor));
}
impl Producer for Pump {
    fn pause_producing(&mut self) {
        self.paused.set(true);
    }
    fn resume_producing(&mut self) {
        self.paused.set(false);
        pump_on(self.process, &self.left, &self.paused, self.reactor);
    }
    fn stop_producing(&mut self) {
        self.paused.set(true);
    }
}

// PRC-7: both pipes full at once, again and again.
#[test]
fn full_pipes_both_ways_neither_lock_up_nor_grow() {
    const SIZE: usize = 64 << 20;
    alone("full_pipes_both_ways_neither_lock_up_nor_grow", || {
        struct Both(Count);
        impl ProcessProtocol for Both {
            fn connection_made(&mut self, process: ProcessRef) {
                let (left, paused) = (Rc::new(Cell::new(SIZE)), Rc::new(Cell::new(false)));
                let reactor = self.0.reactor;
                process.register_producer(Pump { process, left: left.clone(), paused: paused.clone(), reactor });
                pump_on(process, &left, &paused, reactor);
            }
            fn out_received(&mut self, process: ProcessRef, data: &[u8]) {
                assert!(process.pipe(0).is_none_or(|pipe| pipe.unsent() < 1 << 20));
                self.0.out_received(process, data);
            }
            fn process_ended(&mut self, process: ProcessRef, reason: &ExitReason) {
                self.0.process_ended(process, reason);
            }
        }
        let bytes = Rc::new(Cell::new(0));
        run(|reactor| {
            let both = Both(Count { bytes: bytes.clone(), exited_at: Rc::default(), pauses: 100, reactor });
            reactor.spawn_process(both, "cat").expect("it starts");
        });
        assert_eq!(bytes.get(), SIZE);
        let peak = memory("VmHWM:");
        assert!(peak < 40 << 10, "{peak} KiB");
    });
}

/// Panics in the callbacks that its bits name.
struct Panics {
    where_: u32,
    left: Rc<Cell<usize>>,
    reactor: Reactor,
}
impl Panics {
    fn maybe(&self, bit: u32) {
        assert!(self.where_ & (1 << bit) == 0, "on purpose");
    }
}
impl ProcessProtocol for Panics {
    fn connection_made(&mut self, _: ProcessRef) {
        self.maybe(0);
    }
    fn child_data_received(&mut self, _: ProcessRef, _: i32, _: &[u8]) {
        self.maybe(1);
    }
    fn child_connection_lost(&mut self, _: ProcessRef, _: i32) {
        self.maybe(2);
    }
    fn process_exited(&mut self, _: ProcessRef, _: &ExitReason) {
        self.maybe(3);
    }
    fn process_ended(&mut self, _: ProcessRef, _: &ExitReason) {
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            let _ = self.reactor.stop();
        }
        self.maybe(4);
    }
}

// PRC-5
#[test]
fn five_hundred_children_leave_nothing_whatever_their_callbacks_do() {
    alone("five_hundred_children_leave_nothing_whatever_their_callbacks_do", || {
        std::panic::set_hook(Box::new(|_| {}));
        run(|reactor| reactor.call_soon(move || reactor.stop()));
        let before = open_files();
        for round in 0..10 {
            run(|reactor| {
                let left = Rc::new(Cell::new(50));
                for n in 0..50 {
                    let panics = Panics { where_: n + round, left: left.clone(), reactor };
                    let command = match n % 5 {
                        0 => Command::new("echo"),
                        1 => Command::new("cat"),
                        2 => sh("echo x; exec cat").child_fd(9, ChildFd::Read),
                        3 => sh("exec cat <&-"),
                        _ => Command::new("cat").terminal(24, 80),
                    };
                    let process = reactor.spawn_process(panics, command).expect("it starts");
                    match n % 3 {
                        0 => drop(process.kill()),
                        1 => drop(process.terminate(Duration::from_secs(1))),
                        _ if n % 5 == 4 => process.lose_connection(),
                        _ => process.close_stdin(),
                    }
                }
            });
            assert_eq!(open_files(), before, "round {round}");
        }
        assert_eq!(children(), 0);
    });
}

// PRC-5: the reactor ends, or crashes, in the middle; what had not ended is reaped all the same.
#[test]
fn the_end_of_the_reactor_midway_leaves_nothing() {
    alone("the_end_of_the_reactor_midway_leaves_nothing", || {
        run(|reactor| reactor.call_soon(move || reactor.stop()));
        let before = open_files();
        for round in 0..6 {
            let reactor = Reactor::new().expect("a reactor");
            reactor.handle_signals(false);
            for n in 0..20_u64 {
                let command = match n % 4 {
                    0 => Command::new("cat"),
                    1 => sh("exec head -c 10000000 /dev/zero"),
                    2 => Command::new("cat").terminal(24, 80).kill_at_end(true),
                    _ => Command::new("sleep").arg("100").kill_at_end(true),
                };
                let process = reactor.spawn_process(Deaf, command).expect("it starts");
                process.write(vec![0; 100_000]);
            }
            match round % 3 {
                0 => drop(reactor.call_later(Duration::from_millis(3), move || reactor.stop())),
                1 => drop(reactor.call_later(Duration::from_millis(3), move || reactor.crash())),
                _ => reactor.call_soon(move || reactor.close()),
            }
            reactor.run().expect("it runs");
            reactor.close();
            assert_eq!(open_files(), before, "round {round}");
        }
        until("all children have been reaped", || children() == 0);
    });
}

// PRC-1: no child has the pipes of another, or it would never hear of its end.
#[test]
fn two_reactors_start_children_at_once_and_none_has_the_pipes_of_another() {
    alone("two_reactors_start_children_at_once_and_none_has_the_pipes_of_another", || {
        let work = || {
            for _ in 0..10 {
                run(|reactor| {
                    let left = Rc::new(Cell::new(10));
                    for n in 0..10 {
                        let panics = Panics { where_: 0, left: left.clone(), reactor };
                        let command = Command::new("cat").child_fd(3 + n, ChildFd::Write).child_fd(20, ChildFd::Read);
                        let process = reactor.spawn_process(panics, command).expect("it starts");
                        process.write("x");
                        process.close_stdin();
                    }
                });
            }
        };
        let others = [std::thread::spawn(work), std::thread::spawn(work)];
        others.into_iter().for_each(|thread| thread.join().expect("all of them ended"));
        assert_eq!(children(), 0);
    });
}

// PRC-4, PRC-8: it has closed its pipes and lives, then it ends; and a grandchild has them though it is gone.
#[test]
fn pipes_and_process_end_apart_in_either_order() {
    #[derive(Clone)]
    struct Told(Rc<RefCell<Vec<String>>>, Reactor);
    impl ProcessProtocol for Told {
        fn child_connection_lost(&mut self, process: ProcessRef, fd: i32) {
            self.0.borrow_mut().push(format!("lost {fd}"));
            if self.0.borrow().len() == 3 && process.is_running() {
                process.write("to nobody");
                process.signal(twistlet::transport::process::Signal::USR1).expect("it lives");
            }
        }
        fn process_exited(&mut self, process: ProcessRef, _: &ExitReason) {
            self.0.borrow_mut().push("exited".to_owned());
            process.close_stdin();
        }
        fn process_ended(&mut self, _: ProcessRef, reason: &ExitReason) {
            self.0.borrow_mut().push(format!("{reason}"));
            let _ = self.1.stop();
        }
    }
    let told = |script: &str| {
        let log = Rc::default();
        run(|reactor| {
            reactor.spawn_process(Told(Rc::clone(&log), reactor), sh(script)).expect("it starts");
        });
        log.take()
    };
    let first = told("trap 'exit 5' USR1; exec <&- >&- 2>&-; while :; do sleep 0.01; done");
    assert_eq!(first[3..], ["exited", "the process exited with code 5"], "{first:?}");
    // What runs in the background has another standard input.
    let last = told("exec 3<&0; cat <&3 3<&- & exit 0");
    assert_eq!(last.first().map(String::as_str), Some("exited"), "{last:?}");
    assert_eq!(last.last().map(String::as_str), Some("the process exited with code 0"));
}

// END-8: a connection that was closed ends with its child, whoever has the pipes, and a panic leaves no child behind.
#[test]
fn a_connected_child_ends_with_its_connection_whatever_holds_its_pipes() {
    struct Closer {
        reactor: Reactor,
        at: &'static str,
        log: Rc<RefCell<Vec<&'static str>>>,
    }
    impl Closer {
        fn maybe(&self, at: &'static str, transport: TransportRef) {
            self.log.borrow_mut().push(at);
            if self.at == at {
                transport.lose_connection();
            }
            assert_ne!(self.at.strip_prefix("panic "), Some(at), "on purpose");
        }
    }
    impl Protocol for Closer {
        fn connection_made(&mut self, transport: TransportRef) {
            self.maybe("made", transport);
            let log = self.log.clone();
            if self.at == "later" {
                // Its process has been gone for a while.
                self.reactor.call_later(Duration::from_millis(300), move || {
                    log.borrow_mut().push("later");
                    transport.lose_connection();
                });
            }
        }
        fn data_received(&mut self, transport: TransportRef, _: &[u8]) {
            self.maybe("data", transport);
        }
        fn read_connection_lost(&mut self, transport: TransportRef) {
            self.maybe("read lost", transport);
        }
        fn write_connection_lost(&mut self, transport: TransportRef) {
            self.maybe("write lost", transport);
        }
        fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
            self.log.borrow_mut().push("lost");
        }
    }
    alone("a_connected_child_ends_with_its_connection_whatever_holds_its_pipes", || {
        let grandchild = "(trap '' HUP; exec sleep 15) & echo x; read line; exit 0";
        let gone = "(trap '' HUP; exec sleep 15) & echo x; exit 0";
        let stays = "echo x; exec <&- >&-; exec sleep 100";
        for (script, at) in [
            (grandchild, "data"),
            (gone, "later"),
            (stays, "panic data"),
            (stays, "panic write lost"),
            (stays, "panic read lost"),
            (stays, "panic made"),
        ] {
            let log = Rc::default();
            let reactor = Reactor::new().expect("a reactor");
            reactor.handle_signals(false);
            let closer = Closer { reactor, at, log: Rc::clone(&log) };
            let command = sh(script).grace(Duration::from_millis(20));
            let _ = reactor.connect_process(command, closer).add_both(|_: Result<_, twistlet::Failure>| ());
            let since = Instant::now();
            while !(log.borrow().contains(&"lost") && children() == 0) {
                assert!(since.elapsed() < Duration::from_secs(10), "{script} {at}: {:?}", log.borrow());
                reactor.call_later(Duration::from_millis(5), move || reactor.crash());
                reactor.run().expect("it runs");
            }
            assert_eq!(log.borrow().iter().filter(|told| **told == "lost").count(), 1);
            reactor.close();
        }
    });
}
