//! Against databases that are written by the tests, in MaxMind's format.

use super::template::Places as _;
use super::*;

#[allow(unreachable_pub, reason = "shared with the tests of the data plane")]
#[path = "../../tests/support/mmdb.rs"]
mod mmdb;

use mmdb::Value::{List, Map, Short, Text, Truth};
use mmdb::database;

fn city() -> Vec<u8> {
    let names = |name| Map(vec![("en", Text(name))]);
    let regions = vec![Map(vec![("iso_code", Text("ENG")), ("names", names("England"))])];
    let record = Map(vec![
        ("city", Map(vec![("names", names("London"))])),
        ("country", Map(vec![("iso_code", Text("GB")), ("names", names("United Kingdom"))])),
        ("location", Map(vec![("metro_code", Short(42)), ("time_zone", Text("Europe/London"))])),
        ("subdivisions", List(regions)),
    ]);
    database("GeoLite2-City", 81, &record)
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
    let anonymous = database("GeoIP2-Anonymous-IP", 81, &Map(vec![("is_anonymous", Truth(true))]));
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
