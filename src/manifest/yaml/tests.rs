//! Documents and their lines, and what hostile text is bounded by.

use super::*;

fn show(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => match scalar.kind {
            ScalarKind::Text => format!("{:?}@{}", scalar.text, node.line),
            _ => format!("{}@{}", scalar.text, node.line),
        },
        Value::List(items) => {
            format!("[{}]@{}", items.iter().map(show).collect::<Vec<_>>().join(" "), node.line)
        }
        Value::Map(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|entry| format!("{}@{}={}", entry.key, entry.line, show(&entry.value)))
                .collect();
            format!("{{{}}}@{}", entries.join(" "), node.line)
        }
    }
}

#[track_caller]
fn check(text: &str, expect: &[&str]) {
    let found: Vec<String> = documents(text.as_bytes())
        .iter()
        .map(|document| match document {
            Ok(node) => show(node),
            Err(broken) => format!("line {:?}: {}", broken.line, broken.reason),
        })
        .collect();
    assert_eq!(found, expect, "{text}");
}

#[test]
fn values_carry_the_line_they_stand_on() {
    check("a: 1\nb:\n- x\n- {c: 'd'}\n", &["{a@1=1@1 b@2=[\"x\"@3 {c@4=\"d\"@4}@4]@3}@1"]);
}

#[test]
fn json_is_read_as_the_yaml_it_is() {
    check(
        "{\"a\": [1, \"two\\u00e9\", null],\n\t\"b\": {\"c\": true}}",
        &["{a@1=[1@1 \"twoé\"@1 null@1]@1 b@2={c@2=true@2}@2}@1"],
    );
}

#[test]
fn documents_are_split_and_empty_ones_left_out() {
    check("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n", &["{a@3=1@3}@3", "{b@7=2@7}@7"]);
    check("", &[]);
    check("\u{feff}a: 1\n", &["{a@1=1@1}@1"]);
}

#[test]
fn a_broken_document_leaves_its_neighbours_alone() {
    let found = documents(b"a: 1\n---\nb: [1\n---\nc: 3\n---\nd: {x: 1, x: 2}\n---\ne: 5\n");
    let sound: Vec<String> = found.iter().flatten().map(show).collect();
    assert_eq!(sound, ["{a@1=1@1}@1", "{c@5=3@5}@5", "{e@9=5@9}@9"]);
    assert_eq!(found.iter().filter(|document| document.is_err()).count(), 2);
}

#[test]
fn tabs_as_indentation_name_their_line() {
    let found = documents(b"a:\n  b:\n\tc: 2\n");
    let broken = found.iter().find_map(|document| document.as_ref().err()).unwrap();
    assert_eq!((broken.line, broken.hint), (Some(3), "indent with spaces"), "{broken:?}");
}

#[test]
fn anchors_and_merges_work_as_in_kubectl() {
    check(
        "x: &a {p: 1, q: 2}\ny: *a\nz:\n  <<: *a\n  q: 3\n",
        &["{x@1={p@1=1@1 q@1=2@1}@1 y@2={p@1=1@1 q@1=2@1}@2 z@3={q@5=3@5 p@4=1@1}@4}@1"],
    );
}

#[test]
fn tags_of_the_core_schema_count_and_others_are_refused() {
    check("a: !!str 80\n", &["{a@1=\"80\"@1}@1"]);
    check("a: !!int 80\n", &["{a@1=80@1}@1"]);
    check("a: !secret x\n", &["line Some(1): the tag `!secret` has no meaning here"]);
    check("a: !!int x\n", &["line Some(1): the tag `!!int` has no meaning here"]);
}

#[test]
fn keys_must_be_unique_strings() {
    check("a: 1\na: 2\n", &["line Some(2): the key \"a\" is given twice in one mapping"]);
    check("? [a, b]\n: 1\n", &["line Some(1): a key must be a string"]);
}

#[test]
fn bytes_that_are_no_text_name_their_line() {
    let found = documents(b"a: 1\nb: \xff\n");
    assert_eq!(found.len(), 1);
    let broken = found[0].as_ref().unwrap_err();
    assert_eq!((broken.line, broken.reason.as_str()), (Some(2), "the file is not UTF-8"));
}

#[test]
fn a_file_above_the_limit_is_refused() {
    let broken = documents(&vec![b' '; MAX_FILE_BYTES + 1]);
    assert!(broken[0].as_ref().unwrap_err().reason.contains("at most"), "{broken:?}");
}

#[test]
fn nesting_is_bounded_with_and_without_aliases() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(documents(deep(MAX_DEPTH).as_bytes())[0].is_ok());
    assert!(documents(deep(MAX_DEPTH + 1).as_bytes())[0].is_err());
    let mut chained = "a0: &a0 [1]\n".to_owned();
    for level in 1..=MAX_DEPTH {
        chained.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let found = documents(chained.as_bytes());
    let broken = found[0].as_ref().unwrap_err();
    assert!(broken.reason.contains("nested deeper"), "{broken:?}");
}

#[test]
fn aliases_cannot_grow_a_small_file_into_a_large_one() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", ")));
    }
    let found = documents(bomb.as_bytes());
    let broken = found[0].as_ref().unwrap_err();
    assert!(broken.reason.contains("aliases"), "{broken:?}");
}

#[test]
fn an_alias_inside_its_own_value_is_refused() {
    check("a: &a [*a]\n", &["line Some(1): an alias stands inside the value that it names"]);
}
