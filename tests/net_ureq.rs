//! ureq, a blocking HTTP client, unchanged on green sockets: many requests at once on one thread.
#![cfg(feature = "green")]
#[path = "../examples/shared/green_ureq.rs"]
mod green_ureq;
mod support;

use std::io::{Read, Write};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use support::{PATIENCE, read_head, serve};
use twistlet::Failure;
use twistlet::green::spawn;
use ureq::config::Config;

#[test]
fn fifty_requests_are_under_way_at_once() {
    const REQUESTS: usize = 50;
    // No answer before all requests are there: one after the other they would wait for ever.
    let all = Arc::new(Barrier::new(REQUESTS));
    let server = serve(move |mut stream| {
        let head = read_head(&mut stream);
        all.wait();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = path.repeat(2000);
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    });
    let agent = green_ureq::agent(Config::default());
    let tasks: Vec<_> = (0..REQUESTS)
        .map(|i| {
            let agent = agent.clone();
            spawn(move || {
                let mut answer = agent.get(format!("http://{server}/{i}")).call()?;
                Ok::<_, Failure>(answer.body_mut().read_to_string()?)
            })
        })
        .collect();
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), format!("/{i}").repeat(2000));
    }
}

#[test]
fn a_mute_server_times_the_request_out() {
    let server = serve(|mut stream| {
        read_head(&mut stream);
        let _ = stream.read(&mut [0; 1]);
    });
    let config = Config::builder().timeout_global(Some(Duration::from_millis(50))).build();
    let agent = green_ureq::agent(config);
    let start = Instant::now();
    let outcome = spawn(move || Ok(agent.get(format!("http://{server}/")).call().map(drop)?)).wait();
    assert!(matches!(outcome.unwrap_err().check(), Some(ureq::Error::Timeout(_))));
    assert!(start.elapsed() < PATIENCE);
}
