//! Waiting and reaping without pidfds, which a program cannot ask for.
use super::reaper::WITHOUT;
use super::{Command, Stdio};
use crate::green::{sleep, spawn, yield_now};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The orphans are the process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn without_pidfds(test: impl FnOnce() + Send + 'static) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = std::thread::spawn(|| {
        WITHOUT.set(true);
        test();
    });
    assert!(thread.join().is_ok());
}
fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped());
    command
}

#[test]
fn without_pidfds_sigchld_tells_of_the_end() {
    without_pidfds(|| {
        let children: Vec<_> = (0..20)
            .map(|n| {
                spawn(move || {
                    let mut child = sh("read x; exit $x").spawn()?;
                    assert_eq!(child.ending().wait_timeout(Duration::from_millis(1 + n))?, None);
                    let others: Vec<_> = (0..2)
                        .map(|_| {
                            let ending = child.ending();
                            spawn(move || Ok(ending.wait()?.code()))
                        })
                        .collect();
                    yield_now();
                    writeln!(child.stdin.as_mut().expect("piped"), "{n}")?;
                    for other in others {
                        assert_eq!(other.wait()?, Some(n as i32));
                    }
                    Ok(child.wait()?.code())
                })
            })
            .collect();
        for (n, child) in children.into_iter().enumerate() {
            assert_eq!(child.wait().expect("ours"), Some(n as i32));
        }
        let since = Instant::now();
        assert!(sh("sleep 0.02").status().expect("it runs").success());
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    });
}

#[test]
fn without_pidfds_a_dropped_child_is_reaped_all_the_same() {
    without_pidfds(|| {
        sleep(Duration::ZERO);
        let mut child = sh("read x").spawn().expect("it runs");
        let (id, stdin) = (child.id(), child.stdin.take());
        drop(child);
        sleep(Duration::from_millis(5));
        let path = format!("/proc/{id}");
        assert!(std::path::Path::new(&path).exists());
        drop(stdin);
        let since = Instant::now();
        while std::path::Path::new(&path).exists() {
            assert!(since.elapsed() < Duration::from_secs(5), "a zombie stays");
            sleep(Duration::from_millis(1));
        }
    });
}
