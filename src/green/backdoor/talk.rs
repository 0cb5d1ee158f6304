//! One client of a backdoor, from its coming to its leaving.
use super::House;
use crate::error::{Killed, LineTooLong};
use crate::failure::{self, Result};
use crate::green::hub::Hub;
use crate::green::transport::GreenTransport;
use crate::protocols::codec::Lines;
use std::fmt::Write;
use std::rc::Rc;

const PROMPT: &str = "> ";
/// How requests of web browsers begin, which any page can make them send to this machine.
const HTTP: [&str; 8] = ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT"];

/// Counts a client for as long as it is there.
struct Guest<'a>(&'a House);
impl<'a> Guest<'a> {
    fn of(house: &'a House) -> Option<Guest<'a>> {
        let here = house.here.get();
        (here < house.clients).then(|| {
            house.here.set(here + 1);
            Guest(house)
        })
    }
}
impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.0.here.set(self.0.here.get() - 1);
    }
}

/// Answers until the client leaves. That it leaves without a word is nobody's failure.
pub(super) fn talk(house: &Rc<House>, conn: &GreenTransport<Lines>) -> Result<()> {
    if let Some(task) = Hub::existing().and_then(|hub| hub.running()) {
        task.set_name(&format!("backdoor for {}", conn.peer()));
    }
    let Some(_guest) = Guest::of(house) else {
        conn.write("too many clients\n")?;
        return Ok(());
    };
    // One that vanishes without a word keeps its place no longer than the system takes to notice.
    conn.transport().set_tcp_keep_alive(true);
    match converse(house, conn) {
        // A kill is told to whoever asks for the outcome.
        Err(failure) if failure.is::<Killed>() => Err(failure),
        Err(failure) if failure.is::<LineTooLong>() => conn.write("that line is too long\n").or(Ok(())),
        _ => Ok(()),
    }
}

fn converse(house: &House, conn: &GreenTransport<Lines>) -> Result<()> {
    conn.write(format!("twistlet: help tells what can be said here\n{PROMPT}"))?;
    while let Some(line) = conn.recv()? {
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else {
            conn.write(PROMPT)?;
            continue;
        };
        let args: Vec<&str> = words.collect();
        let mut answer = String::new();
        match name {
            "quit" | "exit" => return conn.write("bye\n"),
            "help" | "?" => help(house, &mut answer),
            http if HTTP.contains(&http) || http.eq_ignore_ascii_case("host:") => {
                log::warn!(target: "twistlet", "{} spoke HTTP to a backdoor; it was left", conn.peer());
                conn.abort_connection();
                return Ok(());
            }
            _ => run(house, name, &args, &mut answer)?,
        }
        if !answer.ends_with('\n') {
            answer.push('\n');
        }
        answer.push_str(PROMPT);
        conn.write(answer)?;
    }
    Ok(())
}

fn run(house: &House, name: &str, args: &[&str], answer: &mut String) -> Result<()> {
    let Some(command) = house.commands.get(name) else {
        let _ = write!(answer, "no command '{name}'; help lists them");
        return Ok(());
    };
    match failure::catch(|| command.run(args, answer)).and_then(|done| done) {
        Ok(()) => {}
        Err(failure) if failure.is::<Killed>() => return Err(failure),
        Err(failure) => {
            // Its Display is the program's.
            let told = failure::catch(|| failure.to_string());
            let _ = write!(answer, "failed: {}", told.as_deref().unwrap_or("an error that cannot be told"));
            failure::drop_quietly(told);
            failure::drop_quietly(failure);
        }
    }
    Ok(())
}

fn help(house: &House, answer: &mut String) {
    for (name, command) in &house.commands {
        let _ = writeln!(answer, "{name} {}", command.help);
    }
    answer.push_str("help this\nquit leaves\n");
}
