//! Tests of `[[api.key]]`: which keys are taken, and what is said of the others.

use super::*;
use crate::config::rules::Section as _;
use crate::config::{Api, Config};

/// The SHA-256 of `key`.
fn hash(key: &str) -> KeyHash {
    KeyHash::of(key.as_bytes())
}

fn table(name: &str, key: &str, more: &str) -> String {
    let sha256 = hash(key);
    format!("[[key]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = [\"counts\"]\n{more}\n")
}

fn read(text: &str) -> Result<Vec<ApiKey>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    std::fs::write(&path, text).unwrap();
    let read = read_api_keys(&path, |_| None).map(|read| read.keys);
    read.map_err(|error| error.replace(&*path.to_string_lossy(), "keys.toml"))
}

#[test]
fn a_hash_is_what_sha256sum_prints() {
    // printf 'abc' | sha256sum
    let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hash("abc").to_string(), digits);
    assert_eq!(KeyHash::parse(&digits.to_uppercase()), Some(hash("abc")));
    for wrong in [
        "",
        "ba78",
        &digits[1..],
        &format!("{digits}0"),
        &digits.replace('b', "g"),
        &"é".repeat(32),
    ] {
        assert_eq!(KeyHash::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_file_of_keys_has_everything_that_the_configuration_may_say_of_one() {
    let more = "rate = 60\nburst = 5\nnot_after = 2027-01-31\ncommunities = [42, \"x\"]";
    let keys = read(&(table("first", "one", more) + &table("second", "two", ""))).unwrap();
    let [first, second] = &keys[..] else {
        panic!("{keys:?}")
    };
    assert_eq!((first.rate, first.burst), (60, 5));
    assert_eq!(first.communities, Some(vec!["42".to_owned(), "x".to_owned()]));
    let until: DateTime<Utc> = "2027-01-31T00:00:00Z".parse().unwrap();
    assert_eq!(first.not_after, Some(until));
    assert!(!first.is_valid_at(until) && first.is_valid_at(until - chrono::TimeDelta::seconds(1)));
    assert_eq!((second.not_after, &second.communities), (None, &None));
    let offset = read(&table("k", "one", "not_after = 2027-01-31T01:00:00+01:00")).unwrap();
    assert_eq!(offset[0].not_after, Some(until));
    assert_eq!(read("").unwrap(), []);
}

#[test]
fn a12_a_faulty_file_of_keys_is_refused_with_line_and_cure_and_quotes_no_key() {
    let key = "hc_this-is-secret";
    for (text, problem) in [
        (
            table("a b", "one", ""),
            "keys.toml:2: key[0].name: must be 1 to 64 letters",
        ),
        (
            table("a", "one", "") + &table("a", "two", ""),
            "keys.toml:7: key[1].name: \"a\" is the name of another key",
        ),
        (
            table("a", "one", "") + &table("b", "one", ""),
            "keys.toml:8: key[1].sha256: is also that of \"a\"; make a key of its own for \"b\"",
        ),
        (table("a", "", ""), "is that of an empty text"),
        (table("a", "\n", ""), "is that of an empty text"),
        (
            table("a", "one", "rate = 0"),
            "key[0].rate: is 0, must be from 1 to 60000",
        ),
        (table("a", "one", "burst = 0"), "key[0].burst: is 0"),
        (
            table("a", "one", "communities = []"),
            "key[0].communities: must name 1 to 200",
        ),
        (table("a", "one", "colour = 1"), "unknown field `colour`"),
        (
            table("a", "one", "not_after = 2027-01-31T00:00:00"),
            "a moment with its offset",
        ),
        (
            table("a", "one", "").replace("[\"counts\"]", "[]"),
            "key[0].scopes: is empty",
        ),
        (
            table("a", "one", "").replace("counts", "everything"),
            "expected `counts` or `identities`",
        ),
        (
            format!("[[key]]\nname = \"a\"\nsha256 = \"{key}\"\nscopes = [\"counts\"]"),
            "keys.toml:3: key[0].sha256: is a key itself",
        ),
        (
            "[[key]]\nname = \"a\"\nsha256 = \"this-is-secret\"\nscopes = [\"counts\"]".to_owned(),
            "keys.toml:3: key[0].sha256: is not the SHA-256",
        ),
        ("[[key]]\nname = \"a\"".to_owned(), "missing field `sha256`"),
    ] {
        let refused = read(&text).unwrap_err();
        assert!(refused.contains(problem), "{refused}\n{problem}");
        assert!(!refused.contains("this-is-secret"), "{refused}");
    }
}

#[test]
fn a23_a_table_that_belongs_elsewhere_is_refused_with_its_right_form() {
    let key = table("a", "one", "");
    for (text, problem) in [
        (
            key.replace("[[key]]", "[[api.key]]"),
            "keys.toml:1: [[api.key]] has no place in this file; write [[key]]: [[api.key]] is for the main configuration",
        ),
        (
            format!("\n[api]\nkey_file = \"keys.toml\"\n{key}"),
            "keys.toml:2: [api] has no place in this file; write [[key]]",
        ),
        (
            key.replace("[[key]]", "[[keys]]"),
            "keys.toml:1: [[keys]] has no place in this file; write [[key]]",
        ),
        (
            key.replace("[[key]]", "[key]"),
            "keys.toml:1: [key] has no place in this file; write [[key]], with two brackets",
        ),
    ] {
        let refused = read(&text).unwrap_err();
        assert!(refused.starts_with(problem), "{refused}\n{problem}");
    }
    for (header, problem) in [
        (
            "[[key]]",
            "headcount.toml:5: [[key]] has no place in this file; write [[api.key]] here, or put it into",
        ),
        (
            "[api.key]",
            "headcount.toml:5: [api.key] has no place in this file; write [[api.key]], with two",
        ),
        (
            "[[api.keys]]",
            "headcount.toml:5: [[api.keys]] has no place in this file; write [[api.key]]",
        ),
        (
            "[[route]]",
            "headcount.toml:5: [[route]] has no place in this file; put it into a file of its own",
        ),
        (
            "[[routes.route]]",
            "headcount.toml:5: [[routes.route]] has no place in this file; write [[route]], in a file",
        ),
    ] {
        let refused = config(&key.replace("[[key]]", header), &[]).unwrap_err();
        assert!(refused.starts_with(problem), "{refused}\n{problem}");
    }
}

#[test]
fn a24_a_community_that_can_be_none_is_refused_with_its_line() {
    let text = table("a", "one", "communities = [42]") + &table("b", "two", "communities = [43, \"rust\"]");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    std::fs::write(&path, &text).unwrap();
    let numbers = |named: &str| named.parse::<i64>().is_err().then(|| "integers".to_owned());
    let refused = read_api_keys(&path, numbers).unwrap_err();
    assert!(
        refused.ends_with(
            "keys.toml:10: key[1].communities: \"rust\" is the primary key of no community: those are integers; name the \
             ids, also where callers name communities by slugs"
        ),
        "{refused}"
    );
    assert_eq!(
        read_api_keys(&path, |_| None).unwrap().keys.len(),
        2,
        "the types are not known"
    );
    let places = config(&text.replace("[[key]]", "[[api.key]]"), &[])
        .unwrap()
        .api
        .key_places;
    assert_eq!(places, ["headcount.toml:9", "headcount.toml:14"]);
}

/// A configuration with keys, and variables over it.
fn config(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let minimal = "[upstream]\nservers = [\"127.0.0.1:8000\"]\n[database]\nurl = \"postgres://db/app\"\n";
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    let config = Config::parse(Path::new("headcount.toml"), format!("{minimal}{text}"), variables);
    config.map_err(|error| error.to_string())
}

#[test]
fn a12_keys_come_from_the_configuration_a_variable_or_a_file_but_from_one_of_them() {
    let in_config = table("django", "one", "").replace("[[key]]", "[[api.key]]");
    assert_eq!(config(&in_config, &[]).unwrap().api.key[0].name, "django");
    let variable = format!(
        "[{{ name = \"celery\", sha256 = \"{}\", scopes = [\"identities\"] }}]",
        hash("two")
    );
    let set = config(&in_config, &[("HEADCOUNT__API__KEY", &variable)]).unwrap();
    assert_eq!(set.api.key.len(), 1);
    assert_eq!(set.api.key[0].name, "celery");
    let refused = config(&in_config.replace("\"counts\"", ""), &[]).unwrap_err();
    assert!(
        refused.starts_with("headcount.toml:8: api.key[0].scopes: is empty"),
        "{refused}"
    );
    let refused = config(&format!("[api]\nkey_file = \"k.toml\"\n{in_config}"), &[]).unwrap_err();
    assert!(
        refused.contains("api.key_file: api.key is there too"),
        "{refused}"
    );
    let refused = config("[api]\nkey_file = \"nowhere.toml\"", &[]).unwrap_err();
    assert!(
        refused.contains("headcount.toml:6: api.key_file: nowhere.toml cannot be read"),
        "{refused}"
    );
}

#[test]
fn a12_keys_of_no_use_are_told() {
    let key = |more: &str| read(&table("old", "one", more)).unwrap();
    let now: DateTime<Utc> = "2027-02-01T00:00:00Z".parse().unwrap();
    let settings = Api::default();
    assert_eq!(
        settings.remarks_on_keys(&key("not_after = 2027-02-02"), now),
        [""; 0]
    );
    let expired = settings.remarks_on_keys(&key("not_after = 2027-01-31"), now);
    assert!(
        expired[0].contains("\"old\" is no longer valid (not_after = 2027-01-31T00:00:00Z)"),
        "{expired:?}"
    );
    let names = read(&table("old", "one", "").replace("counts", "identities")).unwrap();
    assert_eq!(settings.remarks_on_keys(&names, now), [""; 0]);
    let without = Api {
        identities: false,
        ..Api::default()
    };
    assert!(without.remarks_on_keys(&names, now)[0].contains("lists have no names"));
    let off = Api {
        enabled: false,
        ..Api::default()
    };
    assert!(off.check().is_ok());
    assert!(off.remarks_on_keys(&key(""), now)[0].contains("they have no effect"));
}
