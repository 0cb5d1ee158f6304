//! More spawns than there is memory for, in a process of its own: what others do would be counted too.
#![cfg(feature = "green")]
use twistlet::green::{spawn_n, yield_now};

/// What this process has resident, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

#[test]
fn a_million_spawns_take_no_more_memory_than_those_that_wait_to_run() {
    // UA-33
    const WAITING: u32 = 5_000;
    let ran = std::rc::Rc::new(std::cell::Cell::new(0));
    let wave = || {
        for _ in 0..WAITING {
            let ran = std::rc::Rc::clone(&ran);
            spawn_n(move || ran.set(ran.get() + 1));
        }
        yield_now();
    };
    wave();
    let first = resident();
    for _ in 1..1_000_000 / WAITING {
        wave();
    }
    assert_eq!(ran.get(), 1_000_000);
    let last = resident();
    // A page a spawn would be 4 GB.
    assert!(last < first + 5_000, "{first} KiB after {WAITING}, {last} KiB after a million");
}
