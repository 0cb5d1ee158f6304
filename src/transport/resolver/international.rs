//! International host names: how a name beyond ASCII is asked for (IDNA, UTS #46, with the feature `dns`). Called before every
//! resolver, by host tables and by TLS, so that all of them mean the same host.
//!
//! What must never happen here: an ASCII name changed, or a name beyond ASCII passed on as it is.
use crate::error::ConnectError;
use std::borrow::Cow;

/// The longest name there can be, with each byte of it escaped in UTF-8.
#[cfg(feature = "dns")]
const LONGEST: usize = 4 * 255;

/// `host` in ASCII: itself, or normalised and in its `xn--` form.
///
/// # Errors
/// [`ConnectError::InvalidHost`].
pub(crate) fn ascii(host: &str) -> Result<Cow<'_, str>, ConnectError> {
    if host.is_ascii() {
        return Ok(Cow::Borrowed(host));
    }
    encode(host).map_err(|why| ConnectError::InvalidHost { host: host.chars().take(300).collect(), why })
}

#[cfg(feature = "dns")]
fn encode(host: &str) -> Result<Cow<'_, str>, &'static str> {
    if host.len() > LONGEST {
        return Err("it is too long");
    }
    match idna::domain_to_ascii_cow(host.as_bytes(), idna::AsciiDenyList::URL) {
        // Of characters that do not count nothing is left.
        Ok(name) if name.is_empty() => Err("nothing of it counts"),
        Ok(name) => Ok(name),
        Err(_) => Err("it is no valid international name"),
    }
}
#[cfg(not(feature = "dns"))]
fn encode(_: &str) -> Result<Cow<'_, str>, &'static str> {
    Err("it is not ASCII; write it in its xn-- form, or turn on the feature dns")
}
