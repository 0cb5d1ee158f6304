//! `Config`: which servers to ask and how, from code or in the syntax of /etc/resolv.conf. What is bad in a file is left out; all
//! of it is bounded.
use super::name;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

const PORT: u16 = 53;
/// The most of a file that is read.
const LARGEST_FILE: u64 = 64 * 1024;
const MOST_SERVERS: usize = 8;
const MOST_SEARCHED: usize = 16;
const MOST_DOTS: usize = 15;
const MOST_ATTEMPTS: u32 = 5;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Which name servers to ask, and how. See `resolv.conf(5)` for what the words of a file mean.
///
/// ```
/// use twistlet::transport::dns::Config;
///
/// let config = Config::parse("nameserver 192.0.2.1\nsearch corp.example.org\noptions timeout:2 nonsense\nrubbish\n");
/// assert_eq!(config.servers(), ["192.0.2.1:53".parse().unwrap()]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    servers: Vec<SocketAddr>,
    pub(super) search: Vec<String>,
    pub(super) dots: usize,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) rotate: bool,
    pub(super) tcp_only: bool,
    pub(super) payload: Option<u16>,
    pub(super) cached: usize,
    pub(super) negative: Duration,
}

impl Default for Config {
    /// No servers yet, and what glibc does otherwise: 5 seconds, 2 attempts, 1 dot.
    fn default() -> Self {
        Config {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            tcp_only: false,
            // What fits the smallest packet that is never broken up on its way.
            payload: Some(1232),
            cached: 1024,
            negative: Duration::from_secs(300),
        }
    }
}

impl Config {
    /// No servers yet; without any the one on this machine is asked.
    pub fn new() -> Self {
        Config::default()
    }
    /// As /etc/resolv.conf says; the default when it cannot be read.
    ///
    /// # Blocking
    /// While that file is read.
    pub fn system() -> Self {
        Config::read("/etc/resolv.conf").unwrap_or_else(|error| {
            log::warn!(target: "twistlet", "/etc/resolv.conf was not read, so the name server is 127.0.0.1: {error}");
            Config::new()
        })
    }
    /// As a file says, of which 64 KiB are read at most.
    ///
    /// # Errors
    /// The system's, when it cannot be read.
    ///
    /// # Blocking
    /// While the file is read.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(path)?.take(LARGEST_FILE).read_to_end(&mut text)?;
        Ok(Config::parse(&String::from_utf8_lossy(&text)))
    }
    /// As the text of a resolv.conf says. Lines and options that are none are left out, as are servers after the eighth and
    /// searched domains after the sixteenth.
    pub fn parse(text: &str) -> Self {
        let mut config = Config::new();
        for line in text.lines() {
            let mut words = line.split([';', '#']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    if let Some(server) = words.next().and_then(server_address) {
                        config = config.server(server);
                    } else {
                        log::debug!(target: "twistlet", "no name server: {line:?}");
                    }
                }
                // Of several such lines the last one holds.
                Some("search") => config.search = domains(words),
                Some("domain") => config.search = domains(words.take(1)),
                Some("options") => words.for_each(|word| config.option(word)),
                _ => {}
            }
        }
        config
    }
    fn option(&mut self, word: &str) {
        let (name, number) = match word.split_once(':') {
            Some((name, number)) => (name, number.parse::<u32>().ok()),
            None => (word, None),
        };
        match (name, number) {
            ("ndots", Some(n)) => self.dots = (n as usize).min(MOST_DOTS),
            ("timeout", Some(n)) => self.timeout = limit(Duration::from_secs(n.into())),
            ("attempts", Some(n)) => self.attempts = n.clamp(1, MOST_ATTEMPTS),
            ("rotate", None) => self.rotate = true,
            ("use-vc", None) => self.tcp_only = true,
            _ => {}
        }
    }

    /// Asks this server too, after those before it; eight at most.
    pub fn server(mut self, server: SocketAddr) -> Self {
        if self.servers.len() < MOST_SERVERS && !self.servers.contains(&server) {
            self.servers.push(server);
        }
        self
    }
    /// The domains that host names are completed with, in this order; sixteen at most. Default: none.
    pub fn search<'a>(mut self, domains: impl IntoIterator<Item = &'a str>) -> Self {
        self.search = self::domains(domains.into_iter());
        self
    }
    /// A host name with so many dots is first tried as it is. Default: 1.
    pub fn dots(mut self, dots: usize) -> Self {
        self.dots = dots.min(MOST_DOTS);
        self
    }
    /// How long to wait for one server's answer: 30 seconds at most, a millisecond at least. Default: 5 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = self::limit(limit);
        self
    }
    /// How often to go through all servers: 1 to 5. Default: 2.
    pub fn attempts(mut self, n: u32) -> Self {
        self.attempts = n.clamp(1, MOST_ATTEMPTS);
        self
    }
    /// Whether each look-up begins with the next server instead of the first. Default: no.
    pub fn rotate(mut self, on: bool) -> Self {
        self.rotate = on;
        self
    }
    /// Whether to ask by TCP at once, instead of when an answer did not fit a datagram. Default: no.
    pub fn tcp_only(mut self, on: bool) -> Self {
        self.tcp_only = on;
        self
    }
    /// The largest answer that servers are told they may send in a datagram (EDNS0): 512 at least; `None` asks without EDNS.
    /// Default: 1,232 bytes.
    pub fn payload(mut self, bytes: Option<u16>) -> Self {
        self.payload = bytes.map(|bytes| bytes.max(512));
        self
    }
    /// How many answers to remember for as long as they hold. Default: 1,024; 0 remembers none.
    pub fn cache(mut self, answers: usize) -> Self {
        self.cached = answers;
        self
    }
    /// How long at most to remember that something does not exist; zero remembers no such thing. Default: 5 minutes.
    pub fn negative_cache(mut self, longest: Duration) -> Self {
        self.negative = longest;
        self
    }
    /// Whom to ask, in this order.
    pub fn servers(&self) -> Vec<SocketAddr> {
        match &self.servers[..] {
            [] => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))],
            servers => servers.to_vec(),
        }
    }
}

fn limit(limit: Duration) -> Duration {
    limit.clamp(Duration::from_millis(1), LONGEST_TIMEOUT)
}

/// Those that are domain names.
fn domains<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    words.filter(|word| name::parse(word).is_ok()).take(MOST_SEARCHED).map(str::to_owned).collect()
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
fn server_address(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (ip, scope) = text.split_once('%')?;
    Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope_number(scope)?).into())
}

/// The number of a network interface; its name is looked up where Linux keeps it.
fn scope_number(scope: &str) -> Option<u32> {
    if let Ok(number) = scope.parse() {
        return Some(number);
    }
    // Not a way out of the directory.
    if scope.is_empty() || scope.len() > 15 || scope.contains('/') || scope.starts_with('.') {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{scope}/ifindex")).ok()?.trim().parse().ok()
}
