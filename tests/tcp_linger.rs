//! Closing while the peer still sends: what was written before must reach it all the same.
mod rig;

use rig::{Countdown, Probe, once, run, serve};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const ANSWER: usize = 4 << 20;

#[test]
fn an_answer_reaches_a_client_that_is_still_sending() {
    run(|reactor| {
        let done = Countdown::new(reactor, 2);
        let (lost, heard) = (done.clone(), done);
        // Answers the first bytes and closes, with much of the answer unsent and more input to come.
        let server = Probe::new()
            .on_data(|transport, _| {
                transport.write(vec![b'x'; ANSWER]);
                transport.lose_connection();
            })
            .on_lost(move |_, _| lost.done());
        let at = serve(reactor, once(server));
        let client = move || -> std::io::Result<usize> {
            let mut stream = TcpStream::connect(at)?;
            stream.set_read_timeout(Some(rig::PATIENCE))?;
            let mut sending = stream.try_clone()?;
            let sender = std::thread::spawn(move || {
                let chunk = vec![b'y'; 64 * 1024];
                // Until the answer has been read, which shuts the connection down.
                while sending.write_all(&chunk).is_ok() {}
            });
            let (mut received, mut buffer) = (0, vec![0; 16 * 1024]);
            let outcome = loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break Ok(received),
                    Ok(n) => received += n,
                    Err(error) => break Err(error),
                }
                // A client that is slow, so that the answer waits in the server's socket.
                if received % (1 << 20) < buffer.len() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            };
            let _ = stream.shutdown(std::net::Shutdown::Both);
            sender.join().expect("the sender ends");
            outcome
        };
        reactor.defer_to_thread(move || Ok(client()?)).add_callback(move |received| {
            assert_eq!(received, ANSWER);
            heard.done();
        });
    });
}
