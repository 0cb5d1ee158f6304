//! `ParseError`: what is wrong with a description, and where.
use std::error::Error;
use std::fmt;
use std::ops::Range;

/// A description that is none. It says what is wrong, and shows where:
///
/// ```text
/// tcp knows no argument "prot"; it takes host, port, timeout, bindAddress
///   tcp:localhost:prot=80
///                 ^^^^
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    place: Range<usize>,
    reason: ParseReason,
}

/// What is wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseReason {
    /// There is nothing.
    Empty,
    /// It ends with a backslash, which has nothing to stand before.
    DanglingBackslash,
    /// There is no such kind of endpoint.
    UnknownKind {
        /// The kind as it was written.
        kind: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The kind has no argument of this name.
    UnknownArgument {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// Those it has.
        known: Vec<&'static str>,
    },
    /// More arguments without a name than the kind takes.
    TooMany {
        /// The kind.
        kind: String,
        /// The arguments it has.
        known: Vec<&'static str>,
    },
    /// The kind needs this argument.
    Missing {
        /// The kind.
        kind: String,
        /// The argument.
        name: &'static str,
    },
    /// An argument is given twice.
    Repeated {
        /// Its name.
        name: String,
    },
    /// The value of an argument is none.
    Invalid {
        /// The argument.
        name: String,
        /// What it must be.
        expected: String,
    },
    /// Descriptions stand within descriptions too often.
    TooDeep,
    /// Something else; for the authors of kinds.
    Other(String),
}

impl ParseError {
    pub(super) fn new(text: &str, place: Range<usize>, reason: ParseReason) -> Self {
        ParseError { text: text.to_owned(), place, reason }
    }
    /// What is wrong.
    pub fn reason(&self) -> &ParseReason {
        &self.reason
    }
    /// Where in the text, in bytes from its beginning.
    pub fn offset(&self) -> usize {
        self.place.start
    }
    /// The bytes of the text that it is about; none where something is missing.
    pub fn place(&self) -> Range<usize> {
        self.place.clone()
    }
    /// The description.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Room around the place in a long description.
const AROUND: usize = 60;

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        // What a terminal would act on is shown escaped, so that the marks stand where they should.
        let shown = |text: &str| text.chars().flat_map(show).collect::<Vec<char>>();
        let before = shown(&self.text[..self.place.start]);
        let place = shown(&self.text[self.place.clone()]);
        let after = shown(&self.text[self.place.end..]);
        let left = before.len().saturating_sub(AROUND);
        f.write_str(if left > 0 { "  ..." } else { "  " })?;
        let marked = place.len().min(AROUND);
        let end = if place.len() > marked { "..." } else { "" };
        let tail = if end.is_empty() { &after[..after.len().min(AROUND)] } else { &[] };
        let line = before[left..].iter().chain(&place[..marked]).chain(tail);
        let cut = if tail.len() < after.len() && end.is_empty() { "..." } else { end };
        writeln!(f, "{}{cut}", line.collect::<String>())?;
        let indent = before.len() - left + if left > 0 { 5 } else { 2 };
        write!(f, "{:indent$}{:^>width$}", "", "", width = marked.max(1))
    }
}
fn show(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control() || (!c.is_ascii() && !c.is_alphanumeric());
    let plain = (!escaped).then_some(c);
    plain.into_iter().chain(escaped.then(|| c.escape_unicode()).into_iter().flatten())
}

impl fmt::Display for ParseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty description; write one such as tcp:8007"),
            Self::DanglingBackslash => f.write_str("a backslash with nothing after it; for a backslash write two"),
            Self::UnknownKind { kind, known } => {
                write!(f, "no kind of endpoint is called {kind:?}; there are {}", known.join(", "))
            }
            Self::UnknownArgument { kind, name, known } if known.is_empty() => {
                write!(f, "{kind} knows no argument {name:?}; it takes none")
            }
            Self::UnknownArgument { kind, name, known } => {
                write!(f, "{kind} knows no argument {name:?}; it takes {}", known.join(", "))
            }
            Self::TooMany { kind, known } if known.is_empty() => write!(f, "{kind} takes no arguments"),
            Self::TooMany { kind, known } => {
                write!(f, "too many arguments for {kind}; it takes {}", known.join(", "))
            }
            Self::Missing { kind, name } => write!(f, "{kind} needs {name}"),
            Self::Repeated { name } => write!(f, "{name} is given twice"),
            Self::Invalid { name, expected } => write!(f, "{name} must be {expected}"),
            Self::TooDeep => f.write_str("descriptions within descriptions, more than anybody needs"),
            Self::Other(text) => f.write_str(text),
        }
    }
}
impl Error for ParseError {}
