//! Answers that still hold. Bounded in answers and in records; a full cache forgets what expires first.
use super::error::DnsError;
use super::record::{Record, RecordType};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// An answer with more records is not worth its memory.
const MOST_RECORDS: usize = 256;
/// Records in all, for each answer that may be kept.
const RECORDS_EACH: usize = 8;

/// A name in lower case, and the type.
pub(super) type Key = (String, RecordType);
pub(super) type Outcome = Result<Rc<[Record]>, DnsError>;

struct Entry {
    outcome: Outcome,
    noted: Instant,
    /// When it expires, and a number that makes this its own.
    expires: (Instant, u64),
}
impl Entry {
    fn records(&self) -> usize {
        self.outcome.as_ref().map_or(1, |records| records.len())
    }
}

pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// The same, the first to expire first.
    order: BTreeMap<(Instant, u64), Key>,
    made: u64,
    records: usize,
    limit: usize,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Cache { entries: HashMap::new(), order: BTreeMap::new(), made: 0, records: 0, limit }
    }

    /// What is known, and for how much longer than when it was noted it has been known.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<(Outcome, Duration)> {
        let entry = self.entries.get(key)?;
        if entry.expires.0 <= now {
            self.remove(key);
            return None;
        }
        Some((entry.outcome.clone(), now.saturating_duration_since(entry.noted)))
    }

    pub(super) fn put(&mut self, key: Key, outcome: Outcome, ttl: Duration, now: Instant) {
        self.made += 1;
        let entry = Entry { outcome, noted: now, expires: (now + ttl, self.made) };
        if ttl.is_zero() || self.limit == 0 || entry.records() > MOST_RECORDS {
            return;
        }
        self.remove(&key);
        self.records += entry.records();
        self.order.insert(entry.expires, key.clone());
        self.entries.insert(key, entry);
        while self.is_over() {
            let Some((_, first)) = self.order.pop_first() else { break };
            self.remove(&first);
        }
    }
    fn is_over(&self) -> bool {
        self.entries.len() > self.limit || self.records > self.limit.saturating_mul(RECORDS_EACH)
    }
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.records -= entry.records();
            self.order.remove(&entry.expires);
        }
    }
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.records = 0;
    }
}
