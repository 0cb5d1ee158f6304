//! HTTP's digest authentication with MD5 (RFC 7616), both sides: what a client answers to a challenge, and what a server
//! compares it with.
use md5::{Digest, Md5};

/// The parameters behind `Digest` in a header, quotes taken off.
pub fn parameters(header: &str) -> Option<Vec<(String, String)>> {
    let mut rest = header.strip_prefix("Digest ")?.trim();
    let mut found = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        found.push((name.trim().to_ascii_lowercase(), value.to_owned()));
        rest = after.trim_start_matches([',', ' ']);
    }
    Some(found)
}
pub fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
}

fn md5(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What proves that the client knows the password; `count` and `nonce_of_client` only where the server asked for them (`qop`).
pub fn response(
    (user, realm, password): (&str, &str, &str),
    (method, uri): (&str, &str),
    nonce: &str,
    counted: Option<(&str, &str)>,
) -> String {
    let secret = md5(&format!("{user}:{realm}:{password}"));
    let request = md5(&format!("{method}:{uri}"));
    match counted {
        Some((count, nonce_of_client)) => md5(&format!("{secret}:{nonce}:{count}:{nonce_of_client}:auth:{request}")),
        None => md5(&format!("{secret}:{nonce}:{request}")),
    }
}
