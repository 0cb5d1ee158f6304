//! Closing while the peer still sends: what was written before must reach it all the same.
mod rig;

use rig::{Countdown, Probe, dial, once, run, serve};
use std::io::{ErrorKind, Read, Write};

/// More than the sockets between the two hold.
const ANSWER: usize = 32 << 20;

#[test]
fn an_answer_reaches_a_client_that_is_still_sending() {
    run(|reactor| {
        let done = Countdown::new(reactor, 2);
        let (lost, heard) = (done.clone(), done);
        let server = Probe::new()
            .on_data(|transport, _| {
                transport.write(vec![b'x'; ANSWER]);
                transport.lose_connection();
            })
            .on_lost(move |_, _| lost.done());
        let at = serve(reactor, once(server));
        let client = move || -> std::io::Result<usize> {
            let mut stream = dial(at);
            stream.write_all(b"question")?;
            stream.peek(&mut [0])?;
            // The answer is coming and the server reads no more: its socket fills up.
            let chunk = [b'y'; 16 * 1024];
            stream.set_nonblocking(true)?;
            while stream.write(&chunk).is_ok() {}
            stream.set_nonblocking(false)?;
            let mut sending = stream.try_clone()?;
            let sender = std::thread::spawn(move || while sending.write_all(&chunk).is_ok() {});
            let mut received = 0;
            let mut buffer = vec![0; 64 * 1024];
            let outcome = loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break Ok(received),
                    Ok(n) => received += n,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
            };
            let _ = stream.shutdown(std::net::Shutdown::Both);
            sender.join().expect("it ends with the connection");
            outcome
        };
        reactor.defer_to_thread(move || Ok(client()?)).add_callback(move |received| {
            assert_eq!(received, ANSWER);
            heard.done();
        });
    });
}
