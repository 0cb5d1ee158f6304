//! The textbook's web server, ported by its path alone, under curl.
#![cfg(feature = "green")]
mod support;
use std::time::{Duration, Instant};
use support::{Program, curl, dial, exchange};

#[test]
fn curl_gets_the_pages() {
    let server = Program::example("std_port", &["127.0.0.1:0", "3"]);
    let at = server.address();
    for (path, status, words) in
        [("/", "200", "green thread"), ("/slow", "200", "half a second"), ("/x", "404", "Oops")]
    {
        let (code, page, errors) = curl(&["-w", "%{http_code}", &format!("http://{at}{path}")]);
        assert_eq!(code, Some(0), "{errors}");
        assert!(page.contains(words) && page.ends_with(status), "{path}: {page}");
    }
    let (status, output, errors) = server.finish();
    assert!(status.success(), "{errors}");
    assert_eq!(output.iter().filter(|line| line.contains("has answered")).count(), 3, "{output:?}");
}

#[test]
fn slow_pages_are_made_at_once_on_one_os_thread() {
    let server = Program::example("std_port", &["127.0.0.1:0", "51"]);
    let at = server.address();
    // One that says nothing holds up nobody either.
    let quiet = dial(at);
    let start = Instant::now();
    let clients: Vec<_> = (0..50)
        .map(|_| std::thread::spawn(move || exchange(at, b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")))
        .collect();
    for client in clients {
        assert!(client.join().unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    }
    assert!(start.elapsed() < Duration::from_secs(10), "one after the other would be 25 s: {:?}", start.elapsed());
    drop(quiet);
    let (status, _, errors) = server.finish();
    assert!(status.success(), "{errors}");
}

#[test]
fn usage_and_errors_are_said() {
    for args in [&[][..], &["nonsense"], &["127.0.0.1:0", "some"], &["127.0.0.1:0", "1", "more"]] {
        let (status, output, errors) = Program::example("std_port", args).finish();
        assert_eq!(status.code(), Some(2), "{args:?}");
        assert!(errors.contains("usage: std_port") && output.is_empty(), "{errors}");
    }
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let (status, _, errors) = Program::example("std_port", &[&taken]).finish();
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains(&taken), "{errors}");
}
