//! The console of a running program, spoken to by plain sockets of other threads (BD-01).
#![cfg(feature = "green")]
mod guard;

use guard::{guarded, logged};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use twistlet::error::{CannotListen, Killed};
use twistlet::green::backdoor::{self, Backdoor};
use twistlet::green::{Builder, block_on, debug, sleep, spawn, yield_now};
use twistlet::{Deferred, Failure, Reactor};

const LONG: Duration = Duration::from_secs(60);

/// Runs `talk` on an OS thread while the loop runs.
fn outside<T: Send + 'static>(talk: impl FnOnce() -> T + Send + 'static) -> T {
    block_on(Reactor::current().defer_to_thread(move || Ok(talk()))).unwrap()
}
/// Says it and hangs up its sending end; what comes back.
fn say(to: SocketAddr, text: &str) -> String {
    let text = text.to_owned();
    outside(move || {
        let mut client = TcpStream::connect(to).unwrap();
        client.write_all(text.as_bytes()).unwrap();
        let mut told = String::new();
        let _ = client.read_to_string(&mut told);
        told
    })
}
fn open() -> SocketAddr {
    backdoor::serve_tcp(0).unwrap().address().socket().unwrap()
}

#[test]
fn it_answers_commands_and_leaves_on_quit() {
    guarded(|| {
        let to = open();
        assert!(to.ip().is_loopback());
        let sleeper = Builder::default().name("sleeper").spawn(|| sleep(LONG));
        let told =
            say(to, "help\r\n\nlist\ntree\ntimers\ndescriptors\nstats\ndump\nnonsense\nlist 1\nlist x\nkill\nquit\n");
        for part in [
            "help tells what can be said here\n> ",
            "kill ID: kills a green thread\n",
            "green thread 'sleeper' waits for",
            "due in ",
            "a listening port at 127.0.0.1:",
            "green threads: 2 alive",
            "== thread '",
            "no command 'nonsense'",
            "and 2 more: list 3",
            "failed: invalid digit found in string",
            "failed: kill what?",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(told.ends_with("> bye\n"), "{told}");
        // Every answer ends with a prompt; an empty line is one too.
        assert_eq!(told.matches("> ").count(), 13, "{told}");
        sleeper.kill();
    });
}

#[test]
fn it_kills_by_number_others_and_its_own_connection() {
    guarded(|| {
        let to = open();
        let victim = Builder::default().name("victim").spawn(|| sleep(LONG));
        yield_now();
        let id = debug::green_threads().iter().find(|info| info.name.is_some()).unwrap().id;
        let told = say(to, &format!("kill 1\nkill #{id}\nkill {id}\nquit\n"));
        assert_eq!(
            (told.matches("> killed\n").count(), told.matches("> no such green thread\n").count()),
            (1, 2),
            "{told}"
        );
        assert!(victim.wait().unwrap_err().is::<Killed>());
        // The console's own green thread.
        let told = outside(move || {
            let mut client = BufReader::new(TcpStream::connect(to).unwrap());
            client.get_mut().write_all(b"list\n").unwrap();
            let mut line = String::new();
            while !line.contains("backdoor for") {
                line.clear();
                client.read_line(&mut line).unwrap();
            }
            let id = line.trim_start_matches("> ").split(' ').next().unwrap().to_owned();
            client.get_mut().write_all(format!("kill {id}\nstats\n").as_bytes()).unwrap();
            let mut rest = String::new();
            let _ = client.read_to_string(&mut rest);
            rest
        });
        assert!(!told.contains("turns"), "{told}");
        assert!(say(to, "quit\n").ends_with("bye\n"));
        assert!(logged().is_empty());
    });
}

#[test]
fn commands_of_the_program_may_wait_fail_and_panic() {
    guarded(|| {
        let port = Backdoor::new()
            .command("wait", "waits", |args, out| {
                sleep(Duration::from_millis(1));
                out.push_str(&args.join("+"));
            })
            .command("later", "a Deferred", |_, out| {
                out.push_str("later: ");
                Deferred::<()>::fail(Failure::msg("it failed"))
            })
            .command("panic", "panics", |_, _| -> Result<(), Failure> { panic!("in the command") })
            .command("stats", "in place of the built-in one", |_, out| out.push_str("mine"))
            .serve_tcp("127.0.0.1:0")
            .unwrap();
        let told = say(port.address().socket().unwrap(), "wait 1 2 3\nlater\npanic\nstats\nhelp\nquit\n");
        for part in
            ["1+2+3\n", "later: failed: it failed\n", "failed: panicked: in the command\n", "> mine\n", "wait waits\n"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
    });
}

// A client that disappears, one that says too much, one that is a browser, one too many.
#[test]
fn bad_clients_are_left_and_the_others_stay() {
    guarded(|| {
        let port = Backdoor::new().max_clients(2).serve_tcp(0).unwrap();
        let to = port.address().socket().unwrap();
        let told = say(to, &"x".repeat(100_000));
        assert!(!told.contains("no command"), "{told}");
        let told = say(to, "\u{0}\u{1}\nquit\n");
        assert!(told.contains("no command") && told.ends_with("bye\n"), "{told}");
        outside(move || {
            // Gone without a word, in the middle of a line, and with an answer on its way.
            drop(TcpStream::connect(to).unwrap());
            TcpStream::connect(to).unwrap().write_all(b"li").unwrap();
            TcpStream::connect(to).unwrap().write_all(b"dump\ndump\ndump\n").unwrap();
        });
        let told = say(to, "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nkill 2\n");
        assert!(!told.contains("no such"), "{told}");
        let told = outside(move || {
            let guests: Vec<_> = (0..2)
                .map(|_| {
                    let mut guest = BufReader::new(TcpStream::connect(to).unwrap());
                    guest.read_line(&mut String::new()).unwrap();
                    guest
                })
                .collect();
            let mut told = String::new();
            let _ = TcpStream::connect(to).unwrap().read_to_string(&mut told);
            for guest in guests {
                guest.get_ref().shutdown(Shutdown::Both).unwrap();
            }
            told
        });
        assert_eq!(told, "too many clients\n");
        // The places are free again, once the loop has heard that they left.
        while !say(to, "quit\n").ends_with("bye\n") {}
        let log = logged();
        assert!(log.len() == 1 && log[0].contains("spoke HTTP to a backdoor"), "{log:?}");
    });
}

// A client that asks and does not read holds up nobody.
#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    guarded(|| {
        let port = Backdoor::new().command("much", "much", |_, out| out.push_str(&"much ".repeat(100_000)));
        let to = port.serve_tcp(0).unwrap().address().socket().unwrap();
        let mute = outside(move || {
            let mut client = TcpStream::connect(to).unwrap();
            client.write_all(&b"much\n".repeat(50)).unwrap();
            client
        });
        assert!(say(to, "quit\n").ends_with("bye\n"));
        drop(mute);
    });
}

#[test]
fn other_machines_are_let_in_only_when_asked_for() {
    guarded(|| {
        for at in ["0.0.0.0:0", "[::]:0"] {
            let refused = backdoor::serve_tcp(at).unwrap_err();
            let why = refused.check::<CannotListen>().unwrap();
            assert_eq!(why.source.kind(), std::io::ErrorKind::PermissionDenied);
            assert!(refused.to_string().contains("allow_remote"), "{refused}");
        }
        assert!(backdoor::serve_tcp("no address").unwrap_err().kind() != std::io::ErrorKind::PermissionDenied);
        let open = Backdoor::new().allow_remote().serve_tcp(0).unwrap();
        assert!(open.address().socket().unwrap().ip().is_unspecified());
        block_on(open.stop_listening()).unwrap();
    });
}

#[test]
fn a_unix_socket_is_for_its_user_alone() {
    guarded(|| {
        let path = std::env::temp_dir().join(format!("twistlet-backdoor-{}", std::process::id()));
        let port = backdoor::serve_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let there = path.clone();
        let told = outside(move || {
            let mut client = UnixStream::connect(there).unwrap();
            client.write_all(b"watchdog on 5000\nwatchdog off\nwatchdog\nquit\n").unwrap();
            let mut told = String::new();
            client.read_to_string(&mut told).unwrap();
            told
        });
        assert_eq!(told.matches("> done\n").count(), 2, "{told}");
        assert!(told.contains("failed: say watchdog on MS"), "{told}");
        block_on(port.stop_listening()).unwrap();
        assert!(!path.exists());
        drop(spawn(|| ()));
    });
}
