//! cargo run --example client [HOST:PORT]
//!
//! The founding twisted_client: a GreenTransport read whole, then another one line by line. No reactor is started here:
//! the first call that waits starts it.
use std::process::ExitCode;
use twistlet::green::GreenClientCreator;
use twistlet::protocols::Lines;
use twistlet::{Reactor, Result};

const REQUEST: &str = "GET / HTTP/1.0\r\n\r\n";

/// The answer in one piece.
fn whole(creator: &GreenClientCreator, to: &str) -> Result {
    println!("--- {to}, read as a whole");
    let conn = creator.connect_tcp(to)?;
    conn.write(REQUEST)?;
    conn.lose_write_connection();
    println!("{}", conn.read_all()?.escape_ascii());
    Ok(())
}

/// The answer line by line, for as long as there are lines.
fn by_line(creator: &GreenClientCreator<Lines>, to: &str) -> Result {
    println!("--- {to}, read line by line");
    let conn = creator.connect_tcp(to)?;
    conn.write(REQUEST)?;
    for line in &conn {
        println!("{}", line?.escape_ascii());
    }
    println!("--- lost {}", conn.peer());
    conn.close()
}

fn run(to: &str) -> Result {
    let reactor = Reactor::current();
    whole(&GreenClientCreator::new(&reactor), to)?;
    let lines = || Lines::new().delimiter(b"\n").max_length(1 << 20);
    by_line(&GreenClientCreator::new(&reactor).framed(lines), to)
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let to = args.first().map_or("www.google.com:80", String::as_str);
    let (Some((_, Ok(_))), 0..=1) = (to.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())), args.len())
    else {
        eprintln!("usage: client [HOST:PORT]      (default: www.google.com:80)");
        return Ok(ExitCode::from(2));
    };
    run(to)?;
    Ok(ExitCode::SUCCESS)
}

// Try it without the Internet:
//     python3 -m http.server 8000 &
//     cargo run --example client 127.0.0.1:8000
