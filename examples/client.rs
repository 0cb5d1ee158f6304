//! cargo run --example client
//! The founding twisted_client: a GreenTransport read whole, then another one line by line. No reactor is started here:
//! the first call that waits starts it.
use twistlet::green::GreenClientCreator;
use twistlet::protocols::Lines;
use twistlet::{ConnectionClosed, Reactor, Result};

fn main() -> Result {
    let reactor = Reactor::current();

    let conn = GreenClientCreator::new(&reactor).connect_tcp("www.google.com:80")?;
    conn.write("GET / HTTP/1.0\r\n\r\n")?;
    conn.lose_write_connection();
    println!("{}", conn.read_all()?.escape_ascii());
    Ok(())
}
