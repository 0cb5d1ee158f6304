//! A small scripted IMAP4rev1 server over any `Read + Write`: as much as clients need who log in, list, select, fetch, append.
use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;

/// An account, as all its connections see it.
#[derive(Debug, Clone)]
pub struct Account {
    pub user: String,
    pub password: String,
    pub folders: Vec<String>,
    /// Of every folder alike.
    pub messages: Rc<RefCell<Vec<Vec<u8>>>>,
}

/// One session, from the greeting to LOGOUT or the end. `account_of` finds the account of a user.
pub fn serve(stream: impl Read + Write, account_of: impl Fn(&str) -> Option<Account>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut account: Option<Account> = None;
    reply(&mut stream, "* OK ready")?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words = words(line.trim_end());
        let word = |n: usize| words.get(n).map(String::as_str).unwrap_or_default();
        let tag = word(0);
        match (word(1).to_ascii_uppercase().as_str(), &account) {
            ("LOGIN", _) => {
                account = account_of(word(2)).filter(|account| account.password == word(3));
                let answer = if account.is_some() { "OK logged in" } else { "NO wrong user or password" };
                reply(&mut stream, &format!("{tag} {answer}"))?;
            }
            ("LIST", Some(account)) => {
                for folder in &account.folders {
                    reply(&mut stream, &format!("* LIST (\\HasNoChildren) \"/\" \"{folder}\""))?;
                }
                reply(&mut stream, &format!("{tag} OK listed"))?;
            }
            ("SELECT" | "EXAMINE", Some(account)) => {
                let count = account.messages.borrow().len();
                let known = account.folders.iter().any(|folder| folder == word(2));
                let answer = if known { "OK selected" } else { "NO such folder" };
                if known {
                    reply(&mut stream, &format!("* FLAGS (\\Seen)\r\n* {count} EXISTS\r\n* 0 RECENT"))?;
                }
                reply(&mut stream, &format!("{tag} {answer}"))?;
            }
            ("FETCH", Some(account)) => {
                for n in numbers(word(2), account.messages.borrow().len()) {
                    // Taken out: nothing stays borrowed while the client takes its time.
                    let message = account.messages.borrow()[n - 1].clone();
                    let head = format!("* {n} FETCH (UID {n} RFC822.SIZE {0} BODY[] {{{0}}}\r\n", message.len());
                    send(&mut stream, &[head.as_bytes(), &message, b")\r\n"].concat())?;
                }
                reply(&mut stream, &format!("{tag} OK fetched"))?;
            }
            ("APPEND", Some(account)) => {
                let length = line.rsplit('{').next().and_then(|rest| rest.trim_end().strip_suffix('}')?.parse().ok());
                let Some(length) = length else {
                    reply(&mut stream, &format!("{tag} BAD no literal"))?;
                    continue;
                };
                reply(&mut stream, "+ go on")?;
                let mut message = Vec::new();
                (&mut stream).take(length).read_to_end(&mut message)?;
                stream.read_line(&mut String::new())?;
                account.messages.borrow_mut().push(message);
                reply(&mut stream, &format!("{tag} OK appended"))?;
            }
            ("NOOP", _) => reply(&mut stream, &format!("{tag} OK done"))?,
            ("CAPABILITY", _) => reply(&mut stream, &format!("* CAPABILITY IMAP4rev1\r\n{tag} OK done"))?,
            ("LOGOUT", _) => return reply(&mut stream, &format!("* BYE until then\r\n{tag} OK logged out")),
            (_, None) => reply(&mut stream, &format!("{tag} NO log in first"))?,
            _ => reply(&mut stream, &format!("{tag} BAD what?"))?,
        }
    }
}

fn reply<S: Read + Write>(stream: &mut BufReader<S>, line: &str) -> io::Result<()> {
    send(stream, format!("{line}\r\n").as_bytes())
}
fn send<S: Read + Write>(stream: &mut BufReader<S>, data: &[u8]) -> io::Result<()> {
    stream.get_mut().write_all(data)?;
    stream.get_mut().flush()
}

/// `a1 LOGIN "alice" "in \"the\" dark"` as its four words.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words
}

/// `2:4`, `1:*`, `3` or several of them, of messages from 1 to `last`.
fn numbers(set: &str, last: usize) -> Vec<usize> {
    let number = |text: &str| if text == "*" { Some(last) } else { text.parse().ok() };
    let range = |part: &str| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        Some(number(from)?.max(1)..=number(to)?.min(last))
    };
    set.split(',').filter_map(range).flatten().collect()
}
