//! cargo run --example founding
//!
//! The names of the document this crate was made from, "Eventlet on top of Twisted", in its order, each doing what the
//! document says of it. The document's own programs are examples of their own: `client`, `srv_connector`, `chat_server`,
//! `portforward`, `http_proxy`, `xcap_proxy`.
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;
use twistlet::error::{Killed, TimedOut};
use twistlet::green::net::TcpStream;
use twistlet::green::{self, Event, GreenClientCreator, Queue, Semaphore, SpawnFactory, block_on, proc, spawn};
use twistlet::greenlet::{Greenlet, GreenletExit};
use twistlet::protocols::{Chunks, Lines};
use twistlet::{Address, Failure, Reactor, Result};

/// "Utilities for spawning and controlling greenlet execution: api.spawn, api.kill, proc module".
fn control() -> Result {
    let sleeper = spawn(|| green::sleep(Duration::from_secs(60)));
    green::sleep(Duration::ZERO); // it begins to sleep
    green::kill(&sleeper);
    assert!(sleeper.wait().is_err_and(|failure| failure.is::<Killed>()));

    let (value, exception) = (Event::new(), Event::new());
    let (tell_value, tell_exception) = (value.clone(), exception.clone());
    let good = proc::spawn(|| Ok(6 * 7));
    good.link(move |outcome| tell_value.send(outcome.ok().copied()));
    let bad = proc::spawn(|| -> Result<u32> { Err(Failure::msg("out of order")) });
    bad.link_exception(tell_exception);
    let same = Event::<u32>::new();
    good.link_value(same.clone());
    assert_eq!((value.wait()?, same.wait()?), (Some(42), 42));
    assert_eq!(exception.wait().map_err(|failure| failure.to_string()), Err("out of order".to_owned()));
    assert_eq!(good.wait_timeout(Duration::ZERO)?, 42); // as poll()
    println!("api.spawn, api.kill, proc.spawn, link, link_value, link_exception");
    Ok(())
}

/// "Utilities for communicating between greenlets: event.Event, queue.Queue, semaphore.Semaphore".
fn communication() -> Result {
    let (event, queue, semaphore) = (Event::<u32>::new(), Queue::<u32>::new(), Semaphore::new(1));
    assert!(!event.ready() && event.poll().is_none());
    let held = semaphore.acquire();
    let waiter = {
        let (event, queue, semaphore) = (event.clone(), queue.clone(), semaphore.clone());
        spawn(move || {
            let _permit = semaphore.acquire();
            queue.send(event.wait()? + 1);
            Ok(())
        })
    };
    event.send(1);
    drop(held);
    assert_eq!(queue.wait()?, 2);
    queue.send_exception(Failure::msg("nothing more"));
    assert!(queue.ready() && queue.poll().is_some_and(|item| item.is_err()) && queue.poll().is_none());
    waiter.wait()?;
    println!("event.Event, queue.Queue, semaphore.Semaphore; send, send_exception, poll, ready, wait");
    Ok(())
}

/// "Standard modules that won't block the reactor" and "utilities specific to twisted hub".
fn network(reactor: &Reactor) -> Result {
    let echo = SpawnFactory::new(|conn| {
        while let Some(data) = conn.recv()? {
            conn.write(data)?;
        }
        Ok(())
    });
    let port = reactor.listen_tcp("127.0.0.1:0", echo.clone())?.address();

    let mut socket = TcpStream::connect(("127.0.0.1", port.port().unwrap_or_default()))?;
    socket.write_all(b"green socket")?;
    let mut answer = [0; 12];
    socket.read_exact(&mut answer)?;
    assert_eq!(&answer, b"green socket");

    let creator = GreenClientCreator::new(reactor);
    let conn = creator.connect_tcp(&port)?;
    assert!(matches!(conn.peer(), Address::Tcp(_)) && conn.transport().is_connected());
    conn.write("to the end")?;
    conn.lose_write_connection();
    assert_eq!(conn.read_all()?, "to the end");

    // A protocol in a synchronous form: LineOnlyReceiverTransport, UnbufferedTransport.
    let lines = GreenClientCreator::new(reactor).framed(Lines::new).connect_tcp(&port)?;
    lines.send_line("a line");
    assert_eq!(lines.read_line()?.as_deref(), Some(&b"a line"[..]));
    lines.close()?;
    let chunks = GreenClientCreator::new(reactor).framed(|| Chunks).connect_tcp(&port)?;
    chunks.write("as it comes")?;
    assert!(chunks.recv()?.is_some());
    chunks.close()?;
    drop((conn, socket));
    echo.wait_all();

    assert_eq!(block_on(reactor.defer_to_thread(|| Ok(6 * 7)))?, 42);
    assert_eq!(block_on(green::defer_to_green_thread(|| Ok("from a green thread")))?, "from a green thread");
    assert_eq!(green::call_in_green_thread(|| Ok(1)).wait()?, 1);
    let late = green::with_timeout(Duration::from_millis(1), || green::sleep(Duration::from_secs(60)));
    assert_eq!(late, Err(TimedOut(Duration::from_millis(1))));
    println!(
        "eventlet.green, GreenTransport, GreenClientCreator, LineOnlyReceiverTransport, block_on, deferToGreenThread"
    );
    Ok(())
}

/// "To understand how eventlet works, one has to understand how to use greenlet".
fn coroutines() -> Result {
    let main = Greenlet::current();
    assert!(main.parent().is_none(), "every greenlet except MAIN has a parent");
    let child = Greenlet::new(|value| {
        let question = *value.downcast::<u32>().expect("a number was sent");
        Ok(Box::new(question * 2))
    });
    let answer = child.switch(21u32)?;
    assert_eq!(answer.downcast_ref::<u32>(), Some(&42), "a return value goes to the parent");

    let failing = Greenlet::new(|_| Err(Failure::msg("an exception goes to the parent")));
    assert!(failing.switch(()).is_err());
    let exiting = Greenlet::new(|_| Err(GreenletExit.into()));
    assert!(exiting.switch(())?.is::<GreenletExit>(), "unless it is GreenletExit");
    let thrown = Greenlet::new(|_| Ok(Box::new(())));
    assert!(thrown.throw(Failure::msg("thrown into it")).is_err());

    let below = Greenlet::new(|_| Ok(Box::new(())));
    let above = Greenlet::new(|_| Ok(Box::new(())));
    below.set_parent(&above)?;
    assert!(above.set_parent(&below).is_err(), "a cycle is detected and rejected");
    println!("greenlet: MAIN, parent, switch, throw, GreenletExit");
    Ok(())
}

fn main() -> Result<ExitCode> {
    if std::env::args().len() > 1 {
        eprintln!("usage: founding      (no arguments)");
        return Ok(ExitCode::from(2));
    }
    // MAIN is the plain thread: the first call that waits starts the loop in a greenlet of its own (the document's way 2).
    // With join_reactor(&reactor) before reactor.run() it would be the loop itself (way 1): see `tour`.
    coroutines()?;
    let reactor = Reactor::current();
    control()?;
    communication()?;
    network(&reactor)?;
    reactor.close();
    println!("all of it works");
    Ok(ExitCode::SUCCESS)
}

// Try it, it needs nothing:
//     cargo run --example founding
