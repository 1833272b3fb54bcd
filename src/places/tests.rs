//! Against databases that are written here, in MaxMind's format.

use super::template::Places as _;
use super::*;

/// Values of a database.
enum Value {
    Text(&'static str),
    Number(u32),
    Truth(bool),
    Map(Vec<(&'static str, Value)>),
    List(Vec<Value>),
}

use Value::{List, Map, Number, Text, Truth};

impl Value {
    /// Section "Data section" of the format: a control byte of type and size, then the bytes.
    fn write(&self, out: &mut Vec<u8>) {
        let size = |length: usize| u8::try_from(length).expect("small values only");
        match self {
            Text(text) => {
                assert!(text.len() < 29);
                out.push(2 << 5 | size(text.len()));
                out.extend_from_slice(text.as_bytes());
            }
            Number(number) => {
                out.push(6 << 5 | 4);
                out.extend_from_slice(&number.to_be_bytes());
            }
            // Extended types: the control byte names none, the next one is the type less seven.
            Truth(truth) => out.extend_from_slice(&[u8::from(*truth), 14 - 7]),
            List(items) => {
                out.extend_from_slice(&[size(items.len()), 11 - 7]);
                items.iter().for_each(|item| item.write(out));
            }
            Map(pairs) => {
                out.push(7 << 5 | size(pairs.len()));
                for (key, value) in pairs {
                    Text(key).write(out);
                    value.write(out);
                }
            }
        }
    }
}

/// A database of IPv4 that knows one network, 81.0.0.0/8.
fn database(kind: &'static str, record: &Value) -> Vec<u8> {
    const NODES: u32 = 8;
    let mut out = Vec::new();
    for bit in 0..NODES {
        let (next, nothing) = (if bit + 1 == NODES { NODES + 16 } else { bit + 1 }, NODES);
        let pair = if 81_u8 >> (7 - bit) & 1 == 0 { [next, nothing] } else { [nothing, next] };
        // Records of 24 bits.
        pair.iter().for_each(|record| out.extend_from_slice(&record.to_be_bytes()[1..]));
    }
    out.extend_from_slice(&[0; 16]);
    record.write(&mut out);
    out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let metadata = Map(vec![
        ("binary_format_major_version", Number(2)),
        ("binary_format_minor_version", Number(0)),
        ("build_epoch", Number(1_700_000_000)),
        ("database_type", Text(kind)),
        ("description", Map(vec![])),
        ("ip_version", Number(4)),
        ("languages", List(vec![])),
        ("node_count", Number(NODES)),
        ("record_size", Number(24)),
    ]);
    metadata.write(&mut out);
    out
}

fn city() -> Vec<u8> {
    let names = |name| Map(vec![("en", Text(name))]);
    let regions = vec![Map(vec![("iso_code", Text("ENG")), ("names", names("England"))])];
    let record = Map(vec![
        ("city", Map(vec![("names", names("London"))])),
        ("country", Map(vec![("iso_code", Text("GB")), ("names", names("United Kingdom"))])),
        ("location", Map(vec![("metro_code", Number(42)), ("time_zone", Text("Europe/London"))])),
        ("subdivisions", List(regions)),
    ]);
    database("GeoLite2-City", &record)
}

fn places(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Places) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let places = Places::new(folder.path().to_owned());
    (folder, places)
}

fn value(places: &Places, name: &str, client: &str) -> Option<String> {
    places.current()?.value(name, client.parse().unwrap())
}

#[test]
fn variables_come_from_the_databases_that_know_them() {
    let anonymous = database("GeoIP2-Anonymous-IP", &Map(vec![("is_anonymous", Truth(true))]));
    let (_folder, places) =
        places(&[("GeoLite2-City.mmdb", city()), ("a.mmdb", anonymous), ("x.txt", vec![1])]);
    assert_eq!(value(&places, "city", "81.2.69.142"), None, "nothing is read before it is asked for");
    places.configure(true, None);
    for (name, expect) in [
        ("city", Some("London")),
        ("city_country_code", Some("GB")),
        ("country_code", Some("GB")),
        ("region_code", Some("ENG")),
        ("region_name", Some("England")),
        ("subregion_code", None),
        ("dma_code", Some("42")),
        ("time_zone", Some("Europe/London")),
        ("is_anonymous", Some("1")),
        ("asn", None),
        ("no_such", None),
    ] {
        assert_eq!(value(&places, name, "81.2.69.142").as_deref(), expect, "{name}");
        assert_eq!(value(&places, name, "82.0.0.1"), None, "{name} of an unknown network");
    }
    assert_eq!(value(&places, "city", "::ffff:81.2.69.142").as_deref(), Some("London"));
    assert_eq!(value(&places, "city", "2001:db8::1"), None);
}

#[test]
fn broken_files_are_passed_over_and_changed_ones_read_again() {
    let (folder, places) = places(&[("broken.mmdb", b"nonsense".to_vec())]);
    places.configure(true, Some(Duration::from_millis(5)));
    assert_eq!(value(&places, "city", "81.2.69.142"), None);
    std::fs::write(folder.path().join("new.tmp"), city()).unwrap();
    std::fs::rename(folder.path().join("new.tmp"), folder.path().join("new.mmdb")).unwrap();
    for _ in 0..4000 {
        if value(&places, "city", "81.2.69.142").is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the new database was never read");
}
