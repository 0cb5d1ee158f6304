//! Asking name servers when the process has no descriptor left: said as what it is, and over when there are some again. In a
//! child process, since the limit is a process's.
mod nameserver;

use nameserver::{A, Asked, Line, NameServer};
use std::fs::File;
use std::io;
use std::process::Command;
use std::time::Duration;
use twistlet::testing::failure_result_of;
use twistlet::transport::dns::{Client, Config, DnsError, Record, RecordType};
use twistlet::transport::resolver::Resolver;
use twistlet::{ConnectError, Deferred, Failure, Reactor};

/// All descriptors that there are.
fn use_up() -> Vec<File> {
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    all
}
/// What it comes to, on a running reactor.
fn outcome<T: 'static>(reactor: Reactor, answer: Deferred<T>) -> Result<T, Failure> {
    let result = std::rc::Rc::new(std::cell::RefCell::new(None));
    let seen = result.clone();
    let _ = answer.add_both(move |outcome| {
        *seen.borrow_mut() = Some(outcome);
        reactor.stop()
    });
    reactor.run().expect("it runs");
    result.take().expect("it ended")
}
fn is_out_of_descriptors(failure: &Failure) -> bool {
    let Some(DnsError::NoSocket(why)) = failure.check() else { return false };
    let io = why.check::<io::Error>().and_then(io::Error::raw_os_error);
    let text = failure.to_string();
    io == Some(libc::EMFILE)
        || matches!(why.check(), Some(ConnectError::Os { code: libc::EMFILE, .. }))
        || text.contains("os error 24")
}

const CHILD: &str = "DNS_EXHAUSTION_CHILD";

// UA-26
#[test]
fn without_a_descriptor_for_its_socket_a_look_up_says_so() {
    if std::env::var_os(CHILD).is_some() {
        return exhaust();
    }
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "without_a_descriptor_for_its_socket_a_look_up_says_so", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn exhaust() {
    for stream in [false, true] {
        let reactor = Reactor::new().expect("a reactor");
        reactor.handle_signals(false);
        let server = NameServer::here(&reactor, |asked: &Asked, line: Line| {
            line.send(asked.reply().ip("x.test", [10, 0, 0, 1]))
        });
        let config = Config::new().server(server.at).timeout(Duration::from_secs(1)).tcp_only(stream);
        let client = Client::with_config(&reactor, config);
        let all = use_up();
        let look_up: Deferred<Vec<Record>> = client.lookup("x.test", RecordType(A));
        if stream {
            let failure = outcome(reactor, look_up).expect_err("nothing to ask with");
            assert!(is_out_of_descriptors(&failure), "{failure:?}");
            drop(all);
            continue;
        }
        let failure = failure_result_of(look_up);
        assert!(is_out_of_descriptors(&failure), "{failure:?}");
        let failure = failure_result_of(client.resolve("x.test"));
        assert!(
            matches!(failure.check(), Some(ConnectError::Failed(why)) if is_out_of_descriptors(why)),
            "{failure:?}"
        );
        drop(all);
        let records = outcome(reactor, client.lookup("x.test", RecordType(A))).expect("there are descriptors again");
        assert_eq!(records[0].data.ip(), Some([10, 0, 0, 1].into()));
    }
}
