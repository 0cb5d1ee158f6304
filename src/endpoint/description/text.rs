//! A description's text: where it is divided, what is escaped, and where in the whole each character stands. A description
//! within another knows its places in the outer one.
use super::{ParseError, ParseReason};
use std::ops::Range;
use std::rc::Rc;

/// `text` so that it stands for itself in a description: backslashes, colons and equals signs get a backslash.
///
/// (Twisted's `quoteStringArgument` leaves equals signs alone, and a value without a name that has one becomes a value with
/// one.)
///
/// ```
/// use twistlet::endpoint::quote;
/// assert_eq!(format!("unix:{}", quote("/run/a:b")), r"unix:/run/a\:b");
/// ```
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | ':' | '=') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// Characters, each with its place in the whole of what the user wrote. Parts of it share them.
#[derive(Clone, Debug)]
pub(super) struct Text {
    whole: Rc<str>,
    chars: Rc<[(usize, char)]>,
    range: Range<usize>,
}

/// One part of a description, unescaped.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) place: Text,
}

/// What stands between two colons.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: Option<Piece>,
    pub(super) value: Piece,
    /// All of it, and all that follows it, as it was written.
    pub(super) rest: Text,
}

impl Text {
    pub(super) fn new(text: &str) -> Self {
        let chars: Rc<[_]> = text.char_indices().collect();
        Text { whole: text.into(), range: 0..chars.len(), chars }
    }
    fn chars(&self) -> &[(usize, char)] {
        &self.chars[self.range.clone()]
    }
    fn slice(&self, from: usize, to: usize) -> Text {
        let start = self.range.start;
        Text { whole: Rc::clone(&self.whole), chars: Rc::clone(&self.chars), range: start + from..start + to }
    }
    /// The place after its last character.
    pub(super) fn end(&self) -> Text {
        let length = self.range.len();
        self.slice(length, length)
    }
    /// An error about all of it.
    pub(super) fn wrong(&self, reason: ParseReason) -> ParseError {
        let place = match self.chars() {
            [(start, _), .., (last, c)] => *start..last + c.len_utf8(),
            [(start, c)] => *start..start + c.len_utf8(),
            [] => {
                // Before what follows, or behind what came.
                let before = self.range.start.checked_sub(1).and_then(|before| self.chars.get(before));
                let behind = before.map_or(0, |(at, c)| at + c.len_utf8());
                let at = self.chars.get(self.range.start).map_or(behind, |(at, _)| *at);
                at..at
            }
        };
        ParseError::new(&self.whole, place, reason)
    }

    /// Its parts: the kind, and at least one further if there is a colon.
    pub(super) fn parts(&self) -> Result<Vec<Part>, ParseError> {
        let mut parts = Vec::new();
        let (mut start, mut equals, mut escaped) = (0, None, false);
        let chars = self.chars();
        for at in 0..=chars.len() {
            let c = chars.get(at).map(|(_, c)| *c);
            match c {
                Some(_) if escaped => escaped = false,
                Some('\\') => escaped = true,
                Some('=') => equals = equals.or(Some(at)),
                Some(':') | None => {
                    if escaped {
                        return Err(self.slice(at - 1, at).wrong(ParseReason::DanglingBackslash));
                    }
                    let name = equals.map(|equals| self.slice(start, equals).piece());
                    let from = equals.map_or(start, |equals| equals + 1);
                    let rest = self.slice(start, chars.len());
                    parts.push(Part { name, value: self.slice(from, at).piece(), rest });
                    (start, equals) = (at + 1, None);
                }
                Some(_) => {}
            }
        }
        Ok(parts)
    }
    /// Without its escapes.
    fn piece(self) -> Piece {
        let plain = self.plain();
        Piece { text: plain.chars().iter().map(|(_, c)| *c).collect(), place: self }
    }
    /// The characters that stand for themselves, in their places.
    pub(super) fn plain(&self) -> Text {
        let mut chars = Vec::with_capacity(self.range.len());
        let mut all = self.chars().iter();
        while let Some(&(at, c)) = all.next() {
            match c {
                '\\' => chars.extend(all.next().copied()),
                _ => chars.push((at, c)),
            }
        }
        Text { whole: Rc::clone(&self.whole), range: 0..chars.len(), chars: chars.into() }
    }
}
