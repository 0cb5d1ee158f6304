//! `Reactor::spawn_process` over real children: what is told, in which order, and that nothing is left behind. Rules PRC-1 to PRC-8.
mod rig;
use rig::{Log, Slot, logged, open_files, run, watch_log};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::transport::process::{
    ChildFd, Command, ExitReason, ProcessError, ProcessProtocol, ProcessRef, Signal, SpawnError,
};
use twistlet::{Reactor, Shared};

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

type OnData = Box<dyn FnMut(ProcessRef, i32, &[u8])>;
type On = Box<dyn FnMut(ProcessRef)>;
type OnEnd = Box<dyn FnMut(ProcessRef, &ExitReason)>;

/// Records every event, and stops the reactor at the end.
#[derive(Default)]
struct Probe {
    log: Log,
    output: Rc<RefCell<Vec<u8>>>,
    errors: Rc<RefCell<Vec<u8>>>,
    made: Option<On>,
    data: Option<OnData>,
    lost: Option<Box<dyn FnMut(ProcessRef, i32)>>,
    exited: Option<OnEnd>,
    ended: Option<OnEnd>,
    stops: Option<Reactor>,
}
impl Probe {
    fn new(reactor: Reactor) -> Self {
        Probe { stops: Some(reactor), ..Probe::default() }
    }
    fn on_made(mut self, call: impl FnMut(ProcessRef) + 'static) -> Self {
        self.made = Some(Box::new(call));
        self
    }
    fn on_data(mut self, call: impl FnMut(ProcessRef, i32, &[u8]) + 'static) -> Self {
        self.data = Some(Box::new(call));
        self
    }
    fn on_lost(mut self, call: impl FnMut(ProcessRef, i32) + 'static) -> Self {
        self.lost = Some(Box::new(call));
        self
    }
    fn on_exited(mut self, call: impl FnMut(ProcessRef, &ExitReason) + 'static) -> Self {
        self.exited = Some(Box::new(call));
        self
    }
    fn on_ended(mut self, call: impl FnMut(ProcessRef, &ExitReason) + 'static) -> Self {
        self.ended = Some(Box::new(call));
        self
    }
    fn reasons(self, slot: &Slot<ExitReason>) -> Self {
        let slot = slot.clone();
        self.on_ended(move |_, reason| slot.set(*reason))
    }
}
impl ProcessProtocol for Probe {
    fn connection_made(&mut self, process: ProcessRef) {
        self.log.add("made");
        if let Some(call) = &mut self.made {
            call(process);
        }
    }
    fn child_data_received(&mut self, process: ProcessRef, fd: i32, data: &[u8]) {
        assert!(!data.is_empty());
        match fd {
            2 => self.errors.borrow_mut().extend_from_slice(data),
            _ => self.output.borrow_mut().extend_from_slice(data),
        }
        if let Some(call) = &mut self.data {
            call(process, fd, data);
        }
    }
    fn child_connection_lost(&mut self, process: ProcessRef, fd: i32) {
        self.log.add(format_args!("lost {fd}"));
        if let Some(call) = &mut self.lost {
            call(process, fd);
        }
    }
    fn process_exited(&mut self, process: ProcessRef, reason: &ExitReason) {
        self.log.add("exited");
        if let Some(call) = &mut self.exited {
            call(process, reason);
        }
    }
    fn process_ended(&mut self, process: ProcessRef, reason: &ExitReason) {
        self.log.add("ended");
        if let Some(call) = &mut self.ended {
            call(process, reason);
        }
        if let Some(reactor) = self.stops {
            let _ = reactor.stop();
        }
    }
}

/// Runs one child to its end: what was told, its output and errors, how it ended.
fn run_to_end(command: Command, set_up: impl FnOnce(Probe) -> Probe) -> (Vec<String>, String, String, ExitReason) {
    let (log, output, errors) = (Log::default(), Rc::default(), Rc::default());
    let reason = Slot::default();
    run(|reactor| {
        let probe =
            Probe { log: log.clone(), output: Rc::clone(&output), errors: Rc::clone(&errors), ..Probe::new(reactor) };
        let probe = set_up(probe.reasons(&reason));
        reactor.spawn_process(probe, command).expect("it starts");
    });
    let text = |bytes: &RefCell<Vec<u8>>| String::from_utf8_lossy(&bytes.borrow()).into_owned();
    (log.take(), text(&output), text(&errors), reason.get())
}

/// Children of this process that have ended and were not waited for.
fn zombies() -> usize {
    let me = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").expect("Linux");
    let stats = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
            fields.first() == Some(&"Z") && fields.get(1) == Some(&me.as_str())
        })
        .count()
}
fn exists(id: u32) -> bool {
    std::path::Path::new(&format!("/proc/{id}")).exists()
}

// PRC-2, PRC-4, PRC-7
#[test]
fn what_is_written_goes_through_the_child_and_comes_back() {
    let (log, output, errors, reason) = run_to_end(sh("tr a-z A-Z; echo done >&2"), |probe| {
        probe.on_made(|process| {
            process.write("hello ");
            process.write("world");
            process.close_stdin();
        })
    });
    assert_eq!((output.as_str(), errors.as_str()), ("HELLO WORLD", "done\n"));
    assert_eq!(reason, ExitReason::Done);
    assert_eq!((log.first().map(String::as_str), log.last().map(String::as_str)), (Some("made"), Some("ended")));
    for once in ["made", "lost 0", "lost 1", "lost 2", "exited", "ended"] {
        assert_eq!(log.iter().filter(|line| *line == once).count(), 1, "{once} in {log:?}");
    }
}

// PRC-2: nothing of the protocol runs inside spawn_process, not even when the child has ended at once.
#[test]
fn nothing_is_told_before_spawn_process_returns() {
    let log = Log::default();
    run(|reactor| {
        let probe = Probe { log: log.clone(), ..Probe::new(reactor) };
        let process = reactor.spawn_process(probe, "true").expect("it starts");
        while std::fs::read_to_string(format!("/proc/{}/stat", process.id().expect("not reaped")))
            .is_ok_and(|stat| !stat.contains(") Z"))
        {
            std::thread::yield_now();
        }
        assert!(log.all().is_empty());
    });
    assert_eq!(log.take().first().map(String::as_str), Some("made"));
}

// PRC-2: also from a call of the loop itself, whose turn dispatches before the next call is made.
#[test]
fn connection_made_is_first_also_for_a_child_started_in_a_callback() {
    for _ in 0..20 {
        let log = Log::default();
        run(|reactor| {
            let log = log.clone();
            reactor.call_soon(move || {
                let process =
                    reactor.spawn_process(Probe { log, ..Probe::new(reactor) }, sh("echo x")).expect("it starts");
                while !std::fs::read_to_string(format!("/proc/{}/stat", process.id().expect("not reaped")))
                    .is_ok_and(|stat| stat.contains(") Z"))
                {
                    std::thread::yield_now();
                }
            });
        });
        assert_eq!(log.take().first().map(String::as_str), Some("made"));
    }
}

// PRC-3
#[test]
fn a_missing_program_is_a_typed_error_of_the_call() {
    run(|reactor| {
        let before = open_files();
        let failure = reactor.spawn_process(Probe::new(reactor), "/nonexistent/program").expect_err("nothing there");
        let error = failure.check::<SpawnError>().expect("a SpawnError");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("cannot start /nonexistent/program: "), "{error}");
        let denied = reactor.spawn_process(Probe::new(reactor), "/etc/passwd").expect_err("no program");
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
        let nowhere = reactor.spawn_process(Probe::new(reactor), Command::new("true").current_dir("/nonexistent"));
        assert_eq!(nowhere.expect_err("no folder").kind(), std::io::ErrorKind::NotFound);
        let _ = (before, reactor.call_soon(move || reactor.stop()));
    });
}

// PRC-5
#[test]
fn the_reason_says_code_or_signal() {
    let reason = |script: &str| run_to_end(sh(script), |probe| probe).3;
    assert_eq!(reason("exit 0"), ExitReason::Done);
    assert_eq!(reason("exit 7"), ExitReason::Failed { code: 7 });
    let killed = reason("kill -KILL $$");
    assert_eq!(killed.signal(), Some(Signal::KILL));
    assert_eq!(killed.to_string(), "the process was ended by SIGKILL");
    assert_eq!((killed.code(), killed.status().map(|status| status.success())), (None, Some(false)));
}

// PRC-1
#[test]
fn the_environment_is_inherited_changed_or_empty_as_asked() {
    let env = |command: Command| run_to_end(command, |probe| probe).1;
    assert!(env(Command::new("env")).contains("PATH="));
    assert_eq!(env(Command::new("/usr/bin/env").env_clear().env("A", "b c")), "A=b c\n");
    assert_eq!(env(sh("pwd").current_dir("/usr")), "/usr\n");
    assert_eq!(env(Command::new("sh").arg0("me").args(["-c", "echo $0"])), "me\n");
}

// PRC-1: descriptors that somebody opened without CLOEXEC, and those of the pipes themselves.
#[test]
fn the_child_has_its_own_descriptors_and_no_others() {
    let opens = ["sh", "-c", "exec 8</dev/null 9</dev/null; exec \"$@\"", "sh"];
    alone_by(&opens, "the_child_has_its_own_descriptors_and_no_others", || {
        let list = "ls /proc/self/fd | sort -n | tr '\\n' ' '";
        let inherited = std::process::Command::new("sh").args(["-c", list]).output().expect("it runs");
        // 3 is ls's own, of the folder.
        assert!(String::from_utf8_lossy(&inherited.stdout).starts_with("0 1 2 3 8 9 "));
        let (_, output, ..) = run_to_end(sh(list), |probe| probe);
        assert_eq!(output.trim(), "0 1 2 3");
        let (_, output, ..) = run_to_end(sh(list).child_fd(9, ChildFd::Write), |probe| probe);
        assert_eq!(output.trim(), "0 1 2 3 9");
        let what = "readlink /proc/self/fd/0 /proc/self/fd/2";
        let (_, output, ..) = run_to_end(sh(what).no_child_fds().child_fd(1, ChildFd::Read), |probe| probe);
        assert_eq!(output, "/dev/null\n/dev/null\n");
    });
}

// PRC-1, PRC-7: any numbers, both directions, and a descriptor that is given away.
#[test]
fn any_descriptor_of_the_child_can_be_a_pipe() {
    let by_fd: Rc<RefCell<std::collections::BTreeMap<i32, String>>> = Rc::default();
    let heard = by_fd.clone();
    let file = std::fs::File::open("/etc/hostname").expect("there");
    let command = sh("cat <&3 >&5; echo nine >&9; cat <&7 >&1; sed s/x/y/ /proc/self/fd/12 >&2")
        .child_fd(3, ChildFd::Write)
        .child_fd(5, ChildFd::Read)
        .child_fd(9, ChildFd::Read)
        .child_fd(12, ChildFd::Write)
        .child_fd(7, file);
    let (log, ..) = run_to_end(command, |probe| {
        probe
            .on_made(|process| {
                process.write_to_child(3, "three").expect("a pipe");
                process.close_child_fd(3).expect("a pipe");
                process.write_to_child(12, "x\n").expect("a pipe");
                process.close_child_fd(12).expect("a pipe");
                assert_eq!(process.write_to_child(5, "no"), Err(ProcessError::NoSuchPipe { fd: 5 }));
                assert_eq!(process.write_to_child(4, "no"), Err(ProcessError::NoSuchPipe { fd: 4 }));
                assert_eq!(process.close_child_fd(4), Err(ProcessError::NoSuchPipe { fd: 4 }));
                assert!(process.pipe(9).is_some_and(|pipe| pipe.is_connected()));
            })
            .on_data(move |_, fd, data| {
                *heard.borrow_mut().entry(fd).or_default() += &String::from_utf8_lossy(data);
            })
    });
    let hostname = std::fs::read_to_string("/etc/hostname").expect("there");
    let expected = [(1, hostname), (2, "y\n".into()), (5, "three".into()), (9, "nine\n".into())].into();
    assert_eq!(*by_fd.borrow(), expected);
    assert_eq!(log.iter().filter(|line| line.starts_with("lost")).count(), 7, "{log:?}");
}

// PRC-1: ignored signals are not inherited, the mask is what was asked for.
#[test]
fn signals_are_as_asked_for_and_not_as_here() {
    alone_by(&["nohup"], "signals_are_as_asked_for_and_not_as_here", || {
        let ignored = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("Linux");
            // 32 and 33 are the C library's own.
            u64::from_str_radix(line, 16).expect("hexadecimal") & !(3 << 31)
        };
        let hup = 1u64 << (Signal::HUP.number() - 1);
        assert_ne!(ignored(&std::fs::read_to_string("/proc/self/status").expect("Linux")) & hup, 0);
        let status = sh("exec cat /proc/self/status").block_signals([Signal::USR1]);
        let (_, output, ..) = run_to_end(status, |probe| probe);
        assert_eq!(ignored(&output), 0);
        let usr1 = format!("SigBlk:\t{:016x}\n", 1u64 << (Signal::USR1.number() - 1));
        assert!(output.contains(&usr1), "{output}");
    });
}

// PRC-6
#[test]
fn signals_reach_a_running_child_and_are_refused_by_one_that_has_exited() {
    let (_, output, _, reason) =
        run_to_end(sh("trap 'echo hup; exit 4' HUP; echo ready; while :; do sleep 0.01; done"), |probe| {
            let mut sent = false;
            probe
                .on_data(move |process, _, _| {
                    if !std::mem::replace(&mut sent, true) {
                        process.signal("HUP".parse::<Signal>().expect("known")).expect("it runs");
                    }
                })
                .on_exited(|process, _| {
                    assert_eq!(process.signal(Signal::TERM), Err(ProcessError::ExitedAlready));
                    assert_eq!((process.id(), process.is_running()), (None, false));
                    assert_eq!(process.exit_reason(), Some(ExitReason::Failed { code: 4 }));
                })
        });
    assert_eq!((output.as_str(), reason), ("ready\nhup\n", ExitReason::Failed { code: 4 }));
    assert_eq!("SIGNOPE".parse::<Signal>(), Err(ProcessError::UnknownSignal { text: "SIGNOPE".into() }));
    run(|reactor| {
        let process = reactor.spawn_process(Probe::new(reactor), "cat").expect("it starts");
        assert!(matches!(process.signal(4711), Err(ProcessError::Refused { .. })));
        process.kill().expect("it runs");
    });
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_after_the_grace() {
    let (_, output, _, reason) = run_to_end(sh("trap '' TERM; echo ready; while :; do sleep 0.01; done"), |probe| {
        probe.on_data(|process, _, _| process.terminate(Duration::from_millis(50)).expect("it runs"))
    });
    assert_eq!((output.as_str(), reason.signal()), ("ready\n", Some(Signal::KILL)));
    // And one that does not is not.
    let (.., reason) = run_to_end(sh("echo ready; exec sleep 60"), |probe| {
        probe.on_data(|process, _, _| process.terminate(Duration::from_secs(60)).expect("it runs"))
    });
    assert_eq!(reason.signal(), Some(Signal::TERM));
}

// PRC-8
#[test]
fn a_child_that_closes_its_stdin_and_lives_on_is_noticed() {
    let log = Log::default();
    run(|reactor| {
        let probe = Probe { log: log.clone(), ..Probe::new(reactor) };
        let seen = log.clone();
        let probe = probe.on_lost(move |process, fd| {
            if fd == 0 {
                seen.add(if process.is_running() { "and runs" } else { "and is gone" });
                process.write("into nothing");
                process.kill().expect("it runs");
            }
        });
        reactor.spawn_process(probe, sh("exec 0<&-; exec sleep 60")).expect("it starts");
    });
    assert_eq!(log.take()[..3], ["made", "lost 0", "and runs"]);
}

// PRC-4: what keeps the pipes open after the exit holds the end back.
#[test]
fn a_grandchild_with_the_pipes_delays_the_end_and_not_the_exit() {
    let (log, output, _, reason) = run_to_end(
        sh("(read x; echo late) & exit 5").child_fd(0, ChildFd::Null).child_fd(3, ChildFd::Write),
        |probe| {
            probe.on_exited(|process, _| {
                process.write_to_child(3, "go\n").expect("a pipe");
            })
        },
    );
    // In the background stdin is /dev/null, so the grandchild does not wait; its line may come before the exit is seen.
    assert_eq!((output.as_str(), reason), ("late\n", ExitReason::Failed { code: 5 }));
    assert_eq!(log.last().map(String::as_str), Some("ended"));
    let (log, output, ..) = run_to_end(sh("(read x <&3; echo late) & exit 5").child_fd(3, ChildFd::Write), |probe| {
        probe.on_exited(|process, _| process.write_to_child(3, "go\n").expect("a pipe"))
    });
    assert_eq!(output, "late\n");
    let place = |what: &str| log.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what} in {log:?}"));
    assert!(place("exited") < place("lost 1") && place("lost 1") < place("ended"), "{log:?}");
}

// PRC-5, R2
#[test]
fn panics_are_logged_and_the_rest_is_told_all_the_same() {
    watch_log();
    let log = Log::default();
    run(|reactor| {
        let ended = Rc::new(Cell::new(false));
        let probe = Probe { log: log.clone(), ..Probe::new(reactor) }
            .on_lost(|_, fd| panic!("lost {fd}"))
            .on_exited(|_, _| panic!("exited"));
        let process = reactor.spawn_process(probe, sh("echo x")).expect("it starts");
        let _ = process.when_ended().add_callback(move |_| ended.set(true));
    });
    let mut told = log.take();
    told.sort();
    assert_eq!(told, ["ended", "exited", "lost 0", "lost 1", "lost 2", "made"]);
    assert_eq!(logged().len(), 4);
    // With data, it loses the pipes, and is told so.
    let (log, _, _, reason) = run_to_end(sh("echo x; exec cat"), |probe| probe.on_data(|_, _, _| panic!("data")));
    assert_eq!((reason, log.last().map(String::as_str)), (ExitReason::Done, Some("ended")));
    assert_eq!(logged().len(), 1);
    let (log, ..) = run_to_end(Command::new("cat"), |probe| probe.on_made(|_| panic!("made")));
    assert_eq!(log.last().map(String::as_str), Some("ended"));
    assert_eq!(logged().len(), 1);
}

// Full pipe buffers both ways, with a child that reads and writes at once.
#[test]
fn a_megabyte_each_way_arrives_whole() {
    let data: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = data.clone();
    let output: Rc<RefCell<Vec<u8>>> = Rc::default();
    run(|reactor| {
        let probe = Probe { output: output.clone(), ..Probe::new(reactor) }.on_made(move |process| {
            process.write(&sent);
            assert!(process.pipe(0).is_some_and(|stdin| stdin.unsent() > 0));
            process.close_stdin();
        });
        reactor.spawn_process(probe, "cat").expect("it starts");
    });
    assert!(*output.borrow() == data, "{} bytes", output.borrow().len());
}

// A child that does not read: its producer is paused, so that memory stays bounded.
#[test]
fn a_producer_is_held_back_by_a_child_that_does_not_read() {
    struct Flood(ProcessRef, Rc<Cell<usize>>, Log);
    impl twistlet::Producer for Flood {
        fn pause_producing(&mut self) {
            self.2.add("pause");
        }
        fn resume_producing(&mut self) {
            self.2.add("resume");
            self.1.set(self.1.get() + 1);
            self.0.write([b'x'; 200_000]);
            if self.1.get() == 5 {
                self.0.unregister_producer();
                self.0.close_stdin();
            }
        }
        fn stop_producing(&mut self) {
            self.2.add("stop");
        }
    }
    let (log, written) = (Log::default(), Rc::new(Cell::new(0)));
    let (seen, count) = (log.clone(), written.clone());
    let (_, output, ..) = run_to_end(sh("read go <&3; wc -c").child_fd(3, ChildFd::Write), move |probe| {
        probe.on_made(move |process| {
            process.register_producer(Flood(process, count.clone(), seen.clone()));
            process.write([b'x'; 200_000]);
            let seen = seen.clone();
            process.pipe(3).expect("a pipe").call_later(Duration::from_millis(50), move || {
                assert_eq!(seen.all(), ["pause"]);
                process.write_to_child(3, "go\n").expect("a pipe");
            });
        })
    });
    assert_eq!((output.trim(), written.get()), ("1200000", 5));
    assert!(!log.contains("stop"));
}

// PRC-7
#[test]
fn paused_readers_get_nothing_until_they_are_resumed() {
    let paused = Rc::new(Cell::new(true));
    let (state, resumed) = (paused.clone(), paused.clone());
    let (_, output, errors, _) = run_to_end(sh("echo out; echo err >&2"), |probe| {
        probe
            .on_made(move |process| {
                process.pause_producing();
                let resumed = resumed.clone();
                Reactor::current().call_later(Duration::from_millis(50), move || {
                    resumed.set(false);
                    process.resume_producing();
                });
            })
            .on_data(move |_, _, _| assert!(!state.get()))
            .on_lost(|_, _| {})
    });
    assert!(!paused.get() && (output.as_str(), errors.as_str()) == ("out\n", "err\n"));
}

// PRC-7
#[test]
fn lose_connection_closes_the_standard_pipes_and_leaves_the_child_alone() {
    let (log, _, _, reason) = run_to_end(sh("cat; echo $? >&2; exit 6"), |probe| {
        probe.on_made(|process| {
            process.write("flushed");
            process.lose_connection();
        })
    });
    assert_eq!(log.last().map(String::as_str), Some("ended"));
    // `echo` finds nobody who reads.
    assert!(matches!(reason, ExitReason::Failed { .. } | ExitReason::Killed { .. }), "{reason:?}");
}

#[test]
fn a_shared_protocol_can_be_called_from_outside() {
    let shared = Shared::new(Probe::default());
    run(|reactor| {
        shared.borrow().stops = Some(reactor);
        reactor.spawn_process(shared.clone(), sh("echo hello")).expect("it starts");
    });
    assert_eq!(*shared.borrow().output.borrow(), b"hello\n");
    assert_eq!(shared.borrow().log.all().last().map(String::as_str), Some("ended"));
}

/// Runs the test in a process of its own, which is this one called again: what it counts is its own.
fn alone(test: &str, f: impl FnOnce()) {
    alone_by(&[], test, f);
}
/// As `alone`, started by another program.
fn alone_by(starter: &[&str], test: &str, f: impl FnOnce()) {
    if std::env::var_os("TWISTLET_TEST_ALONE").is_some() {
        return f();
    }
    let me = std::env::current_exe().expect("a path").to_string_lossy().into_owned();
    let words = [starter, &[&me, test, "--exact", "--nocapture", "--test-threads=1"]].concat();
    let mut child = std::process::Command::new(words[0]);
    child.args(&words[1..]).env("TWISTLET_TEST_ALONE", "1");
    let output = child.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn neither_descriptors_nor_zombies_are_left() {
    alone("neither_descriptors_nor_zombies_are_left", || {
        run(|reactor| reactor.call_soon(move || reactor.stop()));
        let before = open_files();
        for _ in 0..3 {
            run(|reactor| {
                let left = Rc::new(Cell::new(20));
                for n in 0..20 {
                    let left = left.clone();
                    let probe = Probe::default().on_ended(move |_, _| {
                        left.set(left.get() - 1);
                        if left.get() == 0 {
                            let _ = reactor.stop();
                        }
                    });
                    let script = ["echo x", "exit 1", "kill -9 $$", "exec cat >&-"][n % 4];
                    let process =
                        reactor.spawn_process(probe, sh(script).child_fd(7, ChildFd::Read)).expect("it starts");
                    process.close_stdin();
                }
                let _ = reactor.spawn_process(Probe::default(), "/nonexistent").expect_err("nothing there");
                assert!(open_files() > before);
            });
            assert_eq!((open_files(), zombies()), (before, 0));
        }
    });
}

// The reactor ends first: the child runs on, is told of, and reaped when it ends.
#[test]
fn a_child_that_outlives_the_reactor_is_left_running_and_still_reaped() {
    alone("a_child_that_outlives_the_reactor_is_left_running_and_still_reaped", || {
        let (log, ids) = (Log::default(), Rc::new(RefCell::new(Vec::new())));
        let reason = Slot::default();
        run(|reactor| {
            let probe = Probe { log: log.clone(), ..Probe::default() }.reasons(&reason);
            let left = reactor.spawn_process(probe, sh("trap '' HUP PIPE; exec sleep 60")).expect("it starts");
            let killed =
                reactor.spawn_process(Probe::default(), Command::new("cat").kill_at_end(true)).expect("it starts");
            ids.borrow_mut().extend([left.id().expect("it runs"), killed.id().expect("it runs")]);
            reactor.call_soon(move || reactor.stop());
        });
        let mut told = log.take();
        assert_eq!((told.first().map(String::as_str), told.last().map(String::as_str)), (Some("made"), Some("ended")));
        told.sort();
        assert_eq!(told, ["ended", "lost 0", "lost 1", "lost 2", "made"]);
        assert_eq!(reason.get(), ExitReason::Left);
        let [left, killed] = ids.borrow()[..] else { panic!("two") };
        let gone = |id| {
            let since = std::time::Instant::now();
            while exists(id) && since.elapsed() < rig::PATIENCE {
                std::thread::yield_now();
            }
            !exists(id)
        };
        assert!(gone(killed) && exists(left));
        std::process::Command::new("kill").arg(left.to_string()).status().expect("kill runs");
        assert!(gone(left));
        assert_eq!(zombies(), 0);
    });
}

// R1, R2: whatever a callback does to its own process, or a destructor, everybody is told once.
#[test]
fn callbacks_may_do_anything_to_their_own_process() {
    let told = Rc::new(RefCell::new(Vec::new()));
    run(|reactor| {
        struct Restless(Rc<RefCell<Vec<&'static str>>>, Reactor, u32, Option<ProcessRef>);
        impl Restless {
            fn meddle(&self, process: ProcessRef, what: &'static str) {
                self.0.borrow_mut().push(what);
                process.write("x");
                process.pause_producing();
                process.resume_producing();
                process.lose_connection();
                process.lose_connection();
                let _ = (process.kill(), process.terminate(Duration::ZERO), process.close_child_fd(1));
                let _ = process.pipe(0).map(|pipe| pipe.abort_connection());
            }
        }
        impl ProcessProtocol for Restless {
            fn connection_made(&mut self, process: ProcessRef) {
                self.meddle(process, "made");
            }
            fn child_connection_lost(&mut self, process: ProcessRef, _: i32) {
                self.meddle(process, "lost");
            }
            fn process_exited(&mut self, process: ProcessRef, _: &ExitReason) {
                self.meddle(process, "exited");
            }
            fn process_ended(&mut self, process: ProcessRef, _: &ExitReason) {
                self.meddle(process, "ended");
                self.3 = Some(process);
                if self.2 == 0 {
                    return drop(self.1.stop());
                }
                // The next, from inside of the last.
                let next = Restless(self.0.clone(), self.1, self.2 - 1, None);
                self.1.spawn_process(next, "cat").expect("it starts");
            }
        }
        impl Drop for Restless {
            fn drop(&mut self) {
                if let Some(process) = self.3 {
                    self.meddle(process, "dropped");
                    panic!("in a destructor");
                }
            }
        }
        reactor.spawn_process(Restless(told.clone(), reactor, 2, None), "cat").expect("it starts");
    });
    let told = told.borrow();
    for (what, times) in [("made", 3), ("lost", 9), ("exited", 3), ("ended", 3), ("dropped", 3)] {
        assert_eq!(told.iter().filter(|told| **told == what).count(), times, "{what} in {told:?}");
    }
}

#[test]
fn the_reactor_may_be_closed_in_a_callback_of_a_process() {
    let log = Log::default();
    let reactor = Reactor::new().expect("a reactor");
    let probe = Probe { log: log.clone(), ..Probe::default() }.on_data(move |_, _, _| reactor.close());
    reactor.spawn_process(probe, sh("echo x; exec cat")).expect("it starts");
    reactor.run().expect("it runs");
    assert_eq!(log.take().last().map(String::as_str), Some("ended"));
    let failure = reactor.spawn_process(Probe::default(), "true").expect_err("closed");
    assert!(failure.is::<twistlet::error::ReactorError>());
}

// No descriptors left: an error each time, and nothing lost when there are some again.
#[test]
fn want_of_descriptors_is_an_error_of_the_call() {
    let few = ["sh", "-c", "ulimit -n 24; exec \"$@\"", "sh"];
    alone_by(&few, "want_of_descriptors_is_an_error_of_the_call", || {
        run(|reactor| {
            let before = open_files();
            let mut started = Vec::new();
            let failure = loop {
                match reactor.spawn_process(Probe::default(), "cat") {
                    Ok(process) => started.push(process),
                    Err(failure) => break failure,
                }
            };
            assert!(failure.is::<SpawnError>() && started.len() > 1, "{failure}");
            let probe = Probe::new(reactor);
            let left = Rc::new(Cell::new(started.len()));
            let probe = Rc::new(RefCell::new(Some(probe)));
            for process in started {
                let (left, probe) = (left.clone(), probe.clone());
                process.close_stdin();
                let _ = process.when_ended().add_callback(move |reason| {
                    assert_eq!(reason, ExitReason::Done);
                    left.set(left.get() - 1);
                    if left.get() == 0 {
                        // Once the last is off the stack.
                        reactor.call_soon(move || {
                            assert_eq!(open_files(), before);
                            let probe = probe.take().expect("once");
                            reactor.spawn_process(probe, "true").expect("there is room again");
                        });
                    }
                });
            }
        });
        assert_eq!(zombies(), 0);
    });
}

// Somebody has it that children need not be waited for: their status is gone, and their end is told all the same.
#[test]
fn a_status_that_somebody_else_has_taken_is_unknown() {
    let ignoring = ["env", "--ignore-signal=CHLD"];
    alone_by(&ignoring, "a_status_that_somebody_else_has_taken_is_unknown", || {
        let (log, output, _, reason) = run_to_end(sh("echo x; exit 3"), |probe| probe);
        assert_eq!((output.as_str(), reason), ("x\n", ExitReason::Unknown));
        assert_eq!(log.last().map(String::as_str), Some("ended"));
    });
}
