//! The arguments of a description, as the author of a kind takes them.
use super::text::{Part, Piece, Text};
use super::{Descriptions, ParseError, ParseReason};
use crate::endpoint::{ClientEndpoint, ServerEndpoint};
use crate::reactor::Reactor;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// So many descriptions within one another.
const DEPTH: usize = 16;

/// The arguments of one description. A kind takes those it knows, by name; one without a name is taken by the first that
/// asks with [`next`](Arguments::next) or [`require`](Arguments::require) and is not given by name.
pub struct Arguments<'a> {
    descriptions: &'a Descriptions,
    reactor: &'a Reactor,
    kind: Piece,
    text: Text,
    given: Vec<Part>,
    known: Vec<&'static str>,
    depth: usize,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(
        descriptions: &'a Descriptions,
        reactor: &'a Reactor,
        text: &Text,
        depth: usize,
    ) -> Result<Self, ParseError> {
        if depth > DEPTH {
            return Err(text.wrong(ParseReason::TooDeep));
        }
        let mut parts = text.parts()?;
        let first = parts.remove(0);
        // A kind has no equals sign in it that means anything.
        let kind = match first.name {
            None => first.value,
            Some(name) => Piece { text: format!("{}={}", name.text, first.value.text), place: name.place },
        };
        if kind.text.is_empty() && parts.is_empty() {
            return Err(text.wrong(ParseReason::Empty));
        }
        Ok(Arguments { descriptions, reactor, kind, text: text.clone(), given: parts, known: Vec::new(), depth })
    }
    pub(super) fn kind(&self) -> Value<'a> {
        self.value("kind", self.kind.clone())
    }
    fn value(&self, name: &str, piece: Piece) -> Value<'a> {
        let (descriptions, reactor, depth) = (self.descriptions, self.reactor, self.depth);
        Value { descriptions, reactor, depth, name: name.to_owned(), piece }
    }
    fn is_bare(&self) -> bool {
        // `stdio:` has none, though it has a colon.
        matches!(&self.given[..], [Part { name: None, value, .. }] if value.text.is_empty())
    }

    /// For which reactor.
    pub fn reactor(&self) -> &'a Reactor {
        self.reactor
    }
    /// The argument called `name`, if it is given.
    ///
    /// # Errors
    /// [`ParseReason::Repeated`].
    pub fn take(&mut self, name: &'static str) -> Result<Option<Value<'a>>, ParseError> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        let is_it = |part: &Part| part.name.as_ref().is_some_and(|given| given.text == name);
        let Some(at) = self.given.iter().position(is_it) else { return Ok(None) };
        let part = self.given.remove(at);
        if let Some(Part { name: Some(again), .. }) = self.given.iter().find(|part| is_it(part)) {
            return Err(again.place.wrong(ParseReason::Repeated { name: name.to_owned() }));
        }
        Ok(Some(self.value(name, part.value)))
    }
    /// The argument called `name`, or the next of those without a name.
    ///
    /// # Errors
    /// As [`take`](Arguments::take).
    pub fn next(&mut self, name: &'static str) -> Result<Option<Value<'a>>, ParseError> {
        if let Some(value) = self.take(name)? {
            return Ok(Some(value));
        }
        if self.is_bare() {
            return Ok(None);
        }
        let next = self.given.iter().position(|part| part.name.is_none());
        Ok(next.map(|at| self.given.remove(at)).map(|part| self.value(name, part.value)))
    }
    /// As [`next`](Arguments::next), of an argument that there must be.
    ///
    /// # Errors
    /// [`ParseReason::Missing`], and as [`take`](Arguments::take).
    pub fn require(&mut self, name: &'static str) -> Result<Value<'a>, ParseError> {
        match self.next(name)? {
            Some(value) => Ok(value),
            None => Err(self.missing(name)),
        }
    }
    fn missing(&self, name: &'static str) -> ParseError {
        self.text.end().wrong(ParseReason::Missing { kind: self.kind.text.clone(), name })
    }
    /// All that is left, as a description of a server.
    ///
    /// # Errors
    /// What is wrong with that; [`ParseReason::Missing`] when there is nothing.
    pub fn rest_as_server(&mut self) -> Result<Box<dyn ServerEndpoint>, ParseError> {
        match self.given.first().map(|part| part.rest.clone()) {
            Some(rest) if !self.is_bare() => {
                self.given.clear();
                self.descriptions.server_at(self.reactor, &rest, self.depth + 1)
            }
            _ => Err(self.missing("a description")),
        }
    }
    /// An error about the whole.
    pub fn wrong(&self, text: impl Into<String>) -> ParseError {
        self.text.wrong(ParseReason::Other(text.into()))
    }
    /// Nothing is left that nobody took.
    pub(super) fn finish(self) -> Result<(), ParseError> {
        if self.is_bare() {
            return Ok(());
        }
        let (kind, known) = (self.kind.text, self.known);
        match self.given.into_iter().next() {
            None => Ok(()),
            Some(Part { name: Some(name), .. }) => {
                Err(name.place.wrong(ParseReason::UnknownArgument { kind, name: name.text, known }))
            }
            Some(Part { name: None, value, .. }) => Err(value.place.wrong(ParseReason::TooMany { kind, known })),
        }
    }
}

/// The value of an argument, without its escapes.
pub struct Value<'a> {
    descriptions: &'a Descriptions,
    reactor: &'a Reactor,
    depth: usize,
    name: String,
    piece: Piece,
}

impl Value<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.piece.text
    }
    pub(super) fn wrong(&self, reason: ParseReason) -> ParseError {
        self.piece.place.wrong(reason)
    }
    /// An error: this is not `expected`, which reads on from "must be".
    pub fn invalid(&self, expected: impl Into<String>) -> ParseError {
        self.wrong(ParseReason::Invalid { name: self.name.clone(), expected: expected.into() })
    }
    /// As something that std parses.
    ///
    /// # Errors
    /// [`ParseReason::Invalid`] with `expected`.
    pub fn parse<T: FromStr>(&self, expected: &str) -> Result<T, ParseError> {
        self.as_str().parse().map_err(|_| self.invalid(expected))
    }
    /// As the text itself, which must not be empty.
    ///
    /// # Errors
    /// [`ParseReason::Invalid`].
    pub fn text(&self, expected: &str) -> Result<String, ParseError> {
        if self.as_str().is_empty() { Err(self.invalid(expected)) } else { Ok(self.as_str().to_owned()) }
    }
    /// As a port.
    ///
    /// # Errors
    /// [`ParseReason::Invalid`].
    pub fn port(&self) -> Result<u16, ParseError> {
        self.parse("a number from 0 to 65535")
    }
    /// As an IP address, IPv6 with or without brackets.
    ///
    /// # Errors
    /// [`ParseReason::Invalid`].
    pub fn ip(&self) -> Result<IpAddr, ParseError> {
        let text = self.as_str();
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse().map_err(|_| self.invalid(r"an IP address; the colons of IPv6 are written \:"))
    }
    /// As a time in seconds.
    ///
    /// # Errors
    /// [`ParseReason::Invalid`].
    pub fn seconds(&self) -> Result<Duration, ParseError> {
        let expected = "a number of seconds";
        Duration::try_from_secs_f64(self.parse(expected)?).map_err(|_| self.invalid(expected))
    }
    /// As yes (`1`, `true`, `yes`, `on`) or no (`0`, `false`, `no`, `off`).
    ///
    /// # Errors
    /// [`ParseReason::Invalid`].
    pub fn flag(&self) -> Result<bool, ParseError> {
        match self.as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(self.invalid("1 or 0")),
        }
    }
    /// As a description of a client.
    ///
    /// # Errors
    /// What is wrong with that, at its place in the whole.
    pub fn client(&self) -> Result<Box<dyn ClientEndpoint>, ParseError> {
        self.descriptions.client_at(self.reactor, &self.piece.place.plain(), self.depth + 1)
    }
    /// As a description of a server.
    ///
    /// # Errors
    /// As [`client`](Value::client).
    pub fn server(&self) -> Result<Box<dyn ServerEndpoint>, ParseError> {
        self.descriptions.server_at(self.reactor, &self.piece.place.plain(), self.depth + 1)
    }
}

impl std::fmt::Debug for Arguments<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arguments").field("kind", &self.kind.text).finish_non_exhaustive()
    }
}
impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Value").field("name", &self.name).field("text", &self.piece.text).finish_non_exhaustive()
    }
}
