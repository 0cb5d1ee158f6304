//! The same source, compiled twice: against std, and against its green mirror. Both must say the same.
#![cfg(feature = "green")]
mod guard;
use guard::guarded;
use std::path::PathBuf;
use twistlet::Reactor;
use twistlet::green::{spawn, thread};

mod with_std {
    include!("std_twice/program.rs");
}
mod with_green {
    use twistlet::green as std;
    include!("std_twice/program.rs");
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("twistlet-twice-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

// GM-01, GM-03
#[test]
fn the_same_program_says_the_same_on_std_and_on_green_threads() {
    guarded(|| {
        let (std_folder, main_folder, green_folder) = (folder("std"), folder("main"), folder("green"));
        let expected = with_std::run(&std_folder);
        assert!(expected.lines().count() > 50, "{expected}");
        // On MAIN, and in a green thread among others.
        assert_eq!(with_green::run(&main_folder), expected);
        let below = green_folder.clone();
        assert_eq!(spawn(move || Ok(with_green::run(&below))).wait().unwrap(), expected);
        // It ran on one OS thread, and has left nothing there.
        Reactor::current().close();
        for folder in [std_folder, main_folder, green_folder] {
            std::fs::remove_dir(folder).expect("it cleans up");
        }
    });
}

#[test]
fn the_mirror_made_no_os_threads_for_its_threads() {
    guarded(|| {
        let handles: Vec<_> = (0..100).map(|_| thread::spawn(|| std::thread::current().id())).collect();
        let here = std::thread::current().id();
        assert!(handles.into_iter().all(|handle| handle.join().unwrap() == here));
    });
}
