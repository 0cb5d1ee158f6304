//! The architecture as a test: which module may import which, how long a file may get, where `unsafe` may stand.
//! Reads the sources as text; a made-up bad source at the end shows that each rule can fail.
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Every module directly under `src/`, lowest floor first. A module imports from its own line's floor or from lower ones.
const FLOORS: &[&[&str]] = &[
    &["error", "failure", "address", "clock"],
    &["sys"],
    &["greenlet"],
    &["deferred", "shared"],
    &["reactor"],
    &["task"],
    &["transport"],
    &["protocols"],
    &["endpoint"],
    &["service"],
    &["green"],
];
/// Beside the stairs: imports every floor, imported by none.
const BESIDE: &str = "testing";
/// Knows nothing of coroutines, though they live further down.
const CALLBACK_CORE: &[&str] =
    &["deferred", "shared", "reactor", "task", "transport", "protocols", "endpoint", "service"];
const LONGEST_FILE: usize = 500;

/// One file under `src/`: its path as `reactor/driver.rs`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// `reactor` for `reactor.rs` and for `reactor/driver.rs`.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// How many modules deep the file is: 1 for `reactor.rs`, 2 for `reactor/driver.rs`.
    fn depth(&self) -> usize {
        self.path.split('/').filter(|part| *part != "mod.rs").count()
    }
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Everything that is wrong with `source`, one complaint each.
fn complaints(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let path = &source.path;
    let code = strip(&source.text);
    if !source.text.starts_with("//!") {
        found.push(format!("{path} does not begin with `//!` lines that say what lives there"));
    }
    let lines = source.text.lines().count();
    if lines > LONGEST_FILE {
        found.push(format!("{path} has {lines} lines, more than {LONGEST_FILE}: split it by nouns"));
    }
    if source.module() != "sys" && words(&code).any(|word| word == "unsafe") {
        found.push(format!("{path} says `unsafe`, which belongs to src/sys alone"));
    }
    if path == "lib.rs" {
        for item in ["fn", "struct", "enum", "trait", "impl"] {
            if words(&code).any(|word| word == item) {
                found.push(format!("lib.rs defines something (`{item}`): it only declares modules and re-exports"));
            }
        }
        return found;
    }
    let module = source.module();
    if module != BESIDE && floor(module).is_none() {
        found.push(format!("{path}: module `{module}` has no floor: give it one in tests/floors.rs"));
        return found;
    }
    for target in imports(source, &code) {
        if let Some(reason) = forbidden(module, &target) {
            found.push(format!("{path} imports crate::{target}: {reason}"));
        }
    }
    found
}

fn forbidden(from: &str, to: &str) -> Option<String> {
    if from == BESIDE || from == to {
        return None;
    }
    if to == BESIDE {
        return Some("the test kit may import all and is imported by none".into());
    }
    let Some(there) = floor(to) else {
        return Some("not a module: inside the crate name the module, not the root's re-export".into());
    };
    let here = floor(from)?;
    if CALLBACK_CORE.contains(&from) && ["greenlet", "green"].contains(&to) {
        return Some(format!("`{from}` is of the callback core and knows nothing of coroutines"));
    }
    (there > here).then(|| format!("`{to}` is {} floors above `{from}`", there - here))
}

/// The top modules that `code` names through `crate::` or through `super::` chains that reach the root.
fn imports(source: &Source, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` counts; `some_crate::` does not.
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            heads(&code[at + "crate::".len()..], &mut found);
        }
    }
    let to_root = "super::".repeat(source.depth());
    for (at, _) in code.match_indices(&to_root) {
        if !code[..at].ends_with("super::") {
            let mut named = Vec::new();
            heads(&code[at + to_root.len()..], &mut named);
            // In an inline module `super` goes less far; what is then named is no floor.
            found.extend(named.into_iter().filter(|name| name == BESIDE || floor(name).is_some()));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The first segments of what follows `crate::`: one name, or those of a `{group}`.
fn heads(rest: &str, found: &mut Vec<String>) {
    let Some(group) = rest.strip_prefix('{') else {
        found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        return;
    };
    let mut depth = 0;
    let mut name = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(std::mem::take(&mut name)),
            _ if depth == 0 => name.push(c),
            _ => {}
        }
    }
    found.push(name);
    for name in found.iter_mut() {
        *name = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    }
    found.retain(|name| !name.is_empty() && name != "self");
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The code without comments and without what stands in string and character literals.
fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut code = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let before_is_word = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            'r' if !before_is_word || at(i - 1) == 'b' || at(i - 1) == 'c' => {
                let hashes = (i + 1..).take_while(|&j| at(j) == '#').count();
                if at(i + 1 + hashes) == '"' {
                    i += 2 + hashes;
                    while i < chars.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                        i += 1;
                    }
                    i += 1 + hashes;
                    code.push_str("\"\"");
                } else {
                    code.push('r');
                    i += 1;
                }
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
                code.push_str("\"\"");
            }
            // A character, not a lifetime: closed after one, or escaped.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
                code.push_str("' '");
            }
            c => {
                code.push(c);
                i += 1;
            }
        }
    }
    code
}

fn sources() -> Vec<Source> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(folder).expect("readable src/").map(|entry| entry.expect("entry").path()).collect();
        entries.sort();
        for entry in entries {
            if entry.is_dir() {
                walk(root, &entry, found);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let path = entry.strip_prefix(root).expect("below src/").to_string_lossy().into_owned();
                found.push(Source { path, text: std::fs::read_to_string(&entry).expect("readable source") });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found
}

#[test]
fn every_source_keeps_to_its_floor() {
    let sources = sources();
    assert!(sources.iter().any(|source| source.path == "lib.rs"), "src/ was not found");
    let mut report = String::new();
    for complaint in sources.iter().flat_map(complaints) {
        let _ = writeln!(report, "  {complaint}");
    }
    assert!(report.is_empty(), "the floors are broken:\n{report}");
}

#[track_caller]
fn assert_complains(path: &str, text: &str, about: &str) {
    let found = complaints(&Source { path: path.into(), text: text.into() });
    assert!(found.iter().any(|complaint| complaint.contains(about)), "{path}: {text:?} gave {found:?}");
}

#[track_caller]
fn assert_fine(path: &str, text: &str) {
    let found = complaints(&Source { path: path.into(), text: text.into() });
    assert!(found.is_empty(), "{path}: {text:?} gave {found:?}");
}

#[test]
fn a_bad_source_is_complained_about() {
    assert_complains("deferred.rs", "//! D.\nuse crate::reactor::Reactor;", "imports crate::reactor");
    assert_complains(
        "clock.rs",
        "//! C.\nuse crate::{failure::Result, deferred::{Deferred, Promise}};",
        "crate::deferred",
    );
    assert_complains("transport/tcp.rs", "//! T.\nfn f() { crate::green::sleep() }", "crate::green");
    assert_complains("reactor.rs", "//! R.\nuse crate::greenlet::Greenlet;", "knows nothing of coroutines");
    assert_complains("reactor/driver.rs", "//! R.\nuse super::super::transport::Wire;", "crate::transport");
    assert_complains("task.rs", "//! T.\nuse super::green::spawn;", "crate::green");
    assert_complains("green/queue.rs", "//! Q.\nuse crate::testing::Clock;", "imported by none");
    assert_complains("deferred.rs", "//! D.\nuse crate::{Reactor, failure::Failure};", "not the root's re-export");
    assert_complains("macros.rs", "//! M.", "has no floor");
    assert_complains("green/event.rs", "use crate::failure::Result;", "does not begin with");
    assert_complains("green/event.rs", &format!("//! E.\n{}", "\n".repeat(LONGEST_FILE)), "lines, more than");
    assert_complains("green/event.rs", "//! E.\nfn f() { unsafe { g() } }", "says `unsafe`");
    assert_complains("lib.rs", "//! L.\npub mod green;\npub fn helper() {}", "lib.rs defines something");
}

#[test]
fn a_good_source_is_not_complained_about() {
    assert_fine("green/net.rs", "//! N.\nuse crate::{reactor::Reactor, sys::{self, stack}};\nuse super::hub;");
    assert_fine("sys/stack.rs", "//! S.\nuse crate::failure::Failure;\nfn f() { unsafe { g() } }");
    assert_fine("testing.rs", "//! T.\nuse crate::green::spawn;");
    assert_fine(
        "deferred.rs",
        "//! D.\n// use crate::green::x;\n/* unsafe /* crate::green */ crate::green */ fn f() {}",
    );
    assert_fine(
        "deferred.rs",
        "//! D.\n#![forbid(unsafe_code)]\nconst S: &str = \"unsafe crate::green::x \\\" crate::green\";",
    );
    assert_fine(
        "deferred.rs",
        "//! D.\nconst S: &str = r#\"unsafe \" crate::green\"#; const Q: char = '\"'; fn f<'a>(x: &'a str) {}",
    );
    assert_fine("deferred/list.rs", "//! L.\nmod inner { use super::*; }\nuse super::Deferred;");
}
