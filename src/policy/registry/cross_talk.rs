//! Every annotation beside every other one of another family: each decides its own fields of the policies and nothing
//! else, whatever the other says (P9; CVE-2026-4342 was two annotations that together said what neither said alone).

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::policy::annotation::sample::{PREFIX, ingress};

/// Field of the policies, such as `route.cors`, to how it reads.
type Fields = BTreeMap<String, String>;

/// What configurations were broken out of with.
const HOSTILE: &str = "x\"'; } #/*${y}\\ {%0a\u{e9}<>`|&";

/// A ConfigMap that takes every annotation.
fn open() -> Globals {
    Globals { allow_snippet_annotations: true, annotations_risk_level: Risk::Critical, ..Globals::default() }
}

/// Fields of the policies of an Ingress with these annotations.
fn fields_of(annotations: &[(&str, &str)]) -> Fields {
    let (policies, _) = read(&ingress(annotations), PREFIX, true, &open(), Objects::NONE);
    let text = format!("{policies:#?}");
    let (mut fields, mut top, mut name) = (Fields::new(), String::new(), String::new());
    for line in text.lines() {
        let inner = line.trim_start();
        // What closes a field stands as far left as its name.
        match (line.len() - inner.len(), inner.split_once(": ")) {
            (4, Some((field, _))) => {
                field.clone_into(&mut top);
                name.clone_from(&top);
            }
            (8, Some((field, _))) => name = format!("{top}.{field}"),
            _ => {}
        }
        fields.entry(name.clone()).or_default().push_str(inner);
    }
    // Which objects are named is a set of both by nature.
    fields.retain(|name, _| !name.starts_with("references"));
    fields
}

/// One annotation with one value, and what it alone makes of the policies.
struct Alone {
    family: usize,
    name: &'static str,
    value: &'static str,
    fields: Fields,
}

fn alone() -> Vec<Alone> {
    let mut all = Vec::new();
    for (family, specs) in FAMILIES.iter().enumerate() {
        for spec in *specs {
            for value in [spec.example, HOSTILE] {
                let fields = fields_of(&[(spec.name, value)]);
                all.push(Alone { family, name: spec.name, value, fields });
            }
        }
    }
    all
}

/// Fields that are neither what one of both makes of them nor, where neither touches them, as without both.
fn crossed(one: &Alone, other: &Alone, base: &Fields) -> Vec<String> {
    let both = fields_of(&[(one.name, one.value), (other.name, other.value)]);
    let names: BTreeSet<&String> = both.keys().chain(base.keys()).collect();
    let is_own = |name: &&&String| {
        let (mine, theirs, without) = (one.fields.get(**name), other.fields.get(**name), base.get(**name));
        let got = both.get(**name);
        match (mine == without, theirs == without) {
            (true, _) => got == theirs,
            (false, true) => got == mine,
            (false, false) => got == mine || got == theirs,
        }
    };
    names.iter().filter(|name| !is_own(name)).map(|name| (**name).clone()).collect()
}

#[test]
fn pairwise_annotations_have_no_cross_talk() {
    let (all, base) = (alone(), fields_of(&[]));
    let mut wrong = BTreeMap::new();
    for (at, one) in all.iter().enumerate() {
        for other in all.iter().skip(at + 1).filter(|other| other.family != one.family) {
            let fields = crossed(one, other, &base);
            if !fields.is_empty() {
                let pair = (FAMILIES[one.family][0].name, FAMILIES[other.family][0].name);
                wrong.entry(pair).or_insert_with(|| {
                    format!(
                        "{} = {:?} and {} = {:?}: {fields:?}",
                        one.name, one.value, other.name, other.value
                    )
                });
            }
        }
    }
    let wrong: Vec<String> = wrong.into_values().collect();
    assert!(wrong.is_empty(), "{} pairs of families:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn anno_control_chars_are_invalid_in_every_annotation() {
    for spec in specs() {
        let half = spec.example.char_indices().nth(spec.example.chars().count() / 2).map_or(0, |(at, _)| at);
        let (start, end) = spec.example.split_at(half);
        for byte in (1..0x20_u8).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\n')) {
            let value = format!("{start}{}{end}", char::from(byte));
            let ingress = ingress(&[(spec.name, &value)]);
            let (_, told) = read(&ingress, PREFIX, true, &open(), Objects::NONE);
            let named = format!("metadata.annotations[{PREFIX}/{}]", spec.name);
            assert!(told.iter().any(|one| one.field == named), "{} took 0x{byte:02x}: {told:?}", spec.name);
        }
    }
}
