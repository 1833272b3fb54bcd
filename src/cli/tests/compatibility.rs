//! docs/compatibility.md: every annotation, key and flag of ingress-nginx with what it means here, in one page, made from
//! the tables that the program reads. The README quotes its totals.

use std::fmt::Write;
use std::path::Path;

use crate::policy::annotation::Fidelity;
use crate::policy::global::{Effect, KEYS};
use crate::policy::registry::specs;

/// Rows of one table: name, word for the fidelity, remark.
type Rows = Vec<(String, &'static str, String)>;

fn annotations() -> Rows {
    let mut rows: Rows = specs()
        .map(|spec| {
            let (word, remark) = match spec.fidelity {
                Fidelity::Exact => ("exact", ""),
                Fidelity::Equivalent(what) => ("equivalent", what),
                Fidelity::AcceptedNoEffect(why) => ("no effect", why),
                Fidelity::Refused(why) => ("refused", why),
            };
            (spec.name.to_owned(), word, remark.to_owned())
        })
        .collect();
    rows.sort();
    rows
}

fn keys() -> Rows {
    KEYS.iter()
        .map(|key| {
            let (word, remark) = match key.effect {
                Effect::Applied => ("applied", ""),
                Effect::NoMeaning => ("no meaning here", ""),
                Effect::Refused(why) => ("refused", why),
            };
            (key.name.to_owned(), word, remark.to_owned())
        })
        .collect()
}

fn flags() -> Rows {
    let command = super::command();
    let controller = command.find_subcommand("controller").expect("it is a command");
    let mut rows: Rows = controller
        .get_arguments()
        .filter_map(|arg| Some((arg.get_long()?, arg)))
        .map(|(name, arg)| {
            let ignored =
                arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "IGNORED"));
            let why = arg.get_help().filter(|_| ignored).map(ToString::to_string).unwrap_or_default();
            (format!("--{name}"), if ignored { "accepted, changes nothing" } else { "applied" }, why)
        })
        .collect();
    rows.sort();
    rows
}

fn section(out: &mut String, title: &str, rows: &Rows, words: &[&str]) {
    let count = |word: &str| rows.iter().filter(|(_, found, _)| *found == word).count();
    let counts: Vec<String> = words.iter().map(|word| format!("{} {word}", count(word))).collect();
    assert_eq!(words.iter().map(|word| count(word)).sum::<usize>(), rows.len(), "{title}: a word is missing");
    let _ = write!(
        out,
        "\n## {title}\n\n{} in all: {}.\n\n| name | here | remark |\n|---|---|---|\n",
        rows.len(),
        counts.join(", ")
    );
    for (name, word, remark) in rows {
        let _ = writeln!(out, "| `{name}` | {word} | {} |", remark.replace('|', "\\|"));
    }
}

fn page() -> String {
    let mut out = String::from(
        "# Compatibility\n\nEvery annotation, ConfigMap key and flag, and what it means here. \
         [annotations.md](annotations.md) and [configmap.md](configmap.md) say what each does; \
         [differences.md](differences.md) tells deliberate differences.\n",
    );
    section(&mut out, "Annotations", &annotations(), &["exact", "equivalent", "no effect", "refused"]);
    section(&mut out, "Keys of the ConfigMap", &keys(), &["applied", "no meaning here", "refused"]);
    section(&mut out, "Flags of `narthex controller`", &flags(), &["applied", "accepted, changes nothing"]);
    out
}

#[test]
fn the_page_is_up_to_date_and_the_readme_quotes_its_totals() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (path, page) = (root.join("docs/compatibility.md"), page());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/compatibility.md is out of date: run the tests with UPDATE_GOLDEN=1");
    let rows = annotations();
    let meant = rows.iter().filter(|(_, word, _)| matches!(*word, "exact" | "equivalent")).count();
    let claim = format!("{meant} of {} annotations", rows.len());
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    assert!(readme.contains(&claim), "the README should say: {claim}");
}
