//! `Signal`: the number of a signal, with a name where it has one.
use super::ProcessError;
use std::fmt;
use std::str::FromStr;

/// A signal to be sent to a child: `Signal::TERM`, `Signal::from(15)`, `"TERM".parse()`.
///
/// ```
/// use twistlet::transport::process::Signal;
/// assert_eq!("SIGHUP".parse(), Ok(Signal::HUP));
/// assert_eq!(Signal::KILL.to_string(), "SIGKILL");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Signal(i32);

macro_rules! signals { ($($name:ident $number:ident $text:literal;)+) => {
    impl Signal {
        $( #[doc = $text] pub const $name: Signal = Signal(libc::$number); )+
    }
    const NAMED: &[(&str, i32)] = &[ $( (stringify!($name), libc::$number) ),+ ];
} }
signals! {
    HUP SIGHUP "The terminal is gone; for many a daemon: read your configuration again.";
    INT SIGINT "What Ctrl-C sends.";
    QUIT SIGQUIT "What Ctrl-\\ sends.";
    KILL SIGKILL "Ends it; it cannot be refused.";
    USR1 SIGUSR1 "What the program makes of it.";
    USR2 SIGUSR2 "What the program makes of it.";
    ALRM SIGALRM "A timer.";
    TERM SIGTERM "Asks it to end.";
    CONT SIGCONT "Go on.";
    STOP SIGSTOP "Stops it; it cannot be refused.";
    TSTP SIGTSTP "What Ctrl-Z sends.";
    WINCH SIGWINCH "The terminal has another size.";
}

impl Signal {
    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }
}
impl From<i32> for Signal {
    fn from(number: i32) -> Self {
        Signal(number)
    }
}
impl FromStr for Signal {
    type Err = ProcessError;
    /// With or without `SIG`.
    ///
    /// # Errors
    /// [`ProcessError::UnknownSignal`].
    fn from_str(text: &str) -> Result<Self, ProcessError> {
        let bare = text.strip_prefix("SIG").unwrap_or(text);
        let known = NAMED.iter().find(|(name, _)| *name == bare).map(|(_, number)| Signal(*number));
        known.ok_or_else(|| ProcessError::UnknownSignal { text: text.to_owned() })
    }
}
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}
