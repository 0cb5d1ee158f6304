//! Questions as bytes, and what the bytes that come back say to a question. Whatever is not an answer to this very question, by
//! number, name, type and class, says nothing at all: anybody can send a datagram.
use super::error::DnsError;
use super::record::{self, Record, RecordType};
use crate::failure;
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{self, DNSClass, Name, RData};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use std::time::Duration;

const HEADER: usize = 12;
/// Aliases of aliases that are followed.
pub(super) const MOST_ALIASES: usize = 16;

const FORMAT_ERROR: u16 = 1;
const NO_SUCH_NAME: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;
const BAD_VERSION: u16 = 16;

/// What is asked.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: RecordType,
}

/// What the answer says.
pub(super) enum Reply {
    /// The records, and how long all of this holds.
    Records(Vec<Record>, Duration),
    /// The name is an alias of another, about which the answer says nothing; after so many steps.
    Alias { target: Name, steps: usize },
    /// There is no such name, as may be relied on for some time.
    NoSuchName(Duration),
    /// It has no such records.
    NoRecords(Duration),
    /// Aliases without end.
    TooManyAliases,
    /// The answer did not fit.
    Truncated,
    /// The server does not understand the extension by which it was told how much fits.
    NoExtensions,
    /// The server has no answer, and another might have one.
    Failed(Option<u16>),
}

impl Question {
    /// # Errors
    /// When it cannot be asked.
    pub(super) fn new(name: Name, kind: RecordType) -> Result<Question, DnsError> {
        if kind.is_askable() { Ok(Question { name, kind }) } else { Err(DnsError::InvalidType { kind }) }
    }

    /// The question as a message.
    pub(super) fn encode(&self, id: u16, payload: Option<u16>) -> Option<Vec<u8>> {
        let mut message = Message::query();
        message.metadata.id = id;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), rr::RecordType::from(self.kind.0)));
        if let Some(bytes) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(bytes).set_version(0);
            message.set_edns(edns);
        }
        message.to_vec().ok()
    }

    /// What `bytes` say, if they are an answer to this question under this number.
    pub(super) fn read(&self, id: u16, bytes: &[u8]) -> Option<Reply> {
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let (number, flags, questions) = (word(0)?, word(2)?, word(4)?);
        let is_response = flags & 0x8000 != 0;
        let is_query_kind = flags & 0x7800 == 0;
        if number != id || !is_response || !is_query_kind {
            return None;
        }
        let code = flags & 0x000f;
        // Some old servers say no more than that they did not understand.
        if questions == 0 && matches!(code, FORMAT_ERROR | NOT_IMPLEMENTED) && bytes.len() == HEADER {
            return Some(Reply::NoExtensions);
        }
        // The library is not known to panic; whatever it does, a stranger's bytes must not close our socket.
        let read = failure::catch(|| {
            if questions != 1 || !self.is_asked_in(bytes) {
                return None;
            }
            if flags & 0x0200 != 0 {
                return Some(Reply::Truncated);
            }
            Some(match Message::from_vec(bytes) {
                Ok(message) => self.interpret(&message),
                Err(error) => {
                    log::debug!(target: "twistlet", "the answer about {} is no valid message: {error}", self.name);
                    Reply::Failed(None)
                }
            })
        });
        read.unwrap_or(Some(Reply::Failed(None)))
    }

    fn is_asked_in(&self, bytes: &[u8]) -> bool {
        let mut decoder = BinDecoder::new(bytes);
        decoder.read_slice(HEADER).is_ok()
            && Query::read(&mut decoder).is_ok_and(|asked| {
                // Names compare without regard to case.
                asked.name == self.name
                    && u16::from(asked.query_type) == self.kind.0
                    && asked.query_class == DNSClass::IN
            })
    }

    fn interpret(&self, message: &Message) -> Reply {
        let code = u16::from(message.metadata.response_code);
        match code {
            0 | NO_SUCH_NAME => {}
            FORMAT_ERROR | NOT_IMPLEMENTED | BAD_VERSION => return Reply::NoExtensions,
            other => return Reply::Failed(Some(other)),
        }
        let (mut name, mut steps, mut holds) = (&self.name, 0, u32::MAX);
        loop {
            let ours =
                || message.answers.iter().filter(|record| record.dns_class == DNSClass::IN && record.name == *name);
            let found: Vec<&rr::Record> = ours().filter(|record| self.wants(record)).collect();
            if !found.is_empty() {
                let holds = found.iter().map(|record| record.ttl).min().unwrap_or(0).min(holds);
                return Reply::Records(found.into_iter().map(Record::new).collect(), record::ttl(holds));
            }
            let alias = ours().find_map(|record| match &record.data {
                RData::CNAME(target) => Some((&target.0, record.ttl)),
                _ => None,
            });
            let Some((target, ttl)) = alias else { break };
            (name, steps, holds) = (target, steps + 1, holds.min(ttl));
            if steps > MOST_ALIASES {
                return Reply::TooManyAliases;
            }
        }
        let start = message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
            _ => None,
        });
        let negative = record::ttl(start.unwrap_or(0).min(holds));
        if code == NO_SUCH_NAME {
            Reply::NoSuchName(negative)
        } else if start.is_some() {
            Reply::NoRecords(negative)
        } else if steps > 0 {
            Reply::Alias { target: name.clone(), steps }
        } else if message.metadata.authoritative || message.metadata.recursion_available {
            Reply::NoRecords(negative)
        } else {
            // It points at other servers: it does not look things up for us.
            Reply::Failed(None)
        }
    }
    fn wants(&self, record: &rr::Record) -> bool {
        self.kind == RecordType::ANY || u16::from(record.record_type()) == self.kind.0
    }
}
