//! `green::process`: real children, side by side with std's. Rules GM-10, GM-11, PR-37.
#![cfg(feature = "green")]
mod guard;
use guard::{guarded, in_callback, joined, panic_of};
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::green::os::unix::process::{CommandExt, ExitStatusExt};
use twistlet::green::process::{Child, ChildStdin, Command, Output, Stdio};
use twistlet::green::{GreenThread, sleep, spawn, with_timeout, yield_now};

const IN_CHILD: &str = "TWISTLET_TEST_CHILD";

/// Runs `f` in a process of its own, which is this one called again for the one test: what it counts are its own descriptors.
#[track_caller]
fn alone(test: &str, f: impl FnOnce() + Send + 'static) {
    if std::env::var_os(IN_CHILD).is_some() {
        return guarded(f);
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("a path"));
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(IN_CHILD, "1");
    let output = child.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    print!("{text}");
}
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}
/// Whether the process is there, as a zombie or otherwise.
fn exists(id: u32) -> bool {
    std::path::Path::new(&format!("/proc/{id}")).exists()
}
#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < Duration::from_secs(8), "not in time: {what}");
        sleep(Duration::from_millis(1));
    }
}
fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}
fn std_sh(script: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]);
    command
}
fn piped(command: &mut Command) -> io::Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}
/// Counts how often it ran while others waited.
fn ticker() -> (Rc<Cell<u32>>, GreenThread<()>) {
    let ticks = Rc::new(Cell::new(0));
    let counted = ticks.clone();
    let thread = spawn(move || {
        while counted.get() < u32::MAX {
            sleep(Duration::from_millis(1));
            counted.set(counted.get() + 1);
        }
    });
    (ticks, thread)
}

#[test]
fn output_and_status_are_those_of_std() {
    guarded(|| {
        for script in [
            "echo out; echo err >&2",
            "exit 3",
            "kill -9 $$",
            "cat",
            "printf 'a\\0b'; echo \"$X\"; pwd",
            "read x; echo $?",
        ] {
            let ours: Output = sh(script).env("X", "y z").current_dir("/").output().expect("it runs");
            let theirs = std_sh(script).env("X", "y z").current_dir("/").output().expect("it runs");
            assert_eq!(ours, theirs, "{script}");
        }
        for script in ["exit 0", "exit 255", "kill -15 $$"] {
            assert_eq!(sh(script).status().expect("it runs"), std_sh(script).status().expect("it runs"), "{script}");
        }
        let missing = Command::new("/nonexistent/program").spawn().expect_err("nothing there");
        let std_missing = std::process::Command::new("/nonexistent/program").spawn().expect_err("nothing there");
        assert_eq!(missing.raw_os_error(), std_missing.raw_os_error());
        let (ours, theirs) = (Command::new("/etc/passwd").status(), std::process::Command::new("/etc/passwd").status());
        assert_eq!(ours.expect_err("no program").kind(), theirs.expect_err("no program").kind());
    });
}

#[test]
fn a_command_shows_what_it_was_told_as_std_does() {
    let mut ours = Command::new("ls");
    ours.arg("-l").args(["a", "b c"]).env("K", "V").envs([("A", "B")]).env_remove("PATH").current_dir("/tmp");
    let mut theirs = std::process::Command::new("ls");
    theirs.arg("-l").args(["a", "b c"]).env("K", "V").envs([("A", "B")]).env_remove("PATH").current_dir("/tmp");
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    assert_eq!(ours.get_program(), theirs.get_program());
    assert!(ours.get_args().eq(theirs.get_args()));
    assert!(ours.get_envs().eq(theirs.get_envs()));
    assert_eq!(ours.get_current_dir(), theirs.get_current_dir());
    assert_eq!(format!("{:?}", ours.into_std()), format!("{theirs:?}"));
}

#[test]
fn streams_that_were_set_stay_so_and_defaults_depend_on_the_call() {
    guarded(|| {
        let mut command = sh("echo out; echo err >&2");
        command.stdout(Stdio::null());
        let output = command.output().expect("it runs");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b"err\n"[..]));
        // After `output`, `spawn` inherits again.
        let mut command = sh("test ! -p /dev/stdout");
        let first = command.output().expect("it runs").status;
        let inherited = std_sh("test ! -p /dev/stdout").status().expect("it runs");
        assert!(!first.success());
        assert_eq!(command.status().expect("it runs"), inherited);
        assert!(command.spawn().expect("it runs").stdout.is_none());
    });
}

#[test]
fn an_environment_can_be_empty_and_a_name_of_its_own() {
    guarded(|| {
        let output = Command::new("/usr/bin/env").env_clear().env("ONLY", "1").output().expect("it runs");
        assert_eq!(output.stdout, b"ONLY=1\n");
        let output = sh("echo $0").output().expect("it runs");
        assert_eq!(output.stdout, b"sh\n");
        let output = Command::new("sh")
            .arg0("shell")
            .args(["-c", "tr '\\\\0' ' ' < /proc/$$/cmdline"])
            .output()
            .expect("it runs");
        assert!(output.stdout.starts_with(b"shell\0-c\0"), "{output:?}");
        let mut child = sh("kill -STOP $$; exit 5").process_group(0).spawn().expect("it runs");
        wait_until("it has stopped itself", || {
            std::fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok_and(|stat| stat.contains(") T "))
        });
        assert_eq!(child.try_wait().expect("ours"), None);
        assert_eq!(child.wait_timeout(Duration::from_millis(20)).expect("ours"), None);
        child.kill().expect("ours");
        assert_eq!(child.wait().expect("ours").signal(), Some(9));
    });
}

#[test]
fn waiting_holds_neither_the_loop_nor_anybody_else() {
    guarded(|| {
        let (ticks, ticker) = ticker();
        let status = sh("sleep 0.2; exit 4").status().expect("it runs");
        assert_eq!(status.code(), Some(4));
        assert!(ticks.get() > 40, "{}", ticks.get());
        ticker.kill();
    });
    joined(|reactor| {
        let (ticks, ticker) = ticker();
        spawn(move || {
            let output = sh("sleep 0.2; echo done").output().expect("it runs");
            assert_eq!(output.stdout, b"done\n");
            assert!(ticks.get() > 40, "{}", ticks.get());
            ticker.kill();
            reactor.stop()
        });
    });
}

#[test]
fn many_green_threads_wait_for_one_child() {
    guarded(|| {
        let mut child = sh("read x; exit 9").stdin(Stdio::piped()).spawn().expect("it runs");
        let waiters: Vec<_> = (0..20)
            .map(|_| {
                let ending = child.ending();
                spawn(move || Ok(ending.wait()?.code()))
            })
            .collect();
        let late = child.ending();
        assert_eq!(late.wait_timeout(Duration::from_millis(20)).expect("ours"), None);
        assert_eq!(late.wait_timeout(Duration::ZERO).expect("ours"), None);
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(b"go\n").expect("it reads");
        for waiter in waiters {
            assert_eq!(waiter.wait().expect("ours"), Some(9));
        }
        // Once known, it is known to all.
        assert_eq!(child.wait().expect("ours").code(), Some(9));
        assert_eq!(child.try_wait().expect("ours").and_then(|status| status.code()), Some(9));
        child.kill().expect("left alone");
        late.kill().expect("left alone");
    });
}

#[test]
fn waiting_closes_stdin_first_and_asking_does_not() {
    guarded(|| {
        let mut cat = piped(&mut Command::new("cat")).expect("it runs");
        yield_now();
        assert_eq!(cat.try_wait().expect("ours"), None);
        assert!(cat.stdin.is_some());
        assert!(cat.wait().expect("ours").success());
        assert!(cat.stdin.is_none());
        let cat = piped(&mut Command::new("cat")).expect("it runs");
        assert!(cat.wait_with_output().expect("ours").status.success());
    });
}

#[test]
fn pipes_carry_everything_both_ways_at_once() {
    guarded(|| {
        let mut cat = piped(&mut Command::new("cat")).expect("it runs");
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        let (mut stdin, copy) = (cat.stdin.take().expect("piped"), sent.clone());
        let writer = spawn(move || Ok(stdin.write_all(&copy)?));
        let mut back = Vec::new();
        cat.stdout.take().expect("piped").read_to_end(&mut back).expect("readable");
        writer.wait().expect("written");
        assert!(back == sent, "{} of {}", back.len(), sent.len());
        assert!(cat.wait().expect("ours").success());
    });
}

#[test]
fn much_output_on_both_pipes_at_once_is_read_whole() {
    let script = "i=0; while [ $i -lt 20 ]; do head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2; i=$((i+1)); done; \
                  head -c 1000000 /dev/zero >&2; echo end";
    guarded(move || {
        let output = sh(script).output().expect("it runs");
        assert!(output.status.success());
        assert_eq!((output.stdout.len(), output.stderr.len()), (2_000_004, 3_000_000));
        // One of them only.
        let child = sh("echo err >&2; echo out").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
        let output = child.wait_with_output().expect("ours");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b"err\n"[..]));
    });
}

#[test]
fn a_pipeline_gives_one_childs_output_to_the_next() {
    guarded(|| {
        let mut printf = Command::new("printf").arg("b\\na\\nb\\n").stdout(Stdio::piped()).spawn().expect("it runs");
        let out = printf.stdout.take().expect("piped");
        let mut sort = Command::new("sort").stdin(out).stdout(Stdio::piped()).spawn().expect("it runs");
        // One that was watched already, and used.
        let mut out = sort.stdout.take().expect("piped");
        let mut first = [0];
        out.read_exact(&mut first).expect("sorted");
        let uniq =
            Command::new("uniq").arg("-c").stdin(Stdio::from(out)).stdout(Stdio::piped()).spawn().expect("it runs");
        let output = uniq.wait_with_output().expect("ours");
        let lines: Vec<String> =
            String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!((first, lines.as_slice()), ([b'a'], &["1".to_owned(), "2 b".to_owned()][..]));
        assert!(sort.wait().expect("ours").success() && printf.wait().expect("ours").success());
    });
}

#[test]
fn a_closed_pipe_is_an_error_for_who_writes_and_the_end_for_who_reads() {
    guarded(|| {
        let mut child = piped(&mut sh("exec <&-; echo closed; read x < /dev/null; sleep 60")).expect("it runs");
        let mut stdout = child.stdout.take().expect("piped");
        let mut said = [0; 7];
        stdout.read_exact(&mut said).expect("said");
        let mut stdin = child.stdin.take().expect("piped");
        let error = stdin.write_all(&[0; 100_000]).expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        // Killed while somebody reads, it is the end of the stream (PRC-29, PR-37).
        let killer = child.ending();
        spawn(move || {
            sleep(Duration::from_millis(10));
            Ok(killer.kill()?)
        });
        let mut rest = Vec::new();
        // `sleep` has the pipe too.
        let read = with_timeout(Duration::from_millis(200), || stdout.read_to_end(&mut rest));
        assert!(read.is_err());
        assert_eq!(child.wait().expect("ours").signal(), Some(9));

        let mut child = piped(Command::new("sleep").arg("60")).expect("it runs");
        let killer = child.ending();
        spawn(move || {
            sleep(Duration::from_millis(10));
            Ok(killer.kill()?)
        });
        let mut stdout = child.stdout.take().expect("piped");
        assert_eq!(stdout.read(&mut [0; 10]).expect("the end"), 0);
        assert_eq!(stdout.read(&mut [0; 10]).expect("still the end"), 0);
        assert!(!child.ending().wait().expect("ours").success());
        assert_eq!(
            child.stdin.take().expect("piped").write(b"x").expect_err("it is dead").kind(),
            ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn a_kill_frees_who_waits_and_who_reads_and_leaves_the_child_alone() {
    guarded(|| {
        let mut child = piped(&mut sh("read x; echo \"$x\"; read x; exit 6")).expect("it runs");
        let (ending, stdout) = (child.ending(), Rc::new(child.stdout.take().expect("piped")));
        let waiter = spawn(move || Ok(ending.wait()?.code()));
        let reading = stdout.clone();
        let reader = spawn(move || Ok((&*reading).read(&mut [0; 10])?));
        yield_now();
        yield_now();
        // A second reader is told who is there.
        assert_eq!((&*stdout).read(&mut [0; 10]).expect_err("busy").kind(), ErrorKind::ResourceBusy);
        waiter.kill();
        reader.kill();
        assert!(waiter.wait().is_err() && reader.wait().is_err());
        let mut stdin: ChildStdin = child.stdin.take().expect("piped");
        stdin.write_all(b"hello\n").expect("it reads");
        let mut said = [0; 6];
        (&*stdout).read_exact(&mut said).expect("it says so");
        assert_eq!(&said, b"hello\n");
        drop(stdin);
        assert_eq!(child.wait().expect("ours").code(), Some(6));
        let late = with_timeout(Duration::from_millis(20), || sh("sleep 60").kill_on_drop(true).output().map(drop));
        assert!(late.is_err());
    });
}

#[test]
fn two_hundred_children_at_once() {
    guarded(|| {
        let mut starts: Vec<Duration> = (0..20)
            .map(|_| {
                let since = Instant::now();
                let child = Command::new("true").spawn();
                let took = since.elapsed();
                assert!(child.expect("it runs").wait().expect("ours").success());
                took
            })
            .collect();
        starts.sort();
        println!("spawn() holds the loop for: median {:?}, worst {:?}", starts[10], starts[19]);
        let since = Instant::now();
        let children: Vec<_> = (0..200)
            .map(|n| {
                spawn(move || {
                    let mut child = piped(&mut sh("read x; echo \"$x\"; exit $((x % 100))"))?;
                    writeln!(child.stdin.as_mut().expect("piped"), "{n}")?;
                    let mut said = String::new();
                    child.stdout.take().expect("piped").read_to_string(&mut said)?;
                    assert_eq!(said, format!("{n}\n"));
                    Ok(child.wait()?.code())
                })
            })
            .collect();
        for (n, child) in children.into_iter().enumerate() {
            assert_eq!(child.wait().expect("ours"), Some(n as i32 % 100));
        }
        println!("200 children: {:?}", since.elapsed());
    });
}

#[test]
fn the_end_of_a_child_is_heard_within_milliseconds() {
    guarded(|| {
        let mut delays: Vec<Duration> = (0..40)
            .map(|_| {
                let mut child = piped(&mut Command::new("cat")).expect("it runs");
                let ended = Rc::new(Cell::new(None));
                let (ending, noted) = (child.ending(), ended.clone());
                let waiter = spawn(move || {
                    ending.wait()?;
                    noted.set(Some(Instant::now()));
                    Ok(())
                });
                yield_now();
                // When the system says so itself: the end of the process closes the pipe.
                let mut stdout = child.stdout.take().expect("piped");
                drop(child.stdin.take());
                assert_eq!(stdout.read(&mut [0]).expect("the end"), 0);
                let closed = Instant::now();
                waiter.wait().expect("ours");
                ended.get().expect("noted").saturating_duration_since(closed)
            })
            .collect();
        delays.sort();
        println!("from the end of its output to the end of wait(): median {:?}, worst {:?}", delays[20], delays[39]);
        assert!(delays[20] < Duration::from_millis(5), "{delays:?}");
    });
}

#[test]
fn a_dropped_child_runs_on_and_leaves_no_zombie() {
    alone("a_dropped_child_runs_on_and_leaves_no_zombie", || {
        let file = std::env::temp_dir().join(format!("twistlet-dropped-{}", std::process::id()));
        let child = sh("read x; echo ran > \"$F\"").env("F", &file).stdin(Stdio::piped()).spawn();
        let mut child = child.expect("it runs");
        let (id, mut stdin) = (child.id(), child.stdin.take().expect("piped"));
        drop(child);
        sleep(Duration::from_millis(5));
        assert!(exists(id));
        stdin.write_all(b"go\n").expect("it reads");
        wait_until("it is reaped", || !exists(id));
        assert_eq!(std::fs::read_to_string(&file).expect("written"), "ran\n");
        std::fs::remove_file(&file).expect("there");

        let child = Command::new("sleep").arg("60").kill_on_drop(true).spawn().expect("it runs");
        let id = child.id();
        drop(child);
        wait_until("it is killed and reaped", || !exists(id));

        // Dropped where no loop is: the next start reaps it.
        let child = Command::new("true").spawn().expect("it runs");
        let id = child.id();
        std::thread::spawn(move || drop(child)).join().expect("no panic");
        wait_until("the sweep has it", || {
            drop(sh("").status());
            !exists(id)
        });
    });
}

#[test]
fn no_descriptor_and_no_zombie_is_left() {
    alone("no_descriptor_and_no_zombie_is_left", || {
        let work = || {
            for round in 0..5 {
                drop(sh("echo x; echo y >&2").output());
                let child = piped(&mut sh("sleep 0.01; exit 1")).expect("it runs");
                let ending = child.ending();
                let waiters: Vec<_> = (0..3)
                    .map(|_| {
                        let ending = ending.clone();
                        spawn(move || Ok(ending.wait()?.code()))
                    })
                    .collect();
                yield_now();
                if round % 2 == 0 {
                    waiters.into_iter().for_each(|waiter| waiter.kill());
                } else {
                    for waiter in waiters {
                        assert_eq!(waiter.wait().expect("ours"), Some(1));
                    }
                }
                let _ = with_timeout(Duration::from_millis(1), || ending.wait().map(drop));
                drop(ending.wait_timeout(Duration::from_millis(1)));
                drop((child, ending));
                let _ =
                    with_timeout(Duration::from_millis(2), || sh("echo x; echo y >&2; sleep 0.02").output().map(drop));
            }
            let children = format!("/proc/self/task/{}/children", std::process::id());
            let none_left = || {
                let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
                let all = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
                all.collect::<String>().trim().is_empty()
            };
            if std::path::Path::new(&children).exists() {
                wait_until("all are reaped", none_left);
            } else {
                sleep(Duration::from_millis(100));
            }
        };
        work();
        let before = descriptors();
        work();
        wait_until("as many descriptors as before", || descriptors() <= before);
    });
}

#[test]
fn killed_at_any_moment_nothing_is_left_and_the_next_works() {
    alone("killed_at_any_moment_nothing_is_left_and_the_next_works", || {
        let work = || {
            let mut cat = piped(Command::new("cat").kill_on_drop(true))?;
            let (mut stdin, mut stdout) = (cat.stdin.take(), cat.stdout.take());
            stdin.as_mut().expect("piped").write_all(b"over there")?;
            stdout.as_mut().expect("piped").read_exact(&mut [0; 10])?;
            drop((stdin, stdout));
            let ending = cat.ending();
            let other = spawn(move || Ok(ending.wait()?));
            assert!(cat.wait()?.success() && other.wait()?.success());
            let output = sh("head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2").kill_on_drop(true).output()?;
            assert_eq!((output.stdout.len(), output.stderr.len()), (100_000, 100_000));
            Ok(())
        };
        let round = |killed: bool| {
            let mut unhurt = 0;
            for step in 0..80 {
                let thread = spawn(work);
                sleep(Duration::from_micros(100 * step));
                if killed {
                    thread.kill();
                }
                match thread.wait() {
                    Ok(()) => unhurt += 1,
                    Err(failure) => assert!(failure.is::<twistlet::error::Killed>(), "{failure}"),
                }
            }
            unhurt
        };
        round(true);
        sleep(Duration::from_millis(20));
        let before = descriptors();
        assert!(round(true) < 80);
        assert_eq!(round(false), 80);
        wait_until("as many descriptors as before", || descriptors() <= before);
    });
}

#[test]
fn callbacks_may_start_and_kill_but_not_wait() {
    let (said, status) = in_callback(|| {
        let mut child = Command::new("sleep").arg("60").spawn().expect("it runs");
        assert_eq!(child.try_wait().expect("ours"), None);
        assert_eq!(child.wait_timeout(Duration::ZERO).expect("ours"), None);
        let said = panic_of(|| child.wait());
        child.kill().expect("ours");
        // std's own wait, for it ends at once.
        while child.try_wait().expect("ours").is_none() {
            std::thread::yield_now();
        }
        (said, child.wait().expect("known"))
    });
    assert!(said.contains("a blocking call in the main loop"), "{said}");
    assert_eq!(status.signal(), Some(9));
}

#[test]
fn after_the_end_of_the_reactor_waiting_holds_the_thread_as_in_std() {
    guarded(|| {
        let mut child = sh("sleep 0.05; exit 8").spawn().expect("it runs");
        sleep(Duration::ZERO);
        twistlet::Reactor::current().close();
        assert_eq!(child.wait_timeout(Duration::from_millis(1)).expect("ours"), None);
        assert_eq!(child.wait().expect("ours").code(), Some(8));
        assert_eq!(child.wait().expect("ours").code(), Some(8));
    });
}

#[test]
fn children_cross_threads_and_each_thread_may_wait() {
    guarded(|| {
        let mut child = sh("read x; exit 3").stdin(Stdio::piped()).spawn().expect("it runs");
        let stdin = child.stdin.take();
        let ending = child.ending();
        let elsewhere = std::thread::spawn(move || ending.wait().expect("ours").code());
        let ending = child.ending();
        let here = spawn(move || Ok(ending.wait()?.code()));
        sleep(Duration::from_millis(20));
        drop(stdin);
        assert_eq!(here.wait().expect("ours"), Some(3));
        assert_eq!(elsewhere.join().expect("no panic"), Some(3));
        let moved = std::thread::spawn(move || child.wait().expect("ours").code());
        assert_eq!(moved.join().expect("no panic"), Some(3));
    });
}
