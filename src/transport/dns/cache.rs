//! Answers that still hold. Bounded in answers and in records; a full cache forgets what expires first.
use super::error::DnsError;
use super::record::{Record, RecordType};
use std::collections::HashMap;
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
    expires: Instant,
}
impl Entry {
    fn records(&self) -> usize {
        self.outcome.as_ref().map_or(1, |records| records.len())
    }
}

pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    records: usize,
    limit: usize,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Cache { entries: HashMap::new(), records: 0, limit }
    }

    /// What is known, and for how much longer than when it was noted it has been known.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<(Outcome, Duration)> {
        let entry = self.entries.get(key)?;
        if entry.expires <= now {
            self.remove(&key.clone());
            return None;
        }
        Some((entry.outcome.clone(), now.saturating_duration_since(entry.noted)))
    }

    pub(super) fn put(&mut self, key: Key, outcome: Outcome, ttl: Duration, now: Instant) {
        let entry = Entry { outcome, noted: now, expires: now + ttl };
        if ttl.is_zero() || self.limit == 0 || entry.records() > MOST_RECORDS {
            return;
        }
        self.remove(&key);
        self.records += entry.records();
        self.entries.insert(key, entry);
        if self.is_over() {
            let old: Vec<Key> = self.entries.iter().filter(|it| it.1.expires <= now).map(|it| it.0.clone()).collect();
            old.iter().for_each(|key| self.remove(key));
        }
        while self.is_over() {
            let Some(first) = self.entries.iter().min_by_key(|it| it.1.expires).map(|it| it.0.clone()) else { break };
            self.remove(&first);
        }
    }
    fn is_over(&self) -> bool {
        self.entries.len() > self.limit || self.records > self.limit.saturating_mul(RECORDS_EACH)
    }
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.records -= entry.records();
        }
    }
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.records = 0;
    }
}
