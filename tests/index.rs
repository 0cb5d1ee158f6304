//! `tests/README.md` says which test shows which case: every test it names must exist, and no case may have two rows.
use std::collections::HashMap;
use std::path::Path;

/// The kinds of ids that are cases; rules may have several rows.
const CASES: &[&str] = &["TWC-", "GLC-", "PRC-", "EQS-", "GTC-", "PTC-", "HBC-"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in backticks and looks like `file::test`, with `file` one of tests/, or a file under src/.
fn named(row: &str) -> Vec<(String, String)> {
    let quoted = row.split('`').skip(1).step_by(2);
    let pairs = quoted.filter_map(|text| text.rsplit_once("::"));
    pairs
        .filter(|(_, test)| test.contains('_') && !test.contains(char::is_uppercase))
        .filter_map(|(file, test)| {
            let path = if file.starts_with("src/") { file.to_owned() } else { format!("tests/{file}.rs") };
            Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).exists().then(|| (path, test.to_owned()))
        })
        .collect()
}

/// Written out, or made by a macro from a list of `name: body`.
fn has_test(text: &str, name: &str) -> bool {
    text.contains(&format!("fn {name}(")) || text.contains(&format!(" {name}: "))
}

fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let table = text.split("## Conformance cases").nth(1).expect("the table of cases");
    table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).filter(|(id, _)| *id != "id")
}

#[test]
fn every_test_named_in_the_index_exists() {
    let index = read("tests/README.md");
    let mut files = HashMap::new();
    let mut found = 0;
    for (id, cell) in rows(&index) {
        for (path, test) in named(cell) {
            let text = files.entry(path.clone()).or_insert_with_key(|path| read(path));
            assert!(has_test(text, &test), "{id}: there is no {test} in {path}");
            found += 1;
        }
    }
    assert!(found > 250, "only {found} tests are named: is the table read at all?");
}

#[test]
fn no_case_has_two_rows_and_every_row_says_something() {
    let index = read("tests/README.md");
    let mut seen = HashMap::new();
    for (ids, cell) in rows(&index) {
        assert!(cell.trim_end_matches(['|', ' ']).len() > 2, "{ids}: neither a test nor a reason");
        for id in ids.split(", ").filter(|id| CASES.iter().any(|kind| id.starts_with(kind))) {
            assert!(seen.insert(id.to_owned(), ids).is_none(), "{id} has two rows");
        }
    }
}

/// Sections of the rules and how many each has, so that none can fall out of the table.
const RULES: &[(&str, u32)] = &[
    ("HB", 51),
    ("GT", 26),
    ("TO", 16),
    ("PR", 37),
    ("EV", 13),
    ("Q", 13),
    ("LQ", 16),
    ("SE", 12),
    ("GP", 14),
    ("PL", 5),
    ("DB", 4),
    ("CL", 1),
    ("TP", 10),
    ("GM", 13),
    ("CV", 5),
    ("WS", 1),
    ("WB", 1),
    ("DG", 2),
    ("BD", 1),
    ("TW", 63),
    ("SL", 11),
    ("EX", 6),
    ("UA", 37),
    ("RS", 37),
];

/// `TW-18 to TW-20` is three ids.
fn ids(cell: &str) -> Vec<String> {
    let mut all = Vec::new();
    for part in cell.trim_end_matches(" (P2)").split(", ") {
        let Some((first, last)) = part.split_once(" to ") else {
            all.push(part.to_owned());
            continue;
        };
        let number =
            |id: &str| id.rsplit_once('-').and_then(|(kind, n)| Some((kind.to_owned(), n.parse::<u32>().ok()?)));
        let ((kind, from), (_, to)) = number(first).zip(number(last)).expect("a range of ids");
        all.extend((from..=to).map(|n| format!("{kind}-{n:02}")));
    }
    all
}

#[test]
fn every_rule_has_one_row() {
    let index = read("tests/README.md");
    let table = index.split("## Rules of the specification").nth(1).expect("the table of rules");
    let mut seen = HashMap::new();
    for (cell, _) in table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")) {
        for id in ids(cell) {
            assert!(seen.insert(id.clone(), cell).is_none(), "{id} has two rows");
        }
    }
    for (kind, count) in RULES {
        for id in (1..=*count).map(|n| format!("{kind}-{n:02}")) {
            assert!(seen.contains_key(&id), "{id} has no row");
        }
    }
}

/// Twisted's rules: sections and how many each has; those of priority P2 may be left out.
const TWISTED: &[(&str, u32)] = &[
    ("DEF", 72),
    ("ERR", 9),
    ("REA", 30),
    ("TIM", 10),
    ("THR", 15),
    ("DNS", 6),
    ("TCP", 38),
    ("LIS", 12),
    ("CON", 12),
    ("PRO", 8),
    ("REC", 5),
    ("LIN", 11),
    ("INT", 5),
    ("NET", 3),
    ("FIL", 1),
    ("LOO", 8),
    ("COO", 9),
    ("DLA", 2),
    ("CLK", 3),
    ("END", 18),
    ("POL", 7),
    ("TLS", 16),
    ("UDP", 7),
    ("UNX", 6),
    ("PRC", 10),
    ("STD", 1),
    ("SVC", 6),
    ("CLI", 9),
    ("SRV", 5),
    ("HAP", 3),
    ("PFW", 1),
    ("SYD", 1),
    ("TST", 7),
];
/// The cases from Twisted's own tests, and those from experiments with it.
const TWISTED_CASES: &str = "\
    D01 D02 D04 D09 D10 D11 D12 D14 D15 D18 D21 D25 D27 D28 D30 D33 D34 D37 D38 D39 D40 D42 D43 D44 D45 D47 D48 D49 D50 \
    D52 D53 D54 D55 D56 D57 D58 D60 R01 R02 R03 R04 R05 R06 R07 R09 R11 R13 R15 R16 R17 R19 R20 R21 R24 R25 T02 T04 T05 \
    T06 T08 T09 T10 T11 T12 T14 T15 T16 T17 T18 T19 T24 T25 T26 P01 P02 P04 P05 P08 P13 P14 P16 P17 P18 P20 K01 K04 K05 \
    K06 K09 K10 K12 K13 K14 K15 E01 E04 E07 E09 DX01 DX02 DX04 DX06 DX09 DX10 DX11 DX13 DX14 DX15 DX16 DX17 DX18 RX02 \
    RX03 RX04 RX05 RX06 RX11 RX12 RX14 TX02 TX04 TX06 TX07 TX09 TX10 TX11 TX15 TX18 TX20 PX01 PX04 PX05 PX06 PX07 PX08 \
    PX09 PX11 KX01 KX05 KX06 KX07 KX08 KX09 KX10 EX02 EX03 EX05 EX07 N01 N02 N03 N04 N05 N06 N07 N08 N09 N10 N12 N13 N14 \
    N15";

#[test]
fn every_rule_and_case_of_twisted_has_a_row() {
    let index = read("tests/README.md");
    let seen: std::collections::HashSet<&str> = rows(&index).flat_map(|(ids, _)| ids.split(", ")).collect();
    for (kind, count) in TWISTED {
        for id in (1..=*count).map(|n| format!("{kind}-{n}")) {
            assert!(seen.contains(&*id), "{id} has no row");
        }
    }
    for id in TWISTED_CASES.split_whitespace() {
        assert!(seen.contains(id), "{id} has no row");
    }
}

#[test]
fn what_looks_like_a_test_is_in_a_file_of_tests() {
    let index = read("tests/README.md");
    for (cell, row) in rows(&index) {
        for text in
            row.split('`').skip(1).step_by(2).filter(|text| text.matches('_').count() > 3 && !text.starts_with(".."))
        {
            let file = text.rsplit_once("::").map(|(file, _)| file);
            assert!(file.is_some() && !named(&format!("`{text}`")).is_empty(), "{cell}: {text} names no file of tests");
        }
    }
}
