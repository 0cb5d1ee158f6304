//! Deaths by overflow: each case runs in a child process, this test binary again, and its last words are read.
#![cfg(feature = "green")]
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use twistlet::greenlet::{Greenlet, Value};

/// Runs `case` of this binary in a child, with an environment variable set.
fn child(case: &str, guard: &str) -> Output {
    Command::new(std::env::current_exe().expect("the path of this test"))
        .args(["--exact", "in_the_child", "--nocapture", "--test-threads=1"])
        .env("TWISTLET_CASE", case)
        .env("TWISTLET_GUARD", guard)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("a child process")
}
fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[inline(never)]
fn dive(depth: u64) -> u64 {
    let page = [depth; 64];
    if depth == 0 { 0 } else { dive(std::hint::black_box(depth - 1)) + std::hint::black_box(page)[3] }
}

fn green(size: usize) {
    let g = Greenlet::with_stack_size(size, |_| {
        let depth = dive(u64::MAX);
        Ok(Box::new(depth) as Value)
    });
    let _ = g.switch(());
}

/// An address that is nobody's.
fn fault() {
    // SAFETY: none: the fault is what is tested, in a process of its own.
    unsafe { std::ptr::without_provenance_mut::<u8>(16).write_volatile(1) };
}

extern "C" fn with_info(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's siginfo; write and _exit are async-signal-safe.
    unsafe {
        let text: &[u8] = if (*info).si_addr() as usize == 16 && signal == libc::SIGSEGV {
            b"application's handler, address 16\n"
        } else {
            b"application's handler, something else\n"
        };
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::_exit(77);
    }
}
extern "C" fn plain(_: i32) {
    let text = b"application's plain handler\n";
    // SAFETY: async-signal-safe.
    unsafe {
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::_exit(78);
    }
}
fn install(handler: usize, flags: i32) {
    // SAFETY: a valid action.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()), 0);
    }
}
fn use_a_greenlet() {
    Greenlet::new(Ok).switch(()).expect("a switch");
}

/// What a child does; nothing when the tests run.
#[test]
fn in_the_child() {
    let Ok(case) = std::env::var("TWISTLET_CASE") else { return };
    // SAFETY: no core files of these deaths.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 }) };
    match case.as_str() {
        "green" => green(64 << 10),
        "green, default size" => green(256 << 10),
        "green, smallest" => green(1),
        "green, second slab neighbour" => {
            let others: Vec<_> = (0..100)
                .map(|_| {
                    let g = Greenlet::new(|_| Greenlet::current().parent().expect("main").switch(()));
                    g.switch(()).expect("a switch");
                    g
                })
                .collect();
            green(256 << 10);
            drop(others);
        }
        "native" => {
            use_a_greenlet();
            dive(u64::MAX);
        }
        "foreign thread" => {
            extern "C" fn main(_: *mut libc::c_void) -> *mut libc::c_void {
                green(64 << 10);
                std::ptr::null_mut()
            }
            // SAFETY: a thread std knows nothing of, joined.
            unsafe {
                let mut thread = std::mem::zeroed();
                libc::pthread_create(&mut thread, std::ptr::null(), main, std::ptr::null_mut());
                libc::pthread_join(thread, std::ptr::null_mut());
            }
        }
        "fault, application's" => {
            install(with_info as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
            use_a_greenlet();
            fault();
        }
        "fault, application's plain" => {
            install(plain as *const () as usize, 0);
            use_a_greenlet();
            fault();
        }
        "fault on a greenlet, application's" => {
            install(with_info as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
            let _ = Greenlet::new(|_| {
                fault();
                Ok(Box::new(()) as Value)
            })
            .switch(());
        }
        "fault, std's" => {
            use_a_greenlet();
            fault();
        }
        "sent" => {
            // Not std's handler, which lets what is sent pass.
            install(libc::SIG_DFL, 0);
            use_a_greenlet();
            // SAFETY: kills this process.
            unsafe { libc::raise(libc::SIGSEGV) };
        }
        "ignored" => {
            install(libc::SIG_IGN, 0);
            use_a_greenlet();
            // SAFETY: ignored.
            unsafe { libc::raise(libc::SIGSEGV) };
            std::process::exit(79);
        }
        "too many mappings" => {
            let mut kept = Vec::new();
            loop {
                let g = Greenlet::with_stack_size(16 << 10, |_| Greenlet::current().parent().expect("main").switch(()));
                match g.switch(()) {
                    Ok(_) => kept.push(g),
                    Err(failure) => {
                        assert!(!g.is_started() && !g.is_dead());
                        eprintln!("after {}: {failure}", kept.len());
                        std::process::exit(if failure.is::<twistlet::greenlet::StackError>() { 80 } else { 81 });
                    }
                }
            }
        }
        "no address space" => {
            let limit = libc::rlimit { rlim_cur: 300 << 20, rlim_max: 300 << 20 };
            // SAFETY: of this process only.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
            let g = Greenlet::with_stack_size(1 << 30, Ok);
            eprintln!("{}", g.switch(()).expect_err("no room"));
            let g = Greenlet::with_stack_size(2 << 30, Ok);
            eprintln!("{}", g.switch(()).expect_err("too large"));
            use_a_greenlet();
            std::process::exit(82);
        }
        other => panic!("no case {other}"),
    }
}

/// By guard markers in page tables where the kernel has them, and by mprotect.
const GUARDS: [&str; 2] = ["", "mprotect"];

fn reported(case: &str, size: &str) {
    for guard in GUARDS {
        let output = child(case, guard);
        let words = words(&output);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{case} {guard}: {words}");
        assert!(words.contains(&format!("overflowed its {size} KiB stack; raise it")), "{case} {guard}: {words}");
    }
}

#[test]
fn an_overflow_says_whose_stack_and_how_large_and_aborts() {
    reported("green", "64");
    reported("green, default size", "256");
    reported("green, smallest", "16");
}
#[test]
fn an_overflow_does_not_reach_the_neighbours() {
    reported("green, second slab neighbour", "256");
}
#[test]
fn an_overflow_is_reported_on_a_thread_that_is_not_stds() {
    reported("foreign thread", "64");
}
#[test]
fn an_overflow_of_the_native_stack_is_reported_by_std() {
    let output = child("native", "");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    assert!(words(&output).contains("has overflowed its stack"), "{}", words(&output));
}
#[test]
fn other_faults_go_to_the_applications_handler() {
    for case in ["fault, application's", "fault on a greenlet, application's"] {
        let output = child(case, "");
        assert_eq!(output.status.code(), Some(77), "{}", words(&output));
        assert!(words(&output).contains("address 16"));
    }
    let output = child("fault, application's plain", "");
    assert_eq!(output.status.code(), Some(78), "{}", words(&output));
}
#[test]
fn other_faults_end_the_process_as_without_us() {
    for case in ["fault, std's", "sent"] {
        let output = child(case, "");
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{case}: {}", words(&output));
        assert!(!words(&output).contains("overflowed"), "{case}");
    }
}
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    assert_eq!(child("ignored", "").status.code(), Some(79));
}
#[test]
fn the_limit_of_mappings_is_an_error_with_a_name() {
    let output = child("too many mappings", "mprotect");
    assert_eq!(output.status.code(), Some(80), "{}", words(&output));
    assert!(words(&output).contains("raise vm.max_map_count"), "{}", words(&output));
}
#[test]
fn without_address_space_there_is_an_error_and_smaller_stacks_work() {
    let output = child("no address space", "");
    assert_eq!(output.status.code(), Some(82), "{}", words(&output));
    assert!(words(&output).contains("no address space") && words(&output).contains("more than the largest"));
}
