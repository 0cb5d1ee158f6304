//! Domain names as text and as labels. In text a label's dots, backslashes and unprintable bytes are escaped, so that no name can
//! be taken for another.
use super::error::DnsError;
use hickory_proto::rr::Name;
use std::fmt::Write;

/// The name that `text` is, from the root; a dot at the end changes nothing. Text beyond ASCII is encoded as IDNA says.
pub(super) fn parse(text: &str) -> Result<Name, DnsError> {
    let invalid = || DnsError::InvalidName { name: text.chars().take(300).collect() };
    // The longest name, with every byte escaped.
    if text.is_empty() || text.len() > 4 * 255 {
        return Err(invalid());
    }
    let name =
        if text.is_ascii() { Name::from_labels(labels(text).ok_or_else(invalid)?) } else { Name::from_utf8(text) };
    let mut name = name.map_err(|_| invalid())?;
    name.set_fqdn(true);
    Ok(name)
}

fn labels(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut labels = Vec::new();
    if text == "." {
        return Some(labels);
    }
    let mut label = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' if label.is_empty() => return None,
            b'.' => labels.push(std::mem::take(&mut label)),
            b'\\' => match bytes.next()? {
                digit @ b'0'..=b'9' => {
                    let mut number = u16::from(digit - b'0');
                    for _ in 0..2 {
                        let digit = bytes.next().filter(u8::is_ascii_digit)?;
                        number = number * 10 + u16::from(digit - b'0');
                    }
                    label.push(u8::try_from(number).ok()?);
                }
                escaped => label.push(escaped),
            },
            // Spaces and control characters are slips, unless they are written out.
            0..=b' ' | 0x7f => return None,
            other => label.push(other),
        }
    }
    if !label.is_empty() {
        labels.push(label);
    }
    Some(labels)
}

/// The text of a name, without a dot at the end.
pub(super) fn text(name: &Name) -> String {
    let mut text = String::new();
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        for &byte in label {
            match byte {
                b'.' | b'\\' => {
                    text.push('\\');
                    text.push(byte.into());
                }
                b'!'..=b'~' => text.push(byte.into()),
                other => {
                    // Into a String: cannot fail.
                    let _ = write!(text, "\\{other:03}");
                }
            }
        }
    }
    if text.is_empty() { ".".to_owned() } else { text }
}
