//! What a backdoor understands.
use crate::deferred::IntoDeferred;
use crate::failure::{Failure, Result};
use crate::green::block::settle;
use crate::green::debug;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

/// Green threads in one answer, unless the client asks for more.
const LISTED: usize = 200;

type Run = Rc<dyn Fn(&[&str], &mut String) -> Result<()>>;

/// A command with its line of help.
pub(super) struct Command {
    pub(super) help: String,
    run: Run,
}

impl Command {
    fn new(help: &str, run: impl Fn(&[&str], &mut String) -> Result<()> + 'static) -> Command {
        Command { help: help.to_owned(), run: Rc::new(run) }
    }
    pub(super) fn of_program<R: IntoDeferred + 'static>(
        help: String,
        run: impl Fn(&[&str], &mut String) -> R + 'static,
    ) -> Command {
        Command { help, run: Rc::new(move |args, out| settle(run(args, out)).map(drop)) }
    }
    pub(super) fn run(&self, args: &[&str], out: &mut String) -> Result<()> {
        (self.run)(args, out)
    }
}

/// All but `help` and `quit`, which concern the conversation.
pub(super) fn builtin() -> BTreeMap<String, Command> {
    let commands = [
        ("list", Command::new("[N]: green threads, the oldest first", list)),
        ("tree", Command::new("green threads by who spawned them", |_, out| put(out, &debug::format_tree()))),
        ("timers", Command::new("delayed calls that wait", |_, out| put(out, &debug::format_timers()))),
        ("descriptors", Command::new("what the loop watches", |_, out| put(out, &debug::format_descriptors()))),
        ("stats", Command::new("figures", |_, out| put(out, &debug::stats().to_string()))),
        ("kill", Command::new("ID: kills a green thread", kill)),
        ("dump", Command::new("all of these", |_, out| put(out, &debug::format_all()))),
        ("watchdog", Command::new("on MS | off: logs who holds the loop longer", watchdog)),
    ];
    commands.into_iter().map(|(name, command)| (name.to_owned(), command)).collect()
}

fn put(out: &mut String, text: &str) -> Result<()> {
    out.push_str(if text.is_empty() { "none" } else { text });
    Ok(())
}
fn list(args: &[&str], out: &mut String) -> Result<()> {
    let most = match args {
        [] => LISTED,
        [number, ..] => number.parse()?,
    };
    let (first, all) = debug::first(most);
    for info in &first {
        let _ = writeln!(out, "{info}");
    }
    if all > first.len() {
        let _ = writeln!(out, "and {} more: list {all}", all - first.len());
    }
    Ok(())
}
fn kill(args: &[&str], out: &mut String) -> Result<()> {
    let [id] = args else { return Err(Failure::msg("kill what? Say its number, as list shows it")) };
    let killed = debug::kill(id.trim_start_matches('#').parse()?);
    out.push_str(if killed { "killed" } else { "no such green thread" });
    Ok(())
}
fn watchdog(args: &[&str], out: &mut String) -> Result<()> {
    match args {
        ["on", ms] => debug::blocking_detection(Duration::from_millis(ms.parse()?))?,
        ["off"] => debug::blocking_detection(None)?,
        _ => return Err(Failure::msg("say watchdog on MS, or watchdog off")),
    }
    out.push_str("done");
    Ok(())
}
